"""What a version must show through the served door before it may be the default."""

from __future__ import annotations

import base64
import contextlib
import math
import time
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from common.errors import UserError
from deploy.settings import Settings
from deploy.store import copies
from deploy.store.desired import ServedVersion
from deploy.torchserve.management import Client, content
from handler import goldens
from handler.goldens import Golden

if TYPE_CHECKING:
    from handler.spec import Spec

WARM_UP = 2
ROUNDS = 15
SERIES = 3
REST = 4
"""Pause after a question, as a multiple of its time: clients are being answered on the same cores."""
REST_S = 0.2
"""The longest pause."""
WORKER_MB = 900
"""A worker's memory where none runs yet to be measured (docs/benchmarks.md, "What serving costs")."""


@dataclass(frozen=True)
class Question:
    """A golden photo as a request, and the answer that it must get."""

    golden: Golden
    body: dict[str, Any]


def questions(mar: Path) -> Iterator[Question]:
    """An archive's golden photos, each as the document's JSON with `detail`."""
    contents = zipfile.Path(mar)
    for golden in goldens.read(contents):
        encoded = base64.b64encode((contents / golden.photo).read_bytes()).decode()
        yield Question(golden, {"image_id": golden.photo, "image_base64": encoded, "detail": True})


def first_question(settings: Settings, entry: ServedVersion) -> Question | None:
    """One question of a version that is served; None if neither its archive in the store nor the copy can be read."""
    for folder in (settings.store, settings.var / copies.FOLDER):
        with contextlib.suppress(OSError, ValueError, LookupError, zipfile.BadZipFile, zlib.error):
            return next(questions(folder / entry.archive), None)
    return None


def ask(client: Client, question: Question, model: str, spec: Spec) -> dict[str, Any]:
    """Ask NAME or NAME/VERSION one golden photo.

    Returns:
        the answer, with `difference`: the largest |p - p when packed|.

    Raises:
        UserError: no answer, another label, or a difference above the recipe's tolerance.
    """
    golden, begun = question.golden, time.perf_counter()
    reply = client.predict(model, question.body)
    rest(time.perf_counter() - begun)
    if not reply.ok:
        raise UserError(f"/predictions/{model} answers {reply.status_code} to {golden.photo}")
    answer: dict[str, Any] = content(reply)
    now = list(answer.get("probabilities", {}).values())
    difference = max((abs(p - q) for p, q in zip(now, golden.probabilities, strict=False)), default=1.0)
    if answer.get("result") != golden.label or not difference <= spec.goldens.tolerance:
        raise UserError(
            f"/predictions/{model} answers {golden.photo} otherwise than when it was packed: was {golden.label} "
            f"{list(golden.probabilities)}, is {answer.get('result')} {now} (tolerance {spec.goldens.tolerance}): "
            "export and pack it again on this kind of machine"
        )
    return {**answer, "difference": difference}


def latencies(client: Client, question: Question, models: tuple[str, str], ratio: float) -> tuple[float, float]:
    """Time two versions side by side, in turn, so that both see the same machine.

    The fastest request of each is told: clients are answered meanwhile, by the serving version. What waits behind
    them, or shares the cores with them, is slower for no fault of its own. Nor is what has bad luck on a busy
    machine: the first is asked again, up to SERIES times, while it seems slower than `ratio` times the second.

    Returns:
        milliseconds of one request, of each.

    Raises:
        UserError: a version does not answer.
    """
    fastest = [math.inf, math.inf]
    for turn in range(WARM_UP + SERIES * ROUNDS):
        for index, model in enumerate(models):
            begun = time.perf_counter()
            reply = client.predict(model, question.body)
            seconds = time.perf_counter() - begun
            if not reply.ok:
                raise UserError(f"/predictions/{model} answers {reply.status_code}: its latency is not known")
            rest(seconds)
            if turn >= WARM_UP:
                fastest[index] = min(fastest[index], seconds * 1000)
        if (turn + 1 - WARM_UP) % ROUNDS == 0 and turn >= WARM_UP and fastest[0] <= ratio * fastest[1]:
            break
    return fastest[0], fastest[1]


def rest(seconds: float) -> None:
    """Leave the machine to the clients for a while, after a question that took so long."""
    time.sleep(min(REST * seconds, REST_S))


def require_memory(client: Client, name: str, workers: int, reserve_mb: int) -> str:
    """Refuse a version for whose workers there is no room beside those that serve.

    Returns:
        what was found, for the journal.

    Raises:
        UserError: less would be left than the reserve (megabytes).
    """
    each = worker_mb(client, name)
    needed, free = each * workers + reserve_mb, free_mb()
    if needed > free:
        raise UserError(
            f"not enough memory for two versions: {free} MB are free, {needed} MB are needed "
            f"({workers} x {each} MB and {reserve_mb} MB in reserve): retire a kept version "
            "(python -m deploy retire), or stop other programs"
        )
    return f"{free} MB free, {needed} MB needed"


def worker_mb(client: Client, name: str) -> int:
    """Resident megabytes of the largest worker of the serving version, or what one is known to take."""
    sizes = []
    for worker in (client.describe(name) or {}).get("workers", []):
        try:
            sizes.append(psutil.Process(worker["pid"]).memory_info().rss // 10**6)
        except (psutil.Error, ValueError, KeyError):
            continue
    return max(sizes, default=WORKER_MB)


def free_mb() -> int:
    """Megabytes that a new process may take: the machine's, or less where a control group limits us."""
    free: int = psutil.virtual_memory().available
    try:
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text())
        free = min(free, limit - int((group / "memory.current").read_text()))
    except (OSError, ValueError):  # no such group, or no limit: "max"
        pass
    return free // 10**6
