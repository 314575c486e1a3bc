"""What `python -m deploy tune` found on this machine (`var/tuned.json`), and how a version is registered with it.

SERVE_PROFILE names the profile, `latency` or `throughput`: workers and batch count when a version is registered,
threads when TorchServe starts, in the environment of its workers. Without it, or where what was found is of another
machine or archive, all is as the recipe says.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import click

from common.errors import UserError
from common.files import write_json
from deploy.settings import Settings
from deploy.store import desired
from deploy.store.desired import ServedVersion

FILE = "tuned.json"
THREADS = "CLASSIFIER_THREADS"  # read by handler/engine.py


@dataclass(frozen=True)
class ServingOptions:
    """How a version is served: workers, threads of each (None: the recipe's), requests in a batch, and how long the
    first of a batch waits for the others, in milliseconds.

    By default a worker takes two if two wait, and each of them has a thread of its own (`handler.engine`). No request
    waits for another: without a delay TorchServe makes no larger batches.
    """

    workers: int = 1
    threads: int | None = None
    batch_size: int = 2
    max_batch_delay: int = 0

    def __str__(self) -> str:
        batch = (
            f"batches of {self.batch_size} within {self.max_batch_delay} ms" if self.batch_size > 1 else "no batches"
        )
        threads = f"{self.threads} thread(s) each" if self.threads else "the recipe's threads"
        return f"{self.workers} worker(s), {threads}, {batch}"


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def write(
    settings: Settings,
    entry: ServedVersion,
    profiles: Mapping[str, ServingOptions],
    tried: Sequence[dict[str, Any]] = (),
) -> None:
    """Write down what was found for a version on this machine.

    Raises:
        UserError: it cannot be written.
    """
    found = {name: asdict(how) for name, how in profiles.items()}
    about = {"name": entry.name, "version": entry.version, "digest": entry.digest, "cores": cores()}
    try:
        write_json(settings.var / FILE, {**about, "profiles": found, "tried": list(tried)})
    except OSError as error:
        raise UserError(f"{settings.var} cannot be written: {error.strerror}: make room there") from error


def serving_options(settings: Settings, entry: ServedVersion) -> ServingOptions:
    """How a version is to be registered here and now."""
    return _found(settings, entry)[0] or ServingOptions(entry.workers)


def why_ignored(settings: Settings, entry: ServedVersion) -> str | None:
    """Why the profile that was asked for does not count for a version; None where it does, or none was asked for."""
    return _found(settings, entry)[1]


def note_if_ignored(settings: Settings, entry: ServedVersion) -> None:
    """A note for the person who starts or replaces a version."""
    why = why_ignored(settings, entry)
    if why:
        click.echo(f"note: SERVE_PROFILE={settings.profile} is passed over: {why}: python -m deploy tune", err=True)


def environment(settings: Settings) -> dict[str, str]:
    """What the environment of TorchServe's workers says of threads; the worker of another version passes it over."""
    content = _read(settings) if settings.profile else None
    if not content:
        return {}
    try:
        known = desired.find(desired.read(settings.var), content["name"], content["version"])
        entry = known or ServedVersion(content["name"], content["version"], "", content["digest"])
        threads = serving_options(settings, entry).threads
    except (KeyError, TypeError, UserError):
        return {}
    return {THREADS: f"{entry.name}-{entry.version}={threads}"} if threads else {}


def _found(settings: Settings, entry: ServedVersion) -> tuple[ServingOptions | None, str | None]:
    """What was found, or why it does not count; a server must start with a damaged file, too."""
    if not settings.profile:
        return None, None
    content = _read(settings)
    if content is None:
        return None, f"{settings.var / FILE} is not there, or damaged"
    try:
        if content["cores"] != cores():
            return None, f"it was measured on {content['cores']} core(s), here are {cores()}"
        if content["digest"] != entry.digest:
            return None, f"it was measured for {content['name']} {content['version']}, not for {entry}"
        return ServingOptions(**content["profiles"][settings.profile]), None
    except (KeyError, TypeError):
        return None, f"{settings.var / FILE} is damaged"


def _read(settings: Settings) -> dict[str, Any] | None:
    try:
        content = json.loads((settings.var / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
