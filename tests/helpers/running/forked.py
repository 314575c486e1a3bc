"""Fork processes from one that has imported torch: commands of the project, and the processes of `pytest -n`.

A forked command has its own arguments, folder, environment, output and exit code, as when a person starts it; only the
importing is saved, which is up to six seconds of computing. The processes of `pytest -n` share that memory too, and
the test modules: importing them takes each process 16 seconds of computing where no compiled copies lie. One
process to fork (`python -m tests.helpers.running.forked server`) serves the whole run; it ends with the pytest that
started it. Only the standard library is imported here: execnet starts this file as the Python of each process of
`pytest -n`, and a command that starts other commands may start it as their Python (PYTHON).
"""

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import runpy
import select
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import types
import warnings
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parents[3]
ADDRESS = "PHOTOLOOP_TEST_FORKS"
"""Environment variable: the socket of the process to fork."""
PYTHON = "PHOTOLOOP_TEST_PYTHON"
"""Environment variable of a forked command: what it takes for its Python (`python_that_forks`)."""
# What commands import only when they need it, and the fast tests never. Not onnxruntime and openvino: they start
# threads, which a forked process has not.
LATE = ("matplotlib.figure", "nncf", "onnxscript", "sklearn.model_selection", "torch.onnx._internal.exporter._core")
FAST = ["tests/unit"]
"""The paths of `make test-fast`."""
LIMIT_S = 600
Running = dict[int, tuple[int, socket.socket]]
"""What was forked: a file descriptor that tells its end -> its process, and the connection of its client."""
_NOTHING = os.open(os.devnull, os.O_RDONLY)
_NOWHERE = os.open(os.devnull, os.O_WRONLY)


def run_forked(words: list[str], folder: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run `python -m WORDS` in a folder with exactly this environment, for at most LIMIT_S."""
    with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
        with start_forked(words, folder, environment, stdout.fileno(), stderr.fileno()) as process:
            code = process.wait()
        stdout.seek(0)
        stderr.seek(0)
        return subprocess.CompletedProcess(words, code, stdout.read(), stderr.read())


def start_forked(
    words: list[str], folder: Path, environment: Mapping[str, str], stdout: int | None = None, stderr: int | None = None
) -> "Forked":
    """Start `python -m WORDS`; output without a file descriptor is dropped."""
    start_server()
    files = [_NOTHING, *(_NOWHERE if file is None else file for file in (stdout, stderr))]
    return Forked(files, words, folder, environment)


class Forked:
    """A running process, with what tests use of `subprocess.Popen`. Leaving its block waits for its end.

    Args:
        files: descriptors of its stdin, stdout and stderr.
        words: of its command; none: it is a process of `pytest -n`.
    """

    def __init__(self, files: list[int], words: list[str], folder: Path, environment: Mapping[str, str]) -> None:
        self.args = words
        self.returncode: int | None = None
        request = {"words": words, "folder": str(folder), "environment": dict(environment)}
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(os.environ[ADDRESS])
        socket.send_fds(self._connection, [b"\n"], files)
        self._connection.sendall(json.dumps(request).encode() + b"\n")
        self._answers = self._connection.makefile("rb", buffering=0)
        self.pid = int(self._answers.readline())

    def __enter__(self) -> "Forked":
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()
        self._answers.close()
        self._connection.close()

    def poll(self) -> int | None:
        """Its exit code, minus the signal that ended it, or None while it is running."""
        return self._code(0)

    def wait(self, timeout: float | None = None) -> int:
        """As `poll`, at its end.

        Args:
            timeout: seconds.

        Raises:
            subprocess.TimeoutExpired: it is still running.
        """
        code = self._code(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _code(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._connection], [], [], timeout)[0]:
            answer = self._answers.readline()
            assert answer, f"the process of {self.args} ended without an exit code"
            self.returncode = int(answer)
        return self.returncode


def forking_python(tests: tuple[str, ...]) -> str:
    """The Python for execnet's `popen` that forks its process, which has imported the tests of these paths."""
    start_server(tests)
    return shlex.join([sys.executable, __file__])


def python_that_forks(folder: Path) -> str:
    """A Python for the commands that a command starts: it forks those of the project, and runs everything else."""
    start_server()
    packages = "|".join(f"'-m {package}'" for package in importlib.import_module("photoloop").main.summaries)
    script, python = folder / "python", shlex.quote(sys.executable)
    script.write_text(
        f"""#!/bin/sh
case "$1 $2" in
{packages}) exec {python} -S {shlex.quote(__file__)} "$@" ;;
*) exec {python} "$@" ;;
esac
"""
    )
    script.chmod(0o755)
    return str(script)


@functools.cache
def start_server(tests: tuple[str, ...] = ()) -> None:
    """Start the process to fork, unless the pytest that started this process has one."""
    if ADDRESS in os.environ:
        return
    address = f"{tempfile.mkdtemp(prefix='forks-')}/socket"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(100)
        words = [sys.executable, "-m", "tests.helpers.running.forked", "server", str(listener.fileno()), *tests]
        _STARTED.append(
            subprocess.Popen(
                words, cwd=ROOT, stdin=subprocess.PIPE, pass_fds=[listener.fileno()], start_new_session=True
            )
        )
    os.environ[ADDRESS] = address


_STARTED: list[subprocess.Popen[bytes]] = []  # the process ends when its input does, with this process


def _serve(listener: socket.socket, tests: list[str]) -> None:
    """Fork for each connection; the child leaves the loop, runs its command and ends with its exit code."""
    gc.disable()  # nothing of what is imported is garbage
    _import_commands()
    if tests != FAST:
        for name in LATE:
            importlib.import_module(name)
    if tests:
        gc.freeze()  # pytest collects garbage several times at its end
        _import_tests(tests)
    if tests != FAST:
        _prepare_exports()
    weakref.finalize._registry.clear()  # type: ignore[attr-defined] # else each command finalizes at its end what was imported
    gc.freeze()
    gc.enable()
    running: Running = {}
    while sys.stdin not in (ready := select.select([listener, sys.stdin, *running], [], [])[0]):
        for file in running.keys() & set(ready):
            _report(*running.pop(file))
            os.close(file)
        if listener in ready and _fork(listener, running):
            return
    Path(listener.getsockname()).unlink()
    Path(listener.getsockname()).parent.rmdir()
    os._exit(0)


def _fork(listener: socket.socket, running: Running) -> bool:
    """Start what the next connection asks for; true in a process of `pytest -n`, at its end."""
    connection, _ = listener.accept()
    try:
        files, request = _read(connection)
    except ValueError:  # the client was killed
        connection.close()
        return False
    if not (child := os.fork()):
        for open_one in (listener, connection, *(waiting for _, waiting in running.values())):
            open_one.close()
        for file in running:
            os.close(file)
        _run(files, **request)
        return True
    for file in files:
        os.close(file)
    with contextlib.suppress(BrokenPipeError):
        connection.sendall(b"%d\n" % child)
    running[os.pidfd_open(child)] = (child, connection)
    return False


def _import_commands() -> None:
    """Import every command."""
    for package in importlib.import_module("photoloop").main.summaries:
        main = importlib.import_module(f"{package}.__main__").main
        for name in getattr(main, "summaries", ()):  # none: the package is one command
            main.get_command(None, name)


def _prepare_exports() -> None:
    """Export a graph, and keep what torch would read again at every export: the sources of its operators."""
    import torch

    lazy: Any = importlib.import_module("torch.onnx._internal.exporter._registration")
    apis: Any = importlib.import_module(lazy.onnxscript_apis._name)
    vars(apis)["get_torchlib_ops"] = functools.cache(apis.get_torchlib_ops)
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1), torch.nn.BatchNorm2d(1), torch.nn.ReLU()).eval()
    with warnings.catch_warnings(action="ignore"):  # about names inside torch
        batch = ({0: torch.export.Dim("batch")},)
        torch.onnx.export(network, (torch.zeros(2, 1, 1, 1),), dynamo=True, dynamic_shapes=batch, verbose=False)


