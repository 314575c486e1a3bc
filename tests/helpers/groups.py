"""Which tests run in one process of `pytest -n`, and which of them start first.

pytest-xdist 3.8 has groups of its own (`--dist loadgroup`), but it writes their names into `Item._nodeid`, which pytest
9.2 no longer reads: every test becomes a group, and both processes start every server.
"""

import pytest
from xdist.scheduler import LoadScopeScheduling

SERVER = "e2e/server"
# What takes longest starts first, so that both processes end at the same time. The examples are second because they
# need no model: the process of the first group trains one, and every other long group waits for it.
LONGEST = (
    "e2e/test_supervision.py",  # 221 s of computing, 54 of them for the model
    "e2e/test_examples.py",  # 201 s
    SERVER,
    "e2e/test_rollout.py",  # 147 s
    "integration/test_training.py",  # 129 s
    "integration/recipes/test_flowers.py",  # 88 s
    "e2e/test_siblings.py",  # 84 s
)


def group_of(nodeid: str) -> str:
    """The tests of one file are a group, and so are all below e2e/server, which share one TorchServe."""
    file = nodeid.partition("::")[0].removeprefix("tests/")
    return SERVER if file.startswith(f"{SERVER}/") else file


def rank(nodeid: str) -> int:
    """When the group of a test starts; all groups that are not listed start last."""
    return [*LONGEST, group := group_of(nodeid)].index(group)


def uses_server(item: pytest.Item) -> bool:
    """Whether a test uses the session's server, not a fixture of its file that is also called `server`."""
    servers = item._fixtureinfo.name2fixturedefs.get("server", ())  # type: ignore[attr-defined]
    return bool(servers) and servers[-1].scope == "session"


class Groups(LoadScopeScheduling):  # type: ignore[misc]
    """Send the tests of a group to the same process."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)
