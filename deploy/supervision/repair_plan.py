"""Which repairs are due, from desired and observed versions. A pure function; `reconcile` applies the result."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from deploy.store import desired as manifest
from deploy.store.desired import ServedVersion

LOST_S = 15.0
"""How long a version may lack workers before it is revived: TorchServe restarts a killed worker itself, at once."""
RETRY_S = (10.0, 600.0)
"""Pause after a failed repair of a version: at first, and the longest; it doubles with every failure."""

Key = tuple[str, str]  # name, version


@dataclass(frozen=True)
class Action:
    """One repair of one version."""

    entry: ServedVersion
    name: ClassVar[str]
    why: ClassVar[str]


class Restore(Action):
    """Register a version."""

    name, why = "restore", "it was not registered"


class Revive(Action):
    """Start all workers of a version again."""

    name, why = "revive", f"some or all of its workers were missing for {LOST_S:.0f} s"


class SetDefault(Action):
    """Make a version the one that answers /predictions/NAME."""

    name, why = "default", "another version was the default"


ACTIONS = (Restore, Revive, SetDefault)
"""In the order in which they are applied."""


@dataclass(frozen=True)
class ModelState:
    """What TorchServe says about one model name.

    Attributes:
        ready: version -> workers that can answer, for every registered version.
        starting: version -> workers that are not ready yet but have a living process.
        default: the version that answers /predictions/NAME.
    """

    ready: Mapping[str, int] = field(default_factory=dict)
    starting: Mapping[str, int] = field(default_factory=dict)
    default: str | None = None


@dataclass(frozen=True)
class Failure:
    """The last repair of a version failed.

    Attributes:
        why: the error, in one line.
        pause: seconds until the next attempt.
        retry_at: on the monotonic clock, in seconds.
    """

    why: str
    pause: float
    retry_at: float

    @classmethod
    def after(cls, former: "Failure | None", why: str, clock: float) -> "Failure":
        """A failure at `clock`; the pause is twice that of the former failure."""
        pause = min(former.pause * 2, RETRY_S[1]) if former else RETRY_S[0]
        return cls(why, pause, clock + pause)


@dataclass(frozen=True)
class Observed:
    """What is known about the node.

    Attributes:
        models: by name.
        short_since: when a version was first seen with too few workers, on the monotonic clock.
        failures: versions whose last repair failed.
    """

    models: Mapping[str, ModelState] = field(default_factory=dict)
    short_since: Mapping[Key, float] = field(default_factory=dict)
    failures: Mapping[Key, Failure] = field(default_factory=dict)

    def model(self, name: str) -> ModelState:
        """What TorchServe says about a name; empty if it is not registered."""
        return self.models.get(name, ModelState())


def plan(desired: Sequence[ServedVersion], observed: Observed, clock: float) -> list[Action]:
    """The repairs that are due.

    Args:
        desired: the versions of the manifest, each with the number of workers that it must have.
        clock: now, in seconds of the monotonic clock.

    Returns:
        restorations and revivals in the manifest's order, the default version of each name first; then the
        changes of the default.
    """
    return [*_versions(desired, observed, clock), *_defaults(desired, observed)]


def key_of(entry: ServedVersion) -> Key:
    """Name and version."""
    return entry.name, entry.version


def _versions(desired: Sequence[ServedVersion], observed: Observed, clock: float) -> Iterator[Action]:
    for entry in desired:
        failure = observed.failures.get(key_of(entry))
        if failure and clock < failure.retry_at:
            continue
        ready = observed.model(entry.name).ready.get(entry.version)
        if ready is None:
            yield Restore(entry)
        elif ready < entry.workers and clock > observed.short_since.get(key_of(entry), clock) + LOST_S:
            yield Revive(entry)


def _defaults(desired: Sequence[ServedVersion], observed: Observed) -> Iterator[Action]:
    for name in dict.fromkeys(entry.name for entry in desired):
        target = _default([entry for entry in desired if entry.name == name], observed)
        if target and target.version != observed.model(name).default:
            yield SetDefault(target)


def _default(versions: Sequence[ServedVersion], observed: Observed) -> ServedVersion | None:
    """The version of one name that must be the default now; None: leave it as it is.

    The manifest's default as soon as it has a worker. Until then the version that answers, or the one kept last.
    """
    model = observed.model(versions[0].name)
    able = [entry for entry in versions if model.ready.get(entry.version)]
    default = manifest.default_of(list(versions), versions[0].name)
    if default in able:
        return default
    if model.default and model.ready.get(model.default):
        return None
    if default and key_of(default) not in observed.failures:
        return default if default.version in model.ready else None
    return able[0] if able else None
