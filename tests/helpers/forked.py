"""Run `python -m training ...` or `python -m dataset ...` in a process forked from one that has imported torch.

It has its own arguments, folder, environment, output and exit code, as when a person starts it; only the six seconds of
computing that importing torch and torchvision takes are saved. `python -m tests.helpers.forked` is the process to fork.
"""

import functools
import gc
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from threading import Lock

from deploy.settings import ROOT

PACKAGES = ("dataset", "training")
LATE = (
    "matplotlib.figure",
    "nncf",
    "onnxscript",
    "sklearn.model_selection",
    "timm",
    "torch.onnx._internal.exporter._core",
)
LIMIT_S = 600
_ONE_AT_A_TIME = Lock()


def run_forked(words: list[str], folder: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run `python -m WORDS` in a folder with exactly this environment, for at most LIMIT_S."""
    with _ONE_AT_A_TIME, tempfile.TemporaryDirectory() as temporary:
        stdout, stderr = Path(temporary) / "stdout", Path(temporary) / "stderr"
        request = {"words": words, "folder": str(folder), "environment": dict(environment)}
        server = _server()
        assert server.stdin and server.stdout
        server.stdin.write(json.dumps(request | {"outputs": [str(stdout), str(stderr)]}) + "\n")
        server.stdin.flush()
        code = int(server.stdout.readline())
        return subprocess.CompletedProcess(words, code, stdout.read_text(), stderr.read_text())


@functools.cache
def _server() -> subprocess.Popen[str]:
    """The process to fork; it ends when its input does, with the process of pytest."""
    words = [sys.executable, "-m", "tests.helpers.forked"]
    return subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _serve() -> None:
    """Fork for each line of the input; the child leaves the loop, runs the command and ends with its exit code."""
    _import_commands()
    gc.freeze()
    for line in sys.stdin:
        child = os.fork()
        if not child:
            _run(**json.loads(line))
            return
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _import_commands() -> None:
    """Import every command, and what they import only when they need it."""
    for package in PACKAGES:
        for name in importlib.import_module(f"{package}.__main__").main.summaries:
            importlib.import_module(f"{package}.{name.replace('-', '_')}")
        del sys.modules[f"{package}.__main__"]  # which runs as the module __main__
    for name in LATE:
        importlib.import_module(name)


def _run(words: list[str], folder: str, environment: dict[str, str], outputs: list[str]) -> None:
    signal.alarm(LIMIT_S)
    for number, path in enumerate((os.devnull, *outputs)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [*words]
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _serve()
