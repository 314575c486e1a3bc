"""What the patches of supervisord's process do. They cannot be undone, so every test runs in a separate process."""

import subprocess
import sys

import pytest

from common.errors import UserError
from deploy.settings import ROOT
from deploy.supervision.supervisord_patches import require_tested

FORK = """
import os, signal
from deploy.supervision.supervisord_patches import apply
apply({"DEPLOY_VAR": "somewhere"})
assert os.environ["DEPLOY_VAR"] == "somewhere"
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, lambda *_: None)  # as supervisord does
    child = os.fork()
    if not child:
        os.kill(os.getpid(), number)
        os._exit(0)  # reached if the handler of the parent took the signal
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == number, number
assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())
"""
STDERR = """
import sys
from deploy.supervision.supervisord_patches import apply
apply({})
print("cannot write the log", file=sys.stderr, flush=True)
"""


def run(code: str, stderr: str | None = None) -> subprocess.CompletedProcess[str]:
    command = f"exec {sys.executable} -c '{code}'" + (f" 2> {stderr}" if stderr else "")
    return subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.slow
def test_a_signal_between_fork_and_exec_ends_the_child() -> None:
    done = run(FORK)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_writing_to_standard_error_never_fails() -> None:
    assert run(STDERR).stderr == "cannot write the log\n"
    assert run(STDERR, "/dev/full").returncode == 0


@pytest.mark.parametrize("version", ["4.3.0", "4.3.9"])
def test_the_tested_version_of_supervisor_is_accepted(version: str) -> None:
    require_tested(version)


@pytest.mark.parametrize("version", ["4.2.5", "4.30.0", "5.0"])
def test_another_version_of_supervisor_is_refused(version: str) -> None:
    with pytest.raises(UserError, match=f"supervisor {version} is installed, tested is 4.3: run make install"):
        require_tested(version)
