"""Which tests run in one process of `pytest -n`, and which of them start first.

pytest-xdist 3.8 has groups of its own (`--dist loadgroup`), but it writes their names into `Item._nodeid`, which pytest
9.2 no longer reads: every test becomes a group, and both processes start every server.
"""

import pytest
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

SERVER = "e2e/server"
# What takes longest starts first, so that all processes end at about the same time. A file that is not listed starts
# after these.
LONGEST = (
    SERVER,
    "e2e/test_supervision.py",
    "integration/retrain/test_retrain.py",
    "integration/test_training.py",
    "e2e/test_feedback.py",
    "e2e/test_rollout.py",
    "e2e/test_traffic_nodes.py",
    "e2e/test_deploy_examples.py",
    "e2e/test_siblings.py",
    "integration/recipes/test_flowers.py",
    "e2e/test_swaps.py",
    "e2e/test_examples.py",
    "e2e/test_serve.py",
    "integration/test_own_task.py",
    "e2e/test_rollout_killed.py",
    "e2e/test_container.py",
    "e2e/test_label.py",
    "integration/recipes/test_pets.py",
    "integration/reports/test_scoring.py",
    "integration/reports/test_walk.py",
    "integration/test_fast_training.py",
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

    def _reschedule(self, node: WorkerController) -> None:
        """Send the next group when one test is left, because a process runs a test only when it knows the next one.

        xdist sends it when two are left; then a group waits for two tests while another process may be idle.
        """
        if not self.workqueue or self._pending_of(self.assigned_work[node]) <= 1:
            super()._reschedule(node)
