"""The state of a version before its rollout: every combination of manifest, TorchServe and journal."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from deploy.change.plan import Plan
from deploy.change.preflight import TABLE, InManifest, LastRollout, OnServer, RolloutState, preflight, rollout_state
from deploy.change.session import Refused, steps_table
from deploy.settings import Settings, read_settings, separate_environment
from deploy.store import desired
from deploy.store.desired import ServedVersion
from deploy.store.journal import Journal, State
from deploy.store.mar import Archive
from deploy.store.profile import ServingOptions
from tests.helpers.commands import SHIPPED

LAST = (LastRollout.NONE, LastRollout.DONE, LastRollout.INTERRUPTED, LastRollout.INTERRUPTED_AFTER_DONE)
NEW, RESUME, UNLISTED = RolloutState.NEW, RolloutState.INTERRUPTED_BEFORE_SWITCH, RolloutState.UNLISTED_DEFAULT
DRAIN, DEFAULT = RolloutState.INTERRUPTED_AFTER_SWITCH, RolloutState.ALREADY_DEFAULT
KEPT, BY_HAND = RolloutState.ALREADY_KEPT, RolloutState.NOT_OURS

STATES: dict[tuple[InManifest, OnServer], tuple[RolloutState, RolloutState, RolloutState, RolloutState]] = {
    # (manifest, TorchServe): last rollout none, done, interrupted, interrupted after an earlier one was done
    (InManifest.NO_DEFAULT, OnServer.ABSENT): (NEW, NEW, NEW, NEW),
    (InManifest.NO_DEFAULT, OnServer.REGISTERED): (BY_HAND, BY_HAND, RESUME, RESUME),
    (InManifest.NO_DEFAULT, OnServer.DEFAULT): (UNLISTED, UNLISTED, RESUME, UNLISTED),
    (InManifest.OTHER_DEFAULT, OnServer.ABSENT): (NEW, NEW, NEW, NEW),
    (InManifest.OTHER_DEFAULT, OnServer.REGISTERED): (BY_HAND, BY_HAND, RESUME, RESUME),
    (InManifest.OTHER_DEFAULT, OnServer.DEFAULT): (BY_HAND, BY_HAND, RESUME, RESUME),
    (InManifest.KEPT, OnServer.ABSENT): (KEPT, KEPT, KEPT, KEPT),
    (InManifest.KEPT, OnServer.REGISTERED): (KEPT, KEPT, KEPT, KEPT),
    (InManifest.KEPT, OnServer.DEFAULT): (KEPT, KEPT, KEPT, KEPT),
    (InManifest.DEFAULT, OnServer.ABSENT): (DEFAULT, DEFAULT, DRAIN, DRAIN),
    (InManifest.DEFAULT, OnServer.REGISTERED): (DEFAULT, DEFAULT, DRAIN, DRAIN),
    (InManifest.DEFAULT, OnServer.DEFAULT): (DEFAULT, DEFAULT, DRAIN, DRAIN),
}


@pytest.mark.parametrize(
    ("manifest", "server", "last"), list(product(InManifest, OnServer, LAST)), ids=lambda fact: fact.name
)
def test_every_combination_has_one_state(manifest: InManifest, server: OnServer, last: LastRollout) -> None:
    rows = [r for r in TABLE if manifest in r.manifest and server in r.server and last in r.last_rollout]
    assert len(rows) == 1
    assert rollout_state(manifest, server, last) is STATES[manifest, server][LAST.index(last)]


class TorchServe:
    """Registered versions of `demo` with their ready workers; the first one is the default."""

    def __init__(self, **workers: int) -> None:
        self.workers = {version.replace("v", "").replace("_", "."): count for version, count in workers.items()}

    def default(self, name: str) -> str | None:
        return next(iter(self.workers), None)

    def describe(self, name: str, version: str = "") -> dict[str, Any] | None:
        version = version or str(self.default(name))
        return {"modelUrl": f"demo-{version}.mar", "modelVersion": version} if version in self.workers else None

    def ready(self, name: str, version: str) -> int:
        return self.workers.get(version, 0)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return read_settings(separate_environment(tmp_path / "var", tmp_path / "store"))


def entry(version: str, default: bool = False) -> ServedVersion:
    return ServedVersion("demo", version, f"demo-{version}.mar", "", default=default)


ONE, TWO = entry("1.0"), entry("2.0", default=True)
NEXT = Archive(Path("demo-3.0.mar"), "demo", "3.0")


def state_of(settings: Settings, server: TorchServe, new: Archive = NEXT) -> tuple[RolloutState, str | None]:
    result = preflight(settings, server, new)  # type: ignore[arg-type]
    return result.state, result.former.version if result.former else None


def test_the_former_version_is_the_one_that_answers(settings: Settings) -> None:
    desired.write(settings.var, [TWO, ONE])
    assert state_of(settings, TorchServe(v2_0=1, v1_0=1)) == (NEW, "2.0")
    assert state_of(settings, TorchServe(v1_0=1, v2_0=0)) == (NEW, "1.0")  # 1.0 answers in place of a dead default
    assert state_of(settings, TorchServe(v2_0=0, v1_0=1)) == (NEW, "1.0")
    assert state_of(settings, TorchServe(v2_0=0, v1_0=0)) == (NEW, "2.0")
    assert state_of(settings, TorchServe(v0_9=1, v2_0=0)) == (NEW, "0.9")  # registered manually
    assert state_of(settings, TorchServe()) == (NEW, "2.0")


def test_a_first_version_has_no_former_version(settings: Settings) -> None:
    assert state_of(settings, TorchServe()) == (NEW, None)


def test_facts_come_from_the_manifest_torchserve_and_the_journal(settings: Settings) -> None:
    serving = TorchServe(v3_0=1, v2_0=1)
    assert state_of(settings, serving)[0] is UNLISTED
    Journal(settings.var, "rollout", "demo", "3.0").end(State.REFUSED, "too slow")
    Journal(settings.var, "rollout", "demo", "9.0").end(State.FAILED, "of another version")
    assert state_of(settings, serving)[0] is UNLISTED
    Journal(settings.var, "rollout", "demo", "3.0")  # no process holds the lock: interrupted
    assert state_of(settings, serving)[0] is RESUME
    desired.write(settings.var, [entry("3.0", default=True), ONE])
    assert state_of(settings, serving) == (DRAIN, "1.0")
    Journal(settings.var, "rollout", "demo", "3.0").end(State.DONE)
    with pytest.raises(Refused, match=r"demo 3\.0 is registered already and is the default: .* pack a higher version"):
        state_of(settings, serving)


def test_a_rollout_does_not_count_its_own_journal_entry(settings: Settings) -> None:
    running = Journal(settings.var, "rollout", "demo", "3.0")
    with pytest.raises(Refused, match=r"registered, but not by a rollout: .* deploy retire demo 3\.0"):
        preflight(settings, TorchServe(v2_0=1, v3_0=1), NEXT, running.entry.id)  # type: ignore[arg-type]


def test_a_kept_version_is_refused_with_both_ways_out(settings: Settings) -> None:
    desired.write(settings.var, [TWO, ONE])
    fixes = r"make it the default with .* deploy rollback demo --to 1\.0, or remove it with .* deploy retire demo 1\.0"
    with pytest.raises(Refused, match=fixes):
        state_of(settings, TorchServe(v2_0=1, v1_0=1), Archive(Path("demo-1.0.mar"), "demo", "1.0"))


@pytest.mark.parametrize(
    ("state", "steps"),
    [
        (NEW, ["check", "register", "goldens", "latency", "default", "drain", "keep"]),
        (DRAIN, ["check", "goldens", "drain", "keep"]),
    ],
)
def test_a_plan_lists_the_steps_that_are_left(state: RolloutState, steps: list[str]) -> None:
    from handler.spec import read_spec

    plan = Plan(
        NEXT, state, TWO, entry("3.0"), read_spec(SHIPPED / "recipe.json"), ServingOptions(), (), 1, "9 files as packed"
    )
    assert [name for name, _ in plan.steps()] == steps
    assert plan.as_json()["steps"][0] == "check: 9 files as packed"


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("1.9", "default: 2.0 -> 1.9, a lower version number"),
        ("2.0.1", "default: 2.0 -> 2.0.1"),
        ("10.0", "default: 2.0 -> 10.0"),
    ],
)
def test_a_lower_version_number_is_pointed_out(version: str, expected: str) -> None:
    from handler.spec import read_spec

    new = Archive(Path(f"demo-{version}.mar"), "demo", version)
    plan = Plan(new, NEW, TWO, entry(version), read_spec(SHIPPED / "recipe.json"), ServingOptions(), (), 1, "")
    assert plan.as_json()["steps"][4] == expected


def test_the_steps_of_a_dry_run_are_readable_in_80_columns() -> None:
    long = "27 files as packed, run 20261126-140537-classroom-prune; 12345 MB free, 2345 MB needed for two versions"
    terminal = Console(width=80)
    with terminal.capture() as capture:
        terminal.print(steps_table([("check", long), ("default", "1.0 -> 2.0")]))
    lines = capture.get().splitlines()
    assert max(map(len, lines)) <= 80
    assert "".join(" ".join(lines).split()) == "check" + long.replace(" ", "") + "default1.0->2.0"
