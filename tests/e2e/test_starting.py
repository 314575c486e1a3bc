"""Two `up` and a `down` at the same moment: one `up` is refused, and no process is left."""

import threading
from pathlib import Path

from deploy.host.locks import deployment_lock, server_lock
from deploy.host.processes import group_of_server
from deploy.host.var import claim
from deploy.settings import separate_environment
from tests.helpers.commands import command
from tests.helpers.waiting import eventually


def test_two_up_and_one_down_at_once(light: Path, tmp_path: Path) -> None:
    """One of them starts; the other is refused in one line; `down` stops a server that has just begun to start."""
    env = separate_environment(tmp_path / "var", tmp_path / "store")
    claim(tmp_path / "var")
    lines: list[tuple[int, str]] = []

    def up() -> None:
        done = command("deploy", "up", "--bundle", light, env=env, check=False)
        lines.append((done.returncode, done.stderr))

    both = [threading.Thread(target=up) for _ in range(2)]
    for thread in both:
        thread.start()
    eventually(deployment_lock(tmp_path / "var").owner)
    stopped = command("deploy", "down", env=env)
    for thread in both:
        thread.join()
    assert stopped.stdout == "stopped: no process is left\n"
    loser, winner = sorted((error for _, error in lines), key=len)
    assert loser.count("\n") == 1 and "(" in loser and loser.startswith("Error: ")
    assert "make up" in loser or "make down" in loser
    assert "starting TorchServe with shapes-1.0.mar" in winner
    assert winner.endswith(
        "Error: the server was stopped while it was starting, for example by make down: start it again\n"
    )
    assert [code for code, _ in lines] == [1, 1]
    assert server_lock(tmp_path / "var").owner() is None
    assert group_of_server(tmp_path / "var") is None
