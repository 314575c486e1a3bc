"""Golden photos as requests, and what a version must show with them before it may become the default."""

from __future__ import annotations

import contextlib
import functools
import math
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from common.errors import CheckFailed, Unreachable
from deploy.settings import Settings
from deploy.store import copies
from deploy.store.desired import ServedVersion
from deploy.torchserve.management import Client, content, request_body
from handler import goldens
from handler.errors import CODES
from handler.goldens import Golden

if TYPE_CHECKING:
    from handler.spec import Spec

OUT_OF_SCOPE = "out_of_scope"
"""The error code."""
WARM_UP = 2
ROUNDS = 15
SERIES = 3
UNDER_WAY_S = 0.002
"""After it, a request that was sent is with its worker."""
PAUSE = 4
"""Pause after a request, as a multiple of its duration: clients are being answered on the same cores."""
PAUSE_MAX_S = 0.2
WORKER_MB = 900
"""Memory of a worker if none is running that could be measured (docs/benchmarks.md, "What serving costs")."""


@dataclass(frozen=True)
class Question:
    """A golden photo, and the request that sends it."""

    golden: Golden
    body: dict[str, Any]


def questions(mar: Path) -> Iterator[Question]:
    """The golden photos of an archive, as requests with `detail`.

    Raises:
        OSError, ValueError, LookupError, zipfile.BadZipFile, zlib.error: the archive is missing or damaged.
    """
    contents = zipfile.Path(mar)
    for golden in goldens.read(contents):
        yield Question(golden, request_body((contents / golden.photo).read_bytes(), golden.photo, detail=True))


def example(mar: Path) -> Question:
    """The first golden photo of an archive, as the request of docs/api.md; raises as `questions` does."""
    contents = zipfile.Path(mar)
    golden = goldens.read(contents)[0]
    return Question(golden, request_body((contents / golden.photo).read_bytes(), "12345"))


def first_question(settings: Settings, entry: ServedVersion) -> Question | None:
    """A golden photo of a served version; None if neither its archive in the store nor the copy can be read."""
    for folder in (settings.store, settings.var / copies.FOLDER):
        with contextlib.suppress(Exception):  # a damaged zip can raise anything: zlib.error, EOFError, RuntimeError ...
            return next(questions(folder / entry.archive), None)
    return None


def ask(client: Client, question: Question, model: str, spec: Spec) -> dict[str, Any]:
    """Send a golden photo to NAME or NAME/VERSION and check the answer.

    Returns:
        the answer, with `difference`: the largest |p - p when packed|, 0 to 1. A golden photo that is out of scope is
        refused if the recipe says so: then the answer is the refusal, with the difference 0.

    Raises:
        CheckFailed: no answer, another label, another refusal, or a difference above the recipe's tolerance.
    """
    golden, started = question.golden, time.perf_counter()
    reply = client.predict(model, question.body)
    pause(time.perf_counter() - started)
    if _is_refused(golden, spec) and reply.status_code == CODES[OUT_OF_SCOPE]:
        return {**content(reply), "difference": 0.0}
    if not reply.ok:
        raise CheckFailed(f"/predictions/{model} answers {reply.status_code} to {golden.photo}")
    answer: dict[str, Any] = content(reply)
    actual, in_scope = list(answer.get("probabilities", {}).values()), answer.get("in_scope")
    difference = goldens.difference(golden, actual, in_scope)
    same = answer.get("result") == golden.label and not goldens.crossed(golden, in_scope, spec)
    if not same or not difference <= spec.goldens.tolerance:
        raise CheckFailed(
            f"/predictions/{model} answers {golden.photo} differently than when it was packed: was {golden.label} "
            f"{list(golden.probabilities)}, is {answer.get('result')} {actual} (tolerance {spec.goldens.tolerance})",
            "export and pack it again on this kind of machine",
        )
    return {**answer, "difference": difference}


def _is_refused(golden: Golden, spec: Spec) -> bool:
    return spec.answer.out_of_scope == "refuse" and spec.answer.is_out_of_scope(golden.in_scope)


