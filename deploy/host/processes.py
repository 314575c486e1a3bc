"""Processes and ports of this machine: find the TorchServe of a `var`, end it, list the ports in use."""

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
    """The file with the process group of the running TorchServe."""
    return var / "torchserve.pgid"


def group_of_server(var: Path) -> int | None:
    """The process group of the TorchServe whose files are in `var`; None if none of its processes is alive.

    All processes are searched if the group is not in the file (its starter was killed in that moment), or belongs to
    other processes (the machine was restarted).
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
    """TorchServe's front end: the process of its group that all others depend on."""
    return next((process for process in members(group) if _name(process) == "java"), None)


def alive(process: psutil.Process) -> bool:
    """Whether a process is running; a zombie is not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def wait_until_gone(processes: list[psutil.Process], timeout: float) -> list[psutil.Process]:
    """Wait for processes to end.

    Args:
        timeout: seconds.

    Returns:
        those that are still alive.
    """
    psutil.wait_procs([process for process in processes if alive(process)], timeout=timeout)
    return [process for process in processes if alive(process)]


def end_group(group: int, gently: bool = True) -> None:
    """Terminate a process group, and kill the processes that are left after STOP_S.

    Args:
        gently: False: kill at once.
    """
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
    """The process ids by TCP port in use; None if we may not see whose port it is."""
    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        return {}
    return {c.laddr.port: c.pid for c in connections if c.status == psutil.CONN_LISTEN and c.laddr}


def cmdline(process: psutil.Process) -> list[str]:
    """The command line of a process; empty if it has ended."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def signal_when_parent_dies(number: int) -> None:
    """Have the kernel send us a signal when the parent dies, even by `kill -9`. Linux only."""
    _libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)


def follow_supervisor(number: int) -> None:
    """Have the kernel send us `number` when our supervisord dies; exit if it is already dead."""
    signal_when_parent_dies(number)
    if os.environ.get(SUPERVISOR, str(os.getppid())) != str(os.getppid()):
        sys.exit(0)


@contextmanager
def signals_wait(*numbers: signal.Signals) -> Iterator[Callable[[], None]]:
    """Block signals while the block runs, so that none arrives between the start of a child and the note of its id.

    Yields:
        a function that the child must call before exec, because it inherits the blocked signals.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield lambda: _restore(before)
    finally:
        _restore(before)


@contextmanager
def interruptible() -> Iterator[None]:
    """Treat SIGTERM and SIGHUP like Ctrl-C, so that child processes are stopped on the way out."""
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
    """Whether it is TorchServe's launcher, its Java or a worker, and writes its logs into `var`.

    A path in its command line is not enough: an editor that has config.properties open would be killed.
    """
    arguments = cmdline(process)
    if not (_JAVA in arguments or any(Path(argument).name in _SCRIPTS for argument in arguments)):
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
