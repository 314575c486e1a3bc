"""Processes and ports of this machine: which group is whose TorchServe, who listens, how one is ended."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

STOP_S = 15
SUPERVISOR = "DEPLOY_SUPERVISOR"  # in the environment of the programs: the process id of their supervisord
LOGS = "LOG_LOCATION"  # in the environment of TorchServe's processes: the folder of its logs
_JAVA = "org.pytorch.serve.ModelServer"
_SCRIPTS = ("torchserve", "model_service_worker.py")  # the launcher and the workers
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_libc = ctypes.CDLL(None)  # loaded before any fork: between fork and exec nothing may be imported


def group_file(var: Path) -> Path:
    """Where the process group of a running TorchServe is written down."""
    return var / "torchserve.pgid"


def group_of_server(var: Path) -> int | None:
    """The process group of the TorchServe whose files lie in `var`, if any of its processes is alive.

    Where the group was not written down (its starter was killed in that moment), or a start of the machine has given
    its number to others, all processes are looked through.
    """
    try:
        group = int(group_file(var).read_text())
    except (OSError, ValueError):
        group = 0
    if group and any(_of_server(process, var) for process in members(group)):
        return group
    return next((_group_of(p) for p in psutil.process_iter() if _of_server(p, var) and alive(p)), None)


def members(group: int) -> list[psutil.Process]:
    """The living processes of a group."""
    return [process for process in psutil.process_iter() if _group_of(process) == group and alive(process)]


def java_of(group: int) -> psutil.Process | None:
    """TorchServe's front end: the one process of its group that all others depend on."""
    return next((process for process in members(group) if _name(process) == "java"), None)


def alive(process: psutil.Process) -> bool:
    """Whether a process runs; one that has ended and was not yet waited for does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def wait_until_gone(processes: list[psutil.Process], timeout: float) -> list[psutil.Process]:
    """Those that are still alive after `timeout` seconds."""
    psutil.wait_procs([process for process in processes if alive(process)], timeout=timeout)
    return [process for process in processes if alive(process)]


def end_group(group: int, gently: bool = True) -> None:
    """Terminate a process group, and kill what is left of it after a while, or at once."""
    for number in (signal.SIGTERM if gently else signal.SIGKILL, signal.SIGKILL, signal.SIGKILL):
        left = members(group)  # again each time: Java may have started a worker
        if not left:
            return
        try:
            os.killpg(group, number)
        except ProcessLookupError:
            return
        wait_until_gone(left, STOP_S)


def listening() -> dict[int, int | None]:
    """TCP ports that are listened on, and by which process as far as we may know."""
    try:
        found = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        return {}
    return {c.laddr.port: c.pid for c in found if c.status == psutil.CONN_LISTEN and c.laddr}


def cmdline(process: psutil.Process) -> list[str]:
    """The words that a process was started with; none if it is gone."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def signal_when_parent_dies(number: int) -> None:
    """Ask the kernel for a signal at the moment when the parent dies, be it of `kill -9`. Linux."""
    _libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)


def follow_supervisor(number: int) -> None:
    """In a program of supervisord's: have the kernel send us `number` when it dies, and exit if it is dead already."""
    signal_when_parent_dies(number)
    if os.environ.get(SUPERVISOR, str(os.getppid())) != str(os.getppid()):
        sys.exit(0)


@contextmanager
def signals_wait(*numbers: signal.Signals) -> Iterator[Callable[[], None]]:
    """Hold signals back until the block has ended, so that a child that was just started is known to us.

    Yields:
        what the child must call before its program: it would inherit the waiting.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield lambda: _restore(before)
    finally:
        _restore(before)


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM and a closed terminal are as Ctrl-C: what was started is stopped on the way out."""
    before = {number: signal.signal(number, _interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _restore(mask: set[signal.Signals] | set[int]) -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _of_server(process: psutil.Process, var: Path) -> bool:
    """Whether it is TorchServe's launcher, its Java or a worker, and was started with the logs of `var`.

    A path among its words would not tell: an editor of config.properties has it too, and would be killed with it.
    """
    words = cmdline(process)
    if not (_JAVA in words or any(Path(word).name in _SCRIPTS for word in words)):
        return False
    try:
        return process.environ().get(LOGS) == str(var / "logs")
    except psutil.Error:
        return False


def _group_of(process: psutil.Process) -> int | None:
    try:
        return os.getpgid(process.pid)
    except OSError:
        return None


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:
        return ""
