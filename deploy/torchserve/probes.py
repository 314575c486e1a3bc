"""Golden photos as requests, and what a version must show with them before it may become the default."""

from __future__ import annotations

import contextlib
import math
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from common.errors import CheckFailed
from deploy.settings import Settings
from deploy.store import copies
from deploy.store.desired import ServedVersion
from deploy.torchserve.management import Client, content, request_body
from handler import goldens
from handler.errors import CODES
from handler.goldens import Golden
from handler.requestlog import TIMING, cpu_ms

if TYPE_CHECKING:
    from handler.spec import Spec

OUT_OF_SCOPE = "out_of_scope"
"""The error code."""
WARM_UP = 2
ROUNDS = 15
SERIES = 3
SHARED = 2
"""A request that shares the cores with one other takes at most this many times as long."""
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


@dataclass(frozen=True)
class Latency:
    """The fastest request of a version: its milliseconds, and the least CPU time of one; None: an older archive."""

    ms: float
    cpu_ms: float | None

    def __str__(self) -> str:
        return f"{self.ms:.1f} ms" + ("" if self.cpu_ms is None else f" ({self.cpu_ms:.1f} ms of CPU time)")

    def compared(self, other: Latency) -> str:
        """How many times the other's it is."""
        ratio = f"{self.ms / other.ms:.2f} x"
        if self.cpu_ms is None or other.cpu_ms is None:
            return ratio
        return f"{ratio}, CPU time {self.cpu_ms / other.cpu_ms:.2f} x"

    def exceeds(self, other: Latency, ratio: float) -> bool:
        """Whether this version is slower than `ratio` times the other one, which is answering clients.

        The other one's worker answers one request after the other, so its fastest request had the cores for itself. A
        request to this version shares them with a client's, if clients ask more often than one takes. So up to SHARED
        times the ratio the CPU time decides.
        """
        if self.cpu_ms is None or other.cpu_ms is None:
            return self.ms > ratio * other.ms
        slow, busy = self.ms > ratio * other.ms, self.cpu_ms > ratio * other.cpu_ms
        return (slow and busy) or self.ms > SHARED * ratio * other.ms


def latencies(client: Client, question: Question, models: tuple[str, str], ratio: float) -> tuple[Latency, Latency]:
    """Time two versions with alternating requests, so that both run under the same load.

    The result is the fastest request of each: the serving version is answering clients at the same time, and a request
    that waits behind them is slower for that reason alone. The first version is measured again, up to SERIES times,
    while it seems slower than `ratio` times the second, because a busy machine may have delayed it.

    Raises:
        CheckFailed: a version does not answer.
    """
    fastest = [Latency(math.inf, None), Latency(math.inf, None)]
    for number in range(WARM_UP + SERIES * ROUNDS):
        for index, model in enumerate(models):
            started = time.perf_counter()
            reply = client.predict(model, question.body)
            seconds = time.perf_counter() - started
            if not reply.ok:
                raise CheckFailed(f"/predictions/{model} answers {reply.status_code}: its latency cannot be measured")
            pause(seconds)
            if number >= WARM_UP:
                fastest[index] = _faster(fastest[index], seconds * 1000, cpu_ms(reply.headers.get(TIMING)))
        series_ended = number >= WARM_UP and (number + 1 - WARM_UP) % ROUNDS == 0
        if series_ended and not fastest[0].exceeds(fastest[1], ratio):
            break
    return fastest[0], fastest[1]


def _faster(known: Latency, ms: float, cpu: float | None) -> Latency:
    return Latency(min(known.ms, ms), min(filter(None, (known.cpu_ms, cpu)), default=None))


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
