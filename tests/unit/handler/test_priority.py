"""A worker of TorchServe starts in the idle class and leaves it. Each test runs a process like one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.settings import ROOT
from handler.worker import sitecustomize
from tests.helpers.running.idle import needs_idle_class

WITHOUT = ["setpriv", "--bounding-set=-sys_nice", "--inh-caps=-sys_nice"]
ALLOWED, FORBIDDEN = ["prlimit", "--nice=20"], ["prlimit", "--nice=0"]
CLASSES = """
import os, subprocess, threading, time
from handler.worker import priority
NAMES = {os.SCHED_OTHER: "usual", os.SCHED_IDLE: "idle"}
child = subprocess.Popen(["sleep", "60"])
thread = threading.Thread(target=time.sleep, args=(60,), daemon=True)
thread.start()
def classes():
    return [NAMES[os.sched_getscheduler(one)] for one in (os.getpid(), thread.native_id, child.pid)]
print(*classes(), priority.restore([child.pid]))
print(*classes())
child.kill()
"""
BUSY = """
import os, sys
from handler.worker import priority
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
if sys.argv[1:]:
    while True:
        pass
other = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, __file__, "busy"])
priority.lower()
while os.sched_getscheduler(0) == os.SCHED_IDLE:
    pass
os.kill(other, 9)
print("entered" if priority.restore() else "did not enter")
"""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the root of an archive has, and a script that is called like TorchServe's."""
    root = tmp_path_factory.mktemp("archive")
    (root / "sitecustomize.py").write_text(Path(sitecustomize.__file__).read_text())
    (root / "handler").symlink_to(ROOT / "handler")
    (root / "model_service_worker.py").write_text(CLASSES)
    return root


def run(archive: Path, *prefix: str, script: str = "model_service_worker.py") -> list[str]:
    """The classes of the process, one of its threads and a child: first as started, then restored.

    After the first ones stands whether the process has entered the idle class.
    """
    environment = {"PYTHONPATH": str(archive), "PATH": os.environ["PATH"]}
    words = [*prefix, sys.executable, script]
    done = subprocess.run(words, env=environment, cwd=archive, capture_output=True, text=True, timeout=60)
    if prefix and done.returncode:
        pytest.skip(f"this user may not do that: {done.stderr}")
    assert not done.stderr
    return done.stdout.splitlines()


@needs_idle_class
def test_a_worker_starts_in_the_idle_class_and_leaves_it_with_threads_and_children(archive: Path) -> None:
    assert began_idle(run(archive))


@pytest.mark.parametrize("prefix", [ALLOWED, [*ALLOWED, *WITHOUT]], ids=["limit", "limit, not root"])
def test_a_limit_of_nice_allows_it_too(archive: Path, prefix: list[str]) -> None:
    assert began_idle(run(archive, *prefix))


def began_idle(lines: list[str]) -> bool:
    """Whether it entered the class and left it with all; it has left before if other tests use the cores."""
    as_started, restored = lines
    return (
        as_started == "idle idle idle True" or (as_started.startswith("usual usual ") and as_started.endswith(" True"))
    ) and restored == "usual usual usual"


def test_a_worker_that_could_not_leave_the_idle_class_stays_out_of_it(archive: Path) -> None:
    assert run(archive, *FORBIDDEN, *(() if os.geteuid() else WITHOUT)) == [
        "usual usual usual False",
        "usual usual usual",
    ]


def test_other_processes_that_see_the_archive_keep_their_class(archive: Path) -> None:
    (archive / "other.py").write_text(CLASSES)
    assert run(archive, script="other.py") == ["usual usual usual False", "usual usual usual"]


def test_a_class_that_somebody_chose_is_kept(archive: Path) -> None:
    assert run(archive, "chrt", "--idle", "0") == ["idle idle idle False", "idle idle idle"]


@needs_idle_class
def test_a_start_without_idle_time_goes_on_in_the_usual_class(archive: Path) -> None:
    (archive / "busy.py").write_text(BUSY)
    assert run(archive, script="busy.py") == ["entered"], "and left it, because it ended"
