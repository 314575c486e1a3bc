"""A measured profile applies to the archive and the machine that it was measured on, and to no other."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from common.errors import UserError
from deploy import tune
from deploy.settings import PROFILES, Settings, read_settings
from deploy.store import desired, profile
from deploy.store.desired import ServedVersion
from deploy.store.profile import ServingOptions
from deploy.torchserve.load import Load
from deploy.tune import Candidate, choose_profiles, highest_throughput, lowest_latency, worker_options
from handler import engine

ENTRY = ServedVersion("shapes", "1.0", "shapes-1.0.mar", "d1", default=True, workers=3)
PROFILES_MEASURED = {"latency": ServingOptions(1, 2), "throughput": ServingOptions(2, 1, 4, 5)}


def settings(tmp_path: Path, profile: str = "throughput") -> Settings:
    return read_settings({"SERVE_VAR": str(tmp_path), "SERVE_PROFILE": profile})


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_applies_to_the_version_that_it_was_measured_for(tmp_path: Path, name: str) -> None:
    node = settings(tmp_path, name)
    profile.write(node, ENTRY, PROFILES_MEASURED)
    assert profile.serving_options(node, ENTRY) == PROFILES_MEASURED[name]
    assert profile.why_ignored(node, ENTRY) is None
    assert profile.environment(node) == {engine.THREADS: f"shapes-1.0={PROFILES_MEASURED[name].threads}"}


def test_without_a_profile_the_recipe_counts(tmp_path: Path) -> None:
    node = settings(tmp_path, "")
    profile.write(node, ENTRY, PROFILES_MEASURED)
    assert profile.serving_options(node, ENTRY) == ServingOptions(3)
    assert profile.environment(node) == {}
    assert profile.why_ignored(node, ENTRY) is None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"cores": 999}, "measured on 999 core"),
        ({"digest": "d2"}, "not for shapes 1.0"),
        ({"profiles": {}}, "has no profile throughput"),
        ({"profiles": {"throughput": {"worker": 1}}}, "damaged"),
    ],
)
def test_a_profile_of_another_machine_or_archive_is_ignored_with_a_note(
    tmp_path: Path, changes: dict[str, Any], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    node = settings(tmp_path)
    profile.write(node, ENTRY, PROFILES_MEASURED)
    path = tmp_path / profile.FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    desired.write(tmp_path, [ENTRY])
    assert profile.serving_options(node, ENTRY) == ServingOptions(3)
    assert profile.environment(node) == {}
    profile.note_if_ignored(node, ENTRY)
    printed = capsys.readouterr().err
    assert why in printed
    assert "python -m deploy tune" in printed


@pytest.mark.parametrize("text", [None, "{", "[]"])
def test_a_server_starts_without_the_file_or_with_a_damaged_one(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / profile.FILE).write_text(text)
    node = settings(tmp_path)
    assert profile.serving_options(node, ENTRY) == ServingOptions(3)
    assert profile.environment(node) == {}
    assert "missing or damaged" in str(profile.why_ignored(node, ENTRY))


def test_an_unknown_profile_is_refused() -> None:
    with pytest.raises(UserError, match="SERVE_PROFILE: 'fast' is not a profile: give latency or throughput"):
        read_settings({"SERVE_PROFILE": "fast"})


@pytest.mark.parametrize(
    ("cores", "pairs"),
    [
        (1, [(1, 1)]),
        (2, [(1, 1), (1, 2), (2, 1), (2, 2)]),
        (8, [(1, 4), (1, 8), (2, 2), (2, 4), (2, 8), (4, 1), (4, 2), (8, 1)]),
    ],
)
def test_options_worth_measuring(cores: int, pairs: list[tuple[int, int]]) -> None:
    assert list(worker_options(cores)) == [
        ServingOptions(workers, threads, min(threads, 2)) for workers, threads in pairs
    ]


def candidate(options: ServingOptions, ms: float, rate: int, errors: int = 0) -> Candidate:
    return Candidate(options, [Load([ms], 0, 1)], [Load([ms] * rate, errors, 1)])


def test_the_best_options_are_chosen_and_of_nearly_equal_ones_the_smallest() -> None:
    one, two = ServingOptions(1, 2), ServingOptions(2, 1)
    assert lowest_latency([candidate(two, 10, 1), candidate(one, 10.2, 1)]).options == one
    assert lowest_latency([candidate(two, 10, 1), candidate(one, 11, 1)]).options == two
    assert highest_throughput([candidate(one, 1, 98), candidate(two, 1, 100)]).options == one
    assert highest_throughput([candidate(one, 1, 90), candidate(two, 1, 100)]).options == two
    assert highest_throughput([candidate(ServingOptions(2, 1, 4, 2), 1, 101), candidate(two, 1, 100)]).options == two


def test_for_latency_the_options_with_the_highest_throughput_count_without_batches_too() -> None:
    pair, alone, other = ServingOptions(1, 2, 2), ServingOptions(1, 2, 1), ServingOptions(2, 1, 1)
    second = [candidate(pair, 8, 182), candidate(alone, 7, 155)]
    assert choose_profiles([candidate(pair, 8, 183), candidate(other, 11, 125)], second) == {
        "latency": alone,
        "throughput": pair,
    }
    assert choose_profiles([candidate(pair, 8, 183), candidate(other, 6, 125)], second)["latency"] == other


def test_options_with_errors_are_never_chosen() -> None:
    assert highest_throughput(
        [candidate(ServingOptions(1, 2), 1, 50), candidate(ServingOptions(2, 1), 1, 100, errors=1)]
    ).options == ServingOptions(1, 2)
    with pytest.raises(UserError, match="all options"):
        lowest_latency([candidate(ServingOptions(1, 2), 1, 50, errors=1)])


def test_an_interrupted_tune_keeps_the_former_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = settings(tmp_path, "")
    profile.write(node, ENTRY, PROFILES_MEASURED)
    before = (tmp_path / profile.FILE).read_bytes()

    class Interrupted:
        def __init__(self, *_: object) -> None: ...

        def measure(self, options: Sequence[ServingOptions]) -> list[Candidate]:
            raise KeyboardInterrupt

    (tmp_path / "deploying.lock").touch()
    monkeypatch.setenv("SERVE_VAR", str(tmp_path))
    monkeypatch.setattr(tune, "choose", lambda *_: Path("shapes-1.0.mar"))
    monkeypatch.setattr(tune, "served_version", lambda *_: ENTRY)
    monkeypatch.setattr(tune, "Tuner", Interrupted)
    assert CliRunner().invoke(tune.tune, []).exit_code == 1
    assert (tmp_path / profile.FILE).read_bytes() == before


def test_the_archive_must_be_named_if_nothing_is_served(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name the archive"):
        tune.choose(settings(tmp_path), None)


@pytest.mark.parametrize(
    ("value", "threads"), [("shapes-1.0=3", 3), ("shapes-1.1=3", None), ("", None), ("shapes-1.0=x", None), ("3", None)]
)
def test_a_worker_reads_the_threads_of_its_version(
    monkeypatch: pytest.MonkeyPatch, value: str, threads: int | None
) -> None:
    monkeypatch.setenv(profile.THREADS, value)
    assert engine.threads_here("shapes", "1.0") == threads


def test_the_file_of_the_former_version_is_read_and_written_alike(tmp_path: Path) -> None:
    options = {"workers": 2, "threads": 1, "batch_size": 4, "max_batch_delay": 5}
    measured = {"p50_ms": 7.1, "p99_ms": 9.0, "requests_s_at_8": 180.2, "p99_ms_at_8": 61.0, "errors": 0}
    former = {
        "name": "shapes",
        "version": "1.0",
        "digest": "d1",
        "cores": profile.cores(),
        "profiles": {"throughput": options},
        "tried": [{**options, **measured}],
    }
    (tmp_path / profile.FILE).write_text(json.dumps(former))
    node = settings(tmp_path)
    tuning = profile.read(node)
    assert tuning is not None
    assert tuning.tried[0].requests_s_at_8 == 180.2
    profile.write(node, ENTRY, tuning.profiles, tuning.tried)
    assert json.loads((tmp_path / profile.FILE).read_text()) == former
