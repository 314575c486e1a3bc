"""Two `up` and a `down` in the same moment: whoever is slower is told, and nothing is left running."""

import threading
import time
from pathlib import Path

from deploy.host.locks import deployment_lock, server_lock
from deploy.host.processes import group_of_server
from deploy.host.var import claim
from deploy.settings import own_environment
from tests.helpers.commands import SHIPPED, command


def test_two_up_at_once_and_a_down_at_once(tmp_path: Path) -> None:
    """One of them wins; the other is refused in one line; `down` finds what has hardly begun."""
    env = own_environment(tmp_path / "var", tmp_path / "store")
    claim(tmp_path / "var")
    lines: list[tuple[int, str]] = []

    def up() -> None:
        done = command("deploy", "up", "--bundle", SHIPPED, env=env, check=False)
        lines.append((done.returncode, done.stderr))

    both = [threading.Thread(target=up) for _ in range(2)]
    for each in both:
        each.start()
    deadline = time.monotonic() + 30
    while deployment_lock(tmp_path / "var").owner() is None:
        assert time.monotonic() < deadline
    stopped = command("deploy", "down", env=env)
    for each in both:
        each.join()
    assert stopped.stdout == "stopped: no process is left\n"
    loser, winner = sorted((error for _, error in lines), key=len)
    assert loser.count("\n") == 1 and "(" in loser and loser.startswith("Error: ")
    assert "make up" in loser or "make down" in loser
    assert "starting TorchServe with classroom-1.0.mar" in winner
    assert winner.endswith(
        "Error: the server was stopped while it was starting, for example by make down: start it again\n"
    )
    assert [code for code, _ in lines] == [1, 1]
    assert server_lock(tmp_path / "var").owner() is None
    assert group_of_server(tmp_path / "var") is None
