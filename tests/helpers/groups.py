"""Which tests run in one process of `pytest -n`, and which of them start first.

pytest-xdist 3.8 has groups of its own (`--dist loadgroup`), but it writes their names into `Item._nodeid`, which pytest
9.2 no longer reads: every test becomes a group, and both processes start every server.
"""

import pytest
from xdist.scheduler import LoadScopeScheduling

SERVER = "e2e/server"
# Seconds that a group took on two quiet cores; the longest start first, so that both processes end at the same time.
SECONDS = {
    "e2e/test_supervision.py": 300,
    SERVER: 240,
    "e2e/test_examples.py": 200,
    "e2e/test_rollout.py": 150,
    "e2e/test_serve.py": 120,
    "e2e/test_siblings.py": 110,
}


def group_of(nodeid: str) -> str:
    """The tests of one file are a group, and so are all below e2e/server, which share one TorchServe."""
    file = nodeid.partition("::")[0].removeprefix("tests/")
    return SERVER if file.startswith(f"{SERVER}/") else file


def seconds_of(nodeid: str) -> int:
    """How long the group of a test takes; 0 if it is not one of the long ones."""
    return SECONDS.get(group_of(nodeid), 0)


def uses_server(item: pytest.Item) -> bool:
    """Whether a test uses the session's server, not a fixture of its file that is also called `server`."""
    servers = item._fixtureinfo.name2fixturedefs.get("server", ())  # type: ignore[attr-defined]
    return bool(servers) and servers[-1].scope == "session"


class Groups(LoadScopeScheduling):  # type: ignore[misc]
    """Send the tests of a group to the same process."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)
