"""Decode uncommon photos in other processes, so that none costs the worker more than the recipe's limits.

The kernel enforces the limits (`handler.decoder`). A process that exceeds them ends and is replaced, and its photo is
refused. A crash of a decoder in C ends that process too, and not the worker.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import numpy as np

from handler import decoder
from handler.budget import Budget, Patience
from handler.errors import InvalidRequest, RequestError, TooLarge
from handler.image import Pixels
from handler.spec import Input, Limits

_PROCESSES = 2  # one decodes; the other is ready at once when the first must be replaced, which takes 0.3 s
_START = 0.25  # CPU seconds that the next process takes to start
_WALL_FACTOR = 3  # by the clock a photo may take this many times its CPU time, because other processes go first
_PATIENT_WALL_FACTOR = 100  # where nobody waits: what is answered must not depend on what else the machine does
_NICENESS = 5  # other models and the front end go first; more would make the worker and its clients wait longer
_INHERITED = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH")


class Decoders:
    """The decoder processes of one worker. Thread-safe: they decode one photo at a time.

    They end when this object is deleted, and when the worker ends in any way.

    Args:
        size: what photos are resized to.
        limits: of the recipe.
        patient: give every photo its CPU time, whatever was refused before (`handler.budget.Patience`) and however busy
            the machine is. For work that no client waits for.
    """

    def __init__(self, size: Input, limits: Limits, patient: bool = False) -> None:
        self._size, self._limits, self._patient = size, limits, patient
        self._wall_factor = _PATIENT_WALL_FACTOR if patient else _WALL_FACTOR
        self._lock = threading.Lock()
        self._patience = Patience(limits.photo_seconds)
        self._processes = [_Process(size, limits) for _ in range(_PROCESSES)]
        weakref.finalize(self, _end_all, self._processes)

    def preprocess(self, data: bytes, budget: Budget) -> Pixels:
        """As `handler.image.preprocess`, with limits on time and memory.

        Raises:
            RequestError: as `handler.image.preprocess`, and `too_costly`.
            RuntimeError: a process ended because of a bug, or does not start.
        """
        with self._lock:
            patience = self._patience.left()
            seconds = min(self._limits.photo_seconds, budget.left(), patience)
            process = self._ready()
            refused, content, spent = process.ask(data, seconds, self._wall_factor)
            budget.spend(spent if content is not None else max(spent, self._limits.photo_seconds))
            if (refused or content is None) and not self._patient:
                self._patience.waste(spent)
            if process.ended:
                self._replace(process)
                budget.spend(_START)
        if content is None:
            raise _why(process.code(), seconds, impatient=seconds == patience < self._limits.photo_seconds)
        if refused:
            raise RequestError(**json.loads(content))
        return np.frombuffer(bytearray(content), np.uint8).reshape(self._size.shape)

    def pids(self) -> list[int]:
        """The ids of the processes, first the one that decodes the next photo."""
        return [process.pid for process in self._processes]

    def _ready(self) -> "_Process":
        for _ in range(2 * _PROCESSES):
            process = self._processes[0]
            if process.wait_until_ready():
                return process
            self._replace(process)  # it ended while it had nothing to do
        raise RuntimeError(f"no decoder process starts: the last one ended with code {process.code()}")

    def _replace(self, process: "_Process") -> None:
        process.end()
        self._processes.remove(process)
        self._processes.append(_Process(self._size, self._limits))


class _Process:
    """One process of `handler.decoder`."""

    def __init__(self, size: Input, limits: Limits) -> None:
        settings = json.dumps({"input": size.model_dump(), "limits": limits.model_dump()})
        self._process = subprocess.Popen(
            [sys.executable, "-m", decoder.__name__, settings],
            cwd=Path(__file__).parents[1],
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        os.setpriority(os.PRIO_PROCESS, self._process.pid, _NICENESS)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout
        self.pid = self._process.pid
        self.ended = self._started = False

    def wait_until_ready(self) -> bool:
        """Wait for the end of its start; False if it has ended."""
        if not self._started:
            self._started = decoder.read(self._out.fileno(), 1) is not None
        return self._started and self._process.poll() is None

    def ask(self, data: bytes, seconds: float, wall_factor: float) -> tuple[bool, bytes | None, float]:
        """Have a photo decoded.

        Args:
            seconds: CPU time that it may use.
            wall_factor: by the clock it may take this many times as long.

        Returns:
            whether the photo is refused, the pixels or the error, and the CPU seconds used. No content: the process
            ended before it answered.
        """
        watch = threading.Timer(wall_factor * seconds, self._process.send_signal, [signal.SIGPROF])
        watch.start()
        try:
            decoder.write(self._in.fileno(), decoder.QUESTION.pack(seconds, len(data)), data)
            if (head := decoder.read(self._out.fileno(), decoder.ANSWER.size)) is not None:
                refused, self.ended, spent, length = decoder.ANSWER.unpack(head)
                if (content := decoder.read(self._out.fileno(), length)) is not None:
                    return refused, content, spent
        except BrokenPipeError:
            pass
        finally:
            watch.cancel()
        self.ended = True
        return False, None, seconds

    def code(self) -> int:
        """Wait for the end; returns the exit code, or minus the signal that ended it."""
        return self._process.wait()

    def end(self) -> None:
        """End it now."""
        self._in.close()
        self._process.kill()
        self._process.wait()
        self._out.close()


def _end_all(processes: list[_Process]) -> None:
    for process in processes:
        process.end()


def _environment() -> dict[str, str]:
    """Few variables: PYTHONPATH would override the unpacked archive. Threads would take address space."""
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return {**inherited, "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}


def _why(code: int, seconds: float, impatient: bool) -> Exception:
    """The error for a photo whose process ended.

    Args:
        code: its exit code, or minus the signal that ended it.
        impatient: the photo had less time than others because of photos before it.
    """
    if code == -signal.SIGPROF:
        limit = "the limit for some minutes after photos that were too costly" if impatient else "the limit"
        return TooLarge(
            "too_costly",
            f"decoding the photo takes more than {seconds:.2g} s, {limit}: send a smaller photo, "
            "or save it again as a baseline JPEG",
        )
    if code == -signal.SIGKILL:
        return TooLarge("too_costly", "this machine has too little memory to decode the photo: send a smaller photo")
    if code < 0:
        return InvalidRequest(
            "corrupt_image", "the photo is damaged: its decoder crashed. Send the complete file again"
        )
    return RuntimeError(f"the decoder process ended with code {code}")
