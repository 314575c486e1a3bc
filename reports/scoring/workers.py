"""A pool of processes that run an archive's code (`reports.scoring.worker`), and the order of their answers.

The memory stays constant: photos are read by the workers, a few batches wait, and rows leave in the order of the tasks.
"""

import os
import queue
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from multiprocessing import Pipe
from pathlib import Path
from typing import Any, Self

from common.errors import CheckFailed
from handler.engine import THREADS
from reports.scoring import worker
from reports.scoring.worker import Result, Task

BATCH = 4
"""Photos that a worker gets at a time."""

_ROOT = Path(__file__).parents[2]
_ONE_ARENA = {"MALLOC_ARENA_MAX": "1"}  # photos are decoded in threads; one heap for each grows longer
_WAITING = 4  # batches per thread: a costly photo then does not stop the others

Fetch = Callable[[Task], Task]


class WorkerDied(RuntimeError):
    """A worker process ended before it answered."""


class Worker:
    """One process. Not thread-safe.

    Args:
        folder: the unpacked archive.
        name, version: of the archive; the engine of each worker gets one thread.

    Raises:
        CheckFailed: the archive does not start here, for example because a golden photo is answered differently.
    """

    def __init__(self, folder: Path, name: str, version: str) -> None:
        self._ours, theirs = Pipe()
        words = [sys.executable, "-P", worker.__file__, str(theirs.fileno()), str(folder)]
        paths = os.pathsep.join((str(folder), str(_ROOT)))  # `handler` is the archive's, not the project's
        environment = {**_ONE_ARENA, **os.environ, "PYTHONPATH": paths, THREADS: f"{name}-{version}=1"}
        environment["OMP_NUM_THREADS"] = "1"
        self._process = subprocess.Popen(
            words,
            env=environment,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=folder,
        )
        theirs.close()
        self.pid = self._process.pid

    def wait_until_ready(self) -> dict[str, Any]:
        """What the archive says about itself: name, version, labels."""
        try:
            facts = self._ours.recv()
        except EOFError:
            facts = f"it ended with code {self._process.wait()}"
        if isinstance(facts, str):
            self.end()
            raise CheckFailed(f"the archive does not start here: {facts}", "pack it again on this kind of machine")
        return dict(facts)

    def ask(self, tasks: Sequence[Task]) -> list[Result]:
        """Classify photos; results in the same order.

        Raises:
            WorkerDied: the process ended.
        """
        try:
            self._ours.send([tuple(task) for task in tasks])
            results: list[Result] = self._ours.recv()
        except (EOFError, OSError) as error:
            raise WorkerDied(f"ended with code {self._process.wait()}") from error
        return results

    def end(self) -> None:
        """End it now."""
        self._ours.close()
        self._process.kill()
        self._process.wait()


class Pool:
    """Workers for one archive; a context manager that starts and ends them.

    Args:
        count: processes.
        fetch: turns a task with a URL into one with bytes.
        connections: threads that may fetch at the same time, beyond one per worker.
    """

    def __init__(
        self, folder: Path, name: str, version: str, count: int, fetch: Fetch | None = None, connections: int = 0
    ) -> None:
        self._start = lambda: Worker(folder, name, version)
        self._count, self._fetch, self._threads = count, fetch, count + connections
        self._idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        self.facts: dict[str, Any] = {}

    def __enter__(self) -> Self:
        workers = [self._start() for _ in range(self._count)]
        self._all = set(workers)
        try:
            for one in workers:
                self.facts = one.wait_until_ready()
                self._idle.put(one)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._all:
            one.end()

    def pids(self) -> list[int]:
        """The ids of the processes."""
        return [one.pid for one in self._all]

    def results(self, tasks: Iterable[Task]) -> Iterator[Result]:
        """Classify photos; results in the order of the tasks, which are taken a few batches ahead."""
        tasks = iter(tasks)
        waiting: deque[Future[list[Result]]] = deque()
        threads = ThreadPoolExecutor(self._threads)
        try:
            while batch := list(islice(tasks, BATCH)):
                waiting.append(threads.submit(self._work, batch))
                if len(waiting) >= _WAITING * self._threads:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            threads.shutdown(wait=False, cancel_futures=True)

    def _work(self, batch: list[Task]) -> list[Result]:
        ready = [self._fetch(task) if self._fetch else task for task in batch]
        one = self._idle.get()
        try:
            return one.ask(ready)
        except WorkerDied:
            one = self._replace(one)
            results = []
            for task in ready:
                one, result = self._alone(one, task)
                results.append(result)
            return results
        finally:
            self._idle.put(one)

    def _alone(self, one: Worker, task: Task) -> tuple[Worker, Result]:
        """Classify one photo of a batch that killed a worker; the photo that does it again is an error."""
        try:
            return one, one.ask([task])[0]
        except WorkerDied as error:
            message = f"the process that classified the photo {error}"
            return self._replace(one), {"error_code": "internal_error", "error": message}

    def _replace(self, dead: Worker) -> Worker:
        dead.end()
        new = self._start()
        self._all = (self._all - {dead}) | {new}
        new.wait_until_ready()
        return new
