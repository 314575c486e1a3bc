"""`python -m deploy status`: what is wrong with a default version, its JSON keys, and its table in 80 columns."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from deploy import status
from deploy.host.locks import Owner, OwnerKind
from deploy.settings import read_settings
from deploy.status import NodeStatus, VersionStatus
from deploy.store import desired
from deploy.store.desired import ServedVersion
from deploy.store.journal import JournalEntry, State

OWNER = Owner(
    4194303,
    "rollout of classroom_of_the_evening_school 123456.123456",
    "a.person-with-a-long-name",
    "2026-11-26T14:05:37+01:00",
    OwnerKind.ROLLOUT,
)
DEFAULT = VersionStatus(
    name="classroom_of_the_evening_school",
    version="123456.123456",
    role="should be the default",
    must_be_default=True,
    workers=16,
    desired_workers=16,
    waiting=100,
    archive=False,
    digest="97c92eb7634f0f5f9a3ad3b5e2c4a5d6" * 2,
    run="20261126-140537-classroom_of_the_evening_school-prune",
)
LAST = JournalEntry(
    id="000123-rollout",
    action="rollout",
    name=DEFAULT.name,
    version=DEFAULT.version,
    who=OWNER.who,
    pid=OWNER.pid,
    started=OWNER.since,
    state=State.INTERRUPTED,
    seconds=None,
    steps=(),
)
REASON = "classroom_of_the_evening_school: HTTP 503, Prediction failed: no worker is ready to a photo of online"
NODE = NodeStatus(
    serving=False,
    reason=REASON,
    server=OWNER,
    ready={"ready": False, "reason": REASON},
    change=OWNER,
    interrupted=OWNER,
    versions=(DEFAULT, DEFAULT),
    last=LAST,
)


def test_nothing_is_cut_off_in_80_columns() -> None:
    terminal = Console(width=80)
    with terminal.capture() as capture:
        terminal.print(status.table(NODE))
    text = capture.get()
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    joined = re.sub(r"\s+", "", text)
    values = [str(OWNER), REASON, LAST.started, DEFAULT.name, DEFAULT.version, DEFAULT.role, str(DEFAULT.run)]
    for value in [*values, "16 of 16 workers ready, 100 requests waiting", "97c92eb7634f", "archive is missing"]:
        assert re.sub(r"\s+", "", value) in joined, value
    assert [line.split()[0] for line in text.splitlines() if not line.startswith(" ")] == [
        *("server", "ready", "change", "killed", "last", "version", "version")
    ]


def test_a_node_without_a_server_is_described_too() -> None:
    terminal = Console(width=80)
    with terminal.capture() as capture:
        terminal.print(status.table(NodeStatus(False, None, None, None, None, None, (), None)))
    assert capture.get().split() == [
        *("server", "not", "running"),
        *("ready", "unknown:", "the", "keeper", "does", "not", "answer"),
        *("change", "none", "in", "progress"),
    ]


def test_json_keys_do_not_change() -> None:
    content = NODE.to_json()
    assert set(content) == {"serving", "reason", "server", "ready", "at_work", "left_over", "versions", "last"}
    assert set(content["at_work"]) == {"pid", "what", "who", "since", "kind"}
    assert list(content["versions"][0]) == [
        *("name", "version", "role", "wanted_default", "workers", "wanted", "waiting", "archive", "digest", "run"),
        "path",
    ]


@pytest.mark.parametrize(
    ("default", "workers", "registered", "problem"),
    [
        (True, 1, True, None),
        (True, 0, True, r"a 1\.0 has no worker: .* rollback a"),
        (False, 1, True, r"a 1\.0 should be the default: .* history"),
        (False, 0, False, r"a 1\.0 should be served and is not registered: .*keeper\.log"),
    ],
)
def test_the_problem_of_a_default_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, default: bool, workers: int, registered: bool, problem: str | None
) -> None:
    """In all cases another version, 2.0, is kept and has a worker."""
    settings = read_settings({"SERVE_VAR": str(tmp_path), "SERVE_KEEPER_PORT": "1"})
    listed = [ServedVersion("a", "1.0", "a-1.0.mar", "d1", default=True), ServedVersion("a", "2.0", "a-2.0.mar", "d2")]
    desired.write(tmp_path, listed)
    ready = [{"status": "READY", "pid": 1}]
    rows = [{"modelName": "a", "modelVersion": "2.0", "workers": ready, "default": not default}]
    if registered:
        rows.append({"modelName": "a", "modelVersion": "1.0", "workers": ready * workers, "default": default})
    monkeypatch.setattr("deploy.status.Client", lambda _: SimpleNamespace(models=lambda: rows))
    node = status.node_status(settings)
    assert node.serving is (problem is None)
    assert re.fullmatch(problem or "None", str(node.reason))