class _NotYet:
    """An entry of sys.meta_path: whatever imports onnxruntime fails, because it starts threads."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "onnxruntime":
            raise RuntimeError("onnxruntime is not imported before a fork")


def _import_tests(paths: list[str]) -> None:
    """Import test modules as pytest does; each process imports the few that fail here itself, and reports errors."""
    import pytest

    sys.meta_path.insert(0, finder := _NotYet())
    words = ["--collect-only", "--quiet", "--capture=no", "-p", "no:cacheprovider", "--continue-on-collection-errors"]
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        pytest.main([*words, *paths])
    sys.meta_path.remove(finder)


def _read(connection: socket.socket) -> tuple[list[int], dict[str, Any]]:
    """What to run, and its stdin, stdout and stderr. Raises ValueError: the connection was closed."""
    _, files, _, _ = socket.recv_fds(connection, 1, 3)
    with connection.makefile() as lines:
        return files, json.loads(lines.readline())


def _report(child: int, connection: socket.socket) -> None:
    """Send the exit code of a process that has ended."""
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with connection, contextlib.suppress(BrokenPipeError):  # the client was killed
        connection.sendall(b"%d\n" % code)


def _run(files: list[int], words: list[str], folder: str, environment: dict[str, str]) -> None:
    """Be the process of a request; returns if that is one of `pytest -n`, which has ended."""
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = words or ["-c"]
    sys.executable = os.environ.pop(PYTHON, sys.executable)
    if words:
        signal.alarm(LIMIT_S)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored if pytest runs in the background of a shell
        _leave(_exit_code(words[0]))
    else:
        sys.modules["__main__"] = main = types.ModuleType("__main__")
        exec(eval(sys.stdin.readline()), main.__dict__)  # as execnet's own command line does


def _exit_code(package: str) -> int:
    sys.modules.pop(f"{package}.__main__", None)  # it runs as the module __main__
    try:
        runpy.run_module(package, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _leave(code: int) -> NoReturn:
    """End as Python does, except that nothing is taken apart: freeing what was imported takes a second."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _main(arguments: list[str]) -> None:
    if arguments[0] == "server":
        _serve(socket.socket(fileno=int(arguments[1])), arguments[2:])
    elif arguments[0] == "-m":
        with Forked([0, 1, 2], arguments[1:], Path.cwd(), os.environ) as process:
            sys.exit(process.wait())
    else:
        with Forked([0, 1, 2], [], Path.cwd(), os.environ) as process:
            sys.exit(process.wait())


if __name__ == "__main__":
    _main(sys.argv[1:])
