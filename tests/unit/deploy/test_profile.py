"""What was measured on this machine is applied where it was measured, and nowhere else."""

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
from deploy.tune import Tried, chosen, fastest, most
from handler import engine

ENTRY = ServedVersion("shapes", "1.0", "shapes-1.0.mar", "d1", default=True, workers=3)
FOUND = {"latency": ServingOptions(1, 2), "throughput": ServingOptions(2, 1, 4, 5)}


def settings(tmp_path: Path, profile: str = "throughput") -> Settings:
    return read_settings({"SERVE_VAR": str(tmp_path), "SERVE_PROFILE": profile})


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_is_applied_to_the_version_that_it_was_measured_for(tmp_path: Path, name: str) -> None:
    here = settings(tmp_path, name)
    profile.write(here, ENTRY, FOUND)
    assert profile.serving_options(here, ENTRY) == FOUND[name]
    assert profile.why_ignored(here, ENTRY) is None
    assert profile.environment(here) == {engine.THREADS: f"shapes-1.0={FOUND[name].threads}"}


def test_without_a_profile_all_is_as_the_recipe_says(tmp_path: Path) -> None:
    here = settings(tmp_path, "")
    profile.write(here, ENTRY, FOUND)
    assert profile.serving_options(here, ENTRY) == ServingOptions(3)
    assert profile.environment(here) == {}
    assert profile.why_ignored(here, ENTRY) is None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"cores": 999}, "measured on 999 core"),
        ({"digest": "d2"}, "not for shapes 1.0"),
        ({"profiles": {}}, "damaged"),
        ({"profiles": {"throughput": {"worker": 1}}}, "damaged"),
    ],
)
def test_another_machine_or_archive_is_passed_over_with_a_note(
    tmp_path: Path, changes: dict[str, Any], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    here = settings(tmp_path)
    profile.write(here, ENTRY, FOUND)
    path = tmp_path / profile.FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    desired.write(tmp_path, [ENTRY])
    assert profile.serving_options(here, ENTRY) == ServingOptions(3)
    assert profile.environment(here) == {}
    profile.note_if_ignored(here, ENTRY)
    said = capsys.readouterr().err
    assert why in said
    assert "python -m deploy tune" in said


@pytest.mark.parametrize("text", [None, "{", "[]"])
def test_a_server_starts_without_the_file_or_with_a_damaged_one(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / profile.FILE).write_text(text)
    here = settings(tmp_path)
    assert profile.serving_options(here, ENTRY) == ServingOptions(3)
    assert profile.environment(here) == {}
    assert "not there, or damaged" in str(profile.why_ignored(here, ENTRY))


def test_a_profile_that_is_none_is_named() -> None:
    with pytest.raises(UserError, match="SERVE_PROFILE: 'fast' is no profile: give latency or throughput"):
        read_settings({"SERVE_PROFILE": "fast"})


@pytest.mark.parametrize(
    ("cores", "pairs"),
    [
        (1, [(1, 1)]),
        (2, [(1, 1), (1, 2), (2, 1), (2, 2)]),
        (8, [(1, 4), (1, 8), (2, 2), (2, 4), (2, 8), (4, 1), (4, 2), (8, 1)]),
    ],
)
def test_settings_worth_trying(cores: int, pairs: list[tuple[int, int]]) -> None:
    assert list(tune._plain(cores)) == [ServingOptions(workers, threads, min(threads, 2)) for workers, threads in pairs]


def tried(how: ServingOptions, ms: float, rate: int, errors: int = 0) -> Tried:
    return Tried(how, [Load([ms], 0, 1)], [Load([ms] * rate, errors, 1)])


def test_the_best_is_chosen_and_of_nearly_equal_ones_the_smallest() -> None:
    one, two = ServingOptions(1, 2), ServingOptions(2, 1)
    assert fastest([tried(two, 10, 1), tried(one, 10.2, 1)]).how == one
    assert fastest([tried(two, 10, 1), tried(one, 11, 1)]).how == two
    assert most([tried(one, 1, 98), tried(two, 1, 100)]).how == one
    assert most([tried(one, 1, 90), tried(two, 1, 100)]).how == two
    assert most([tried(ServingOptions(2, 1, 4, 2), 1, 101), tried(two, 1, 100)]).how == two


def test_for_latency_the_busiest_setting_without_batches_is_looked_at_too() -> None:
    pair, alone, other = ServingOptions(1, 2, 2), ServingOptions(1, 2, 1), ServingOptions(2, 1, 1)
    second = [tried(pair, 8, 182), tried(alone, 7, 155)]
    assert chosen([tried(pair, 8, 183), tried(other, 11, 125)], second) == {"latency": alone, "throughput": pair}
    assert chosen([tried(pair, 8, 183), tried(other, 6, 125)], second)["latency"] == other


def test_a_setting_with_errors_is_never_chosen() -> None:
    assert most(
        [tried(ServingOptions(1, 2), 1, 50), tried(ServingOptions(2, 1), 1, 100, errors=1)]
    ).how == ServingOptions(1, 2)
    with pytest.raises(UserError, match="every setting"):
        fastest([tried(ServingOptions(1, 2), 1, 50, errors=1)])


def test_interrupted_it_leaves_what_was_found_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = settings(tmp_path, "")
    profile.write(here, ENTRY, FOUND)
    before = (tmp_path / profile.FILE).read_bytes()

    class Interrupted:
        def __init__(self, *_: object) -> None: ...

        def measure(self, hows: Sequence[ServingOptions]) -> list[Tried]:
            raise KeyboardInterrupt

    (tmp_path / "deploying.lock").touch()
    monkeypatch.setenv("SERVE_VAR", str(tmp_path))
    monkeypatch.setattr(tune, "choose", lambda *_: Path("shapes-1.0.mar"))
    monkeypatch.setattr(tune, "served_version", lambda *_: ENTRY)
    monkeypatch.setattr(tune, "Tuner", Interrupted)
    assert CliRunner().invoke(tune.tune, []).exit_code == 1
    assert (tmp_path / profile.FILE).read_bytes() == before


def test_the_archive_must_be_named_where_nothing_is_served(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name the archive"):
        tune.choose(settings(tmp_path), None)


@pytest.mark.parametrize(
    ("said", "threads"), [("shapes-1.0=3", 3), ("shapes-1.1=3", None), ("", None), ("shapes-1.0=x", None), ("3", None)]
)
def test_a_worker_reads_its_own_versions_threads(
    monkeypatch: pytest.MonkeyPatch, said: str, threads: int | None
) -> None:
    monkeypatch.setenv(profile.THREADS, said)
    assert engine.threads_here("shapes", "1.0") == threads
