"""The plan of a rollout: everything that can be checked before anything changes. `rollout --dry-run` prints it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from common.words import number_of
from deploy.change.preflight import Preflight, RolloutState
from deploy.settings import Settings
from deploy.store import profile
from deploy.store.desired import ServedVersion
from deploy.store.mar import Archive, check_archive
from deploy.torchserve import probes
from deploy.torchserve.management import Client
from deploy.torchserve.probes import Question

if TYPE_CHECKING:
    from handler.spec import Spec


@dataclass(frozen=True)
class Plan:
    """What a rollout will do.

    Attributes:
        entry: the line of the new version in the manifest.
        options: workers, threads and batches that it is registered with.
        questions: its golden photos as requests.
        keep: how many former versions stay for rollback.
        checked: the result of the checks, for people.
        compared: the result of the comparison with the serving version; empty if there was none.
    """

    new: Archive
    state: RolloutState
    former: ServedVersion | None
    entry: ServedVersion
    spec: Spec
    options: profile.ServingOptions
    questions: tuple[Question, ...]
    keep: int
    checked: str
    compared: str = ""

    @property
    def model(self) -> str:
        """NAME/VERSION, as in /predictions/NAME/VERSION."""
        return f"{self.new.name}/{self.new.version}"

    @property
    def lower_number(self) -> str:
        """A note if the new version has a lower number than the former one, which may be a mistake."""
        lower = self.former and _numbers(self.new.version) < _numbers(self.former.version)
        return ", a lower version number" if lower else ""

    def steps(self) -> list[tuple[str, str]]:
        """(name, what will be done) of each step, in order; what an interrupted rollout has done is left out."""
        former = self.former.version if self.former else "none"
        steps = [
            ("check", self.checked),
            *([("compare", self.compared)] if self.compared else []),
            ("register", f"{self.new.mar.name} with {self.options}"),
            ("goldens", f"{number_of(len(self.questions), 'golden photo')} through /predictions/{self.model}"),
            ("latency", f"at most {self.spec.rollout.latency_ratio} x the latency of {former}"),
            ("default", f"{former} -> {self.new.version}{self.lower_number}"),
            ("drain", former),
            ("keep", f"{self.keep} former version(s) for rollback; older ones are retired"),
        ]
        done = {"register", "latency", "default"} if self.state is RolloutState.INTERRUPTED_AFTER_SWITCH else set()
        return [(name, text) for name, text in steps if name not in done]

    def as_json(self) -> dict[str, Any]:
        """`name`, `version` and `steps`, each a line of text."""
        steps = [f"{name}: {text}" for name, text in self.steps()]
        return {"name": self.new.name, "version": self.new.version, "steps": steps}


def make_plan(settings: Settings, client: Client, new: Archive, initial: Preflight, keep: int | None) -> Plan:
    """Check an archive against its manifest, its gate and the memory of this machine.

    Args:
        keep: how many former versions stay for rollback; None: as the recipe says.

    Raises:
        UserError: the archive is damaged or edited, failed its gate, or does not fit into memory.
    """
    manifest, spec = check_archive(new)
    entry = new.served_version(manifest.digest, spec)
    options = profile.serving_options(settings, entry)
    memory = _require_memory(settings, client, new, options.workers)
    return Plan(
        new=new,
        state=initial.state,
        former=initial.former,
        entry=entry,
        spec=spec,
        options=options,
        questions=tuple(probes.questions(new.mar)),
        keep=spec.rollout.keep if keep is None else keep,
        checked=f"{len(manifest.contents)} files as packed, run {manifest.run}; {memory}",
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _require_memory(settings: Settings, client: Client, new: Archive, workers: int) -> str:
    """Room for its workers, unless an interrupted rollout has started them already."""
    if client.ready(new.name, new.version) >= workers:
        return "its workers are running already"
    return probes.require_memory(client, new.name, workers, settings.reserve_mb)