def latencies(client: Client, question: Question, models: tuple[str, str], ratio: float) -> tuple[float, float]:
    """Time two versions with alternating requests, and return the fastest request of each.

    The second version is answering clients meanwhile. Its worker takes one request after the other, so its fastest
    request had the cores for itself. A request to the first version never has, if clients ask more often than it takes:
    it shares the cores with theirs. So if the first version seems slower than `ratio` times the second, both are timed
    anew while the other version is kept busy. That slows the clients for a few seconds, and is repeated up to SERIES
    times, because a busy machine may have delayed either.

    Returns:
        milliseconds of one request, of each.

    Raises:
        CheckFailed: a version does not answer.
    """
    new_ms, former_ms = _series(client, question, models, lambda _: contextlib.nullcontext())
    for _ in range(SERIES):
        if new_ms <= ratio * former_ms:
            break
        new_ms, former_ms = _series(client, question, models, functools.partial(_kept_busy, client.settings, question))
    return new_ms, former_ms


def _series(
    client: Client, question: Question, models: tuple[str, str], beside: Callable[[str], AbstractContextManager[None]]
) -> tuple[float, float]:
    """The fastest of ROUNDS requests to each version, each timed within `beside` of the other version."""
    fastest = [math.inf, math.inf]
    for number in range(WARM_UP + ROUNDS):
        for index, model in enumerate(models):
            with beside(models[1 - index]):
                started = time.perf_counter()
                reply = client.predict(model, question.body)
                seconds = time.perf_counter() - started
            if not reply.ok:
                raise CheckFailed(f"/predictions/{model} answers {reply.status_code}: its latency cannot be measured")
            pause(seconds)
            if number >= WARM_UP:
                fastest[index] = min(fastest[index], seconds * 1000)
    return fastest[0], fastest[1]


@contextlib.contextmanager
def _kept_busy(settings: Settings, question: Question, model: str) -> Iterator[None]:
    """Send one request after the other to a version while the block runs; its first is under way when it starts."""
    asked, finished = threading.Event(), threading.Event()

    def ask_again() -> None:
        client = Client(settings)
        with contextlib.suppress(Unreachable):
            while not finished.is_set():
                asked.set()
                client.predict(model, question.body)

    thread = threading.Thread(target=ask_again, daemon=True)
    thread.start()
    asked.wait()
    time.sleep(UNDER_WAY_S)
    try:
        yield
    finally:
        finished.set()
        thread.join()


def pause(seconds: float) -> None:
    """Leave the machine to the clients for a while, after a request that took `seconds`."""
    time.sleep(min(PAUSE * seconds, PAUSE_MAX_S))


def require_memory(client: Client, name: str, workers: int, reserve_mb: int) -> str:
    """Refuse a version whose workers do not fit into memory next to those that serve.

    Returns:
        free and needed memory, for the journal.

    Raises:
        CheckFailed: less than the reserve (megabytes) would be left.
    """
    each_mb = worker_mb(client, name)
    needed, free = each_mb * workers + reserve_mb, free_mb()
    if needed > free:
        raise CheckFailed(
            f"not enough memory for two versions: {free} MB are free, {needed} MB are needed "
            f"({workers} x {each_mb} MB and {reserve_mb} MB in reserve)",
            "retire a kept version (python -m deploy retire), or stop other programs",
        )
    return f"{free} MB free, {needed} MB needed"


def worker_mb(client: Client, name: str) -> int:
    """Resident megabytes of the largest worker of the serving version; WORKER_MB if none is running."""
    sizes = []
    for worker in (client.describe(name) or {}).get("workers", []):
        try:
            sizes.append(psutil.Process(worker["pid"]).memory_info().rss // 10**6)
        except (psutil.Error, ValueError, KeyError):
            continue
    return max(sizes, default=WORKER_MB)


def free_mb() -> int:
    """Megabytes that a new process may use: those of the machine, or of our control group if it has fewer."""
    free: int = psutil.virtual_memory().available
    try:
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text())
        free = min(free, limit - int((group / "memory.current").read_text()))
    except (OSError, ValueError):  # no such group, or no limit: "max"
        pass
    return free // 10**6
