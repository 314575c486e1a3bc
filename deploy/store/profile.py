"""The options that a version is served with, and what `python -m deploy tune` measured (`var/tuned.json`).

SERVE_PROFILE names a profile, `latency` or `throughput`. Its workers and batch size count when a version is registered,
its threads when TorchServe starts, in the environment of the workers. The recipe's values count without a profile, and
if the file was measured on another machine or for another archive.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from common.console import note
from common.errors import UserError
from common.files import write_json, writing
from deploy.settings import Settings
from deploy.store import desired
from deploy.store.desired import ServedVersion

FILE = "tuned.json"
THREADS = "CLASSIFIER_THREADS"  # read by handler/engine.py
CLIENTS = 8  # of the measurements under load


@dataclass(frozen=True)
class ServingOptions:
    """The options that a version is registered with.

    By default, a worker takes two requests if two are waiting, and each has its own thread (`handler.engine`). No
    request waits for another: without a delay, TorchServe makes no larger batches.

    Attributes:
        workers: processes.
        threads: of each worker; None: the recipe's.
        batch_size: the most requests in a batch.
        max_batch_delay: how long the first request of a batch waits for others, in milliseconds.
    """

    workers: int = 1
    threads: int | None = None
    batch_size: int = 2
    max_batch_delay: int = 0

    def __str__(self) -> str:
        batch = f"batches of {self.batch_size} within {self.max_batch_delay} ms"
        threads = f"{self.threads} thread(s) each" if self.threads else "the recipe's threads"
        return f"{self.workers} worker(s), {threads}, {batch if self.batch_size > 1 else 'no batches'}"


@dataclass(frozen=True)
class Measurement:
    """What was measured with some options: milliseconds at one client and at eight, requests per second at eight."""

    workers: int
    threads: int | None
    batch_size: int
    max_batch_delay: int
    p50_ms: float
    p99_ms: float
    requests_s_at_8: float
    p99_ms_at_8: float
    errors: int


@dataclass(frozen=True)
class Tuning:
    """The content of the file: for which archive, on how many cores, the profiles, and what they were chosen from."""

    name: str
    version: str
    digest: str
    cores: int
    profiles: Mapping[str, ServingOptions]
    tried: tuple[Measurement, ...] = ()


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def read(settings: Settings) -> Tuning | None:
    """The content of the file; None if it is missing or damaged: a server must start in any case."""
    try:
        row = json.loads((settings.var / FILE).read_text(encoding="utf-8"))
        profiles = {name: ServingOptions(**options) for name, options in row["profiles"].items()}
        tried = tuple(Measurement(**measurement) for measurement in row.get("tried", ()))
        return Tuning(**{**row, "profiles": profiles, "tried": tried})
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def write(
    settings: Settings,
    entry: ServedVersion,
    profiles: Mapping[str, ServingOptions],
    tried: Sequence[Measurement] = (),
) -> None:
    """Write what was measured for a version on this machine.

    Raises:
        CannotWrite: the disk is full.
    """
    tuning = Tuning(entry.name, entry.version, entry.digest, cores(), profiles, tuple(tried))
    with writing(settings.var):
        write_json(settings.var / FILE, asdict(tuning))


def serving_options(settings: Settings, entry: ServedVersion) -> ServingOptions:
    """The options that a version is registered with on this machine."""
    return _tuned(settings, entry)[0] or ServingOptions(entry.workers)


def why_ignored(settings: Settings, entry: ServedVersion) -> str | None:
    """Why SERVE_PROFILE is ignored for a version; None if it is used, or not set."""
    return _tuned(settings, entry)[1]


def note_if_ignored(settings: Settings, entry: ServedVersion) -> None:
    """Print a note for the person who starts or replaces a version."""
    why = why_ignored(settings, entry)
    if why:
        note(f"note: SERVE_PROFILE={settings.profile} is ignored: {why}: measure with python -m deploy tune")


def environment(settings: Settings) -> dict[str, str]:
    """The environment variable that gives TorchServe's workers their threads; workers of other versions ignore it."""
    tuning = read(settings) if settings.profile else None
    if tuning is None:
        return {}
    try:
        known = desired.find(desired.read(settings.var), tuning.name, tuning.version)
    except UserError:
        return {}
    threads = serving_options(settings, known or ServedVersion(tuning.name, tuning.version, "", tuning.digest)).threads
    return {THREADS: f"{tuning.name}-{tuning.version}={threads}"} if threads else {}


def _tuned(settings: Settings, entry: ServedVersion) -> tuple[ServingOptions | None, str | None]:
    """(the options, None), or (None, why the profile is ignored)."""
    if not settings.profile:
        return None, None
    tuning = read(settings)
    if tuning is None:
        return None, f"{settings.var / FILE} is missing or damaged"
    if tuning.cores != cores():
        return None, f"it was measured on {tuning.cores} core(s), and this machine has {cores()}"
    if tuning.digest != entry.digest:
        return None, f"it was measured for {tuning.name} {tuning.version}, not for {entry}"
    if settings.profile not in tuning.profiles:
        return None, f"{settings.var / FILE} has no profile {settings.profile}"
    return tuning.profiles[settings.profile], None
