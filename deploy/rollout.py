"""Replace the serving version without losing a request.

    python -m deploy rollout model_store/classroom-2.0.mar --why "corrections of May"
    python -m deploy rollout model_store/classroom-2.0.mar --photos SPLIT --dry-run

check      its files against its manifest, its gate, memory for two versions
compare    with --photos: regressions and fixes against the serving version, on the photos that are not for training;
           refused if the new version is surely less accurate (95 % interval of the difference)
register   until its workers are ready; clients do not see it yet
goldens    every golden photo through /predictions/NAME/VERSION
latency    compared with the serving version, in alternating requests
default    /predictions/NAME is answered by the new version from now on
drain      until the former version has answered all its requests
keep       the former version stays for `rollback`; older ones are unregistered

With several nodes (config/nodes.yaml) the version is registered and proven on all of them before it becomes the default
on any, and one entry of the first node's history has the steps of all. A failure before `default` leaves the serving
version as it was and nothing new registered. A rollout that was killed at any step is resumed by the same command.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from common.cli import command
from common.console import console, note
from common.errors import Unreachable, UserError
from deploy.change.comparison import compare
from deploy.change.plan import Plan, make_plan
from deploy.change.preflight import Preflight, RolloutState, preflight, preflight_of_candidate
from deploy.change.session import Deployment, Refused, deployment, named, print_result, steps_table
from deploy.host.nodes import NodeSettings, others
from deploy.retire import take_out
from deploy.settings import Settings, read_settings
from deploy.store import copies, desired, profile
from deploy.store.desired import ServedVersion
from deploy.store.journal import entries
from deploy.store.mar import Archive, find_archive
from deploy.torchserve import probes
from deploy.torchserve.management import Client
from deploy.torchserve.process import Server


@command(epilog="Example: python -m deploy rollout classroom-1.1.mar --why 'corrections of May'")
@click.argument("archive", type=click.Path(path_type=Path))
@click.option("--why", default="", help="The reason, for the history.")
@click.option(
    "--keep", type=click.IntRange(0, 8), help="Former versions to keep for rollback.  [default: the recipe's]"
)
@click.option(
    "--photos",
    type=click.Path(exists=True, path_type=Path),
    help="Labelled photos (folders, a split or a table) on which to compare it with the serving version first.",
)
@click.option("--dry-run", is_flag=True, help="Check the archive and the server without changing anything.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")
def rollout(archive: Path, why: str, keep: int | None, photos: Path | None, dry_run: bool, as_json: bool) -> None:
    """Make ARCHIVE of the store the default version, with checks before, during and after."""
    settings = read_settings()
    if dry_run:
        plan = plan_rollout(settings, archive, keep, photos)
        if not as_json:
            console.print(steps_table(plan.steps()))
        print_result(plan.as_json(), "nothing was changed", as_json)
    else:
        try:
            entry = roll_out(settings, archive, why=why, keep=keep, photos=photos, quiet=as_json)
        except UserError as error:
            if as_json:
                click.echo(json.dumps({"error": {"kind": type(error).__name__, "message": error.message}}))
            raise
        served = f"{settings.url('inference')}/predictions/{entry['name']}"
        print_result(entry, f"{entry['name']} {entry['version']} answers {served}", as_json)


def roll_out(
    settings: Settings,
    archive: Path,
    *,
    why: str = "",
    keep: int | None = None,
    photos: Path | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Roll an archive out, or resume a rollout of it that was killed.

    Args:
        keep: former versions that stay registered; None: as the recipe says.
        photos: labelled photos on which the two versions are compared first.

    Returns:
        the journal's entry.

    Raises:
        Refused: a check failed; what was changed has been undone.
        UserError: it failed.
    """
    new = find_archive(archive, settings.store)
    with deployment(settings, "rollout", new.name, new.version, quiet, why=why) as work:
        initial = preflight(settings, work.client, new, work.journal.entry.id)
        Rollout(work, new, initial, keep, photos).run()
    return work.journal.entry.to_json()


def add_candidate(settings: Settings, archive: Path, *, why: str = "", quiet: bool = False) -> ServedVersion:
    """Register and prove an archive as a rollout does, and keep it without making it the default (`traffic canary`).

    A rollback does not choose it unless it is named, as if it had been rolled back from.

    Raises:
        UserError: a check failed; what was changed has been undone.
    """
    new = find_archive(archive, settings.store)
    with deployment(settings, "rollout", new.name, new.version, quiet, why=why) as work:
        initial = preflight(settings, work.client, new, work.journal.entry.id)
        return Rollout(work, new, initial, None).add()


def promote_candidate(settings: Settings, archive: Path, *, why: str = "", quiet: bool = False) -> dict[str, Any]:
    """Complete the rollout of a version that `add_candidate` added: switch, drain, retire. It can be repeated.

    Returns:
        the journal's entry.

    Raises:
        UserError: a check failed; the former version is the default, and the candidate stays.
    """
    new = find_archive(archive, settings.store)
    with deployment(settings, "rollout", new.name, new.version, quiet, why=why) as work:
        Rollout(work, new, preflight_of_candidate(settings, work.client, new), None).promote()
    return work.journal.entry.to_json()


def plan_rollout(settings: Settings, archive: Path, keep: int | None = None, photos: Path | None = None) -> Plan:
    """Check everything that can be checked without a change.

    Raises:
        UserError: the rollout would be refused.
    """
    new, client = find_archive(archive, settings.store), Client(settings)
    plan = make_plan(settings, client, new, preflight(settings, client, new), keep)
    if photos is None or plan.former is None:
        return plan
    return replace(plan, compared=str(compare(settings.store / plan.former.archive, new.mar, photos)))


class Rollout:
    """The steps of one rollout."""

    def __init__(
        self, work: Deployment, new: Archive, initial: Preflight, keep: int | None, photos: Path | None = None
    ) -> None:
        self.work, self.new, self.initial, self.keep, self.photos = work, new, initial, keep, photos
        self.client, self.settings = work.client, work.settings
        self.before = desired.read(work.settings.var)
        self.added: list[NodeSettings] = []
        self.already_switched = initial.state is RolloutState.INTERRUPTED_AFTER_SWITCH
        work.journal.set(previous=initial.former and initial.former.version)

    def run(self) -> None:
        """All steps; a failure before the switch undoes them, after it the same command resumes."""
        try:
            plan = self._check()
            if not self.already_switched:
                self._compare()
                self._register(plan)
            self._goldens(plan)
            if not self.already_switched:
                self._latency(plan)
                self._add_to_others()
                self._switch(plan)
        except Unreachable:
            self._undo()
            raise
        except UserError as error:
            if self._undo():
                raise Refused(error.problem, error.fix) from error
            raise
        except BaseException:
            self._undo()
            raise
        self._drain()
        self._keep(plan.keep)
        self._switch_others()

    def add(self) -> ServedVersion:
        """The steps before the switch, and a row in the manifest, so that the keeper keeps the version served."""
        try:
            plan = self._check()
            self._register(plan)
            self._goldens(plan)
            self._latency(plan)
            self._add_to_others()
            entry = replace(plan.entry, default=False, left=True)
            copies.keep_copy(self.settings.var, self.new.mar)
            desired.write(self.settings.var, [*self.before, entry])
        except BaseException:
            self._undo()
            raise
        return entry

    def promote(self) -> None:
        """The steps from the golden photos on, for a version that is kept already."""
        plan = self._check()
        self._goldens(plan)
        if not self.already_switched:
            self._add_to_others()
            try:
                self._switch(plan)
            except BaseException:
                self._restore()
                raise
        self._drain()
        self._keep(plan.keep)
        self._switch_others()

    @property
    def former(self) -> ServedVersion | None:
        """The version that answers until the switch."""
        return self.initial.former

    def _check(self) -> Plan:
        """Everything that needs no worker."""
        with self.work.step("check") as step:
            plan = make_plan(self.settings, self.client, self.new, self.initial, self.keep)
            self.work.journal.set(digest=plan.entry.digest)
            profile.note_if_ignored(self.settings, plan.entry)
            step.set(note=plan.checked)
        return plan

    def _compare(self) -> None:
        """Regressions and fixes on labelled photos; refuses a version that is surely less accurate."""
        if self.photos is None:
            return
        with self.work.step("compare") as step:
            if self.former is None:
                step.set(note="no version is serving that it could be compared with")
                return
            paired = compare(self.settings.store / self.former.archive, self.new.mar, self.photos)
            step.set(note=f"{self.former.version} -> {self.new.version}: {paired}")
        if paired.interval[1] < 0:
            raise Refused(
                f"{self.new} is less accurate than {self.former.version}: {paired}",
                "train it again, or leave out --photos to roll it out nevertheless",
            )

    def _register(self, plan: Plan) -> None:
        with self.work.step("register") as step:
            self._clear()
            workers = plan.options.workers
            if self.client.describe(self.new.name, self.new.version) is None:
                self._load(plan)
            elif self.client.ready(self.new.name, self.new.version) < workers:
                self.client.scale(self.new.name, self.new.version, 0)  # an interrupted rollout left some half started
                self.client.scale(self.new.name, self.new.version, workers)
            step.set(note=f"{workers} worker(s) ready")

    def _load(self, plan: Plan) -> None:
        try:
            self.client.register(self.new.mar.name, self.new.name, plan.options)
        except Unreachable:
            raise
        except UserError as error:
            reason = " ".join(Server(self.settings).why_no_worker().split())
            raise Refused(f"{self.new} does not load: {error.message}: {reason}") from error

    def _goldens(self, plan: Plan) -> None:
        with self.work.step("goldens") as step:
            answers = [probes.ask(self.client, question, plan.model, plan.spec) for question in plan.questions]
            largest = max(answer["difference"] for answer in answers)
            step.set(note=f"{len(answers)} answered as packed, probabilities within {largest:.4f}")

    def _latency(self, plan: Plan) -> None:
        with self.work.step("latency") as step:
            former, limit = self.former, plan.spec.rollout.latency_ratio
            if former is None or not self.client.ready(former.name, former.version):
                step.set(note="no version is serving that it could be compared with")
                return
            models = (plan.model, f"{former.name}/{former.version}")
            new, old = probes.latencies(self.client, plan.questions[0], models, limit)
            step.set(ms=round(new.ms, 2), former_ms=round(old.ms, 2))
            step.set(note=f"{new}, {former.version} {old}: {new.compared(old)}, at most {limit} x")
            if new.exceeds(old, limit):
                raise Refused(
                    f"{self.new} is too slow: {step.record.note}",
                    "prune or quantise it further, or raise rollout.latency_ratio in its recipe",
                )

    def _switch(self, plan: Plan) -> None:
        """TorchServe first, the manifest right after: if it is killed in between, the keeper restores the former."""
        with self.work.step("default") as step:
            copies.keep_copy(self.settings.var, self.new.mar)
            self.client.set_default(self.new.name, self.new.version)
            desired.write(self.settings.var, desired.switched(self.before, plan.entry, self.former))
            answer = probes.ask(self.client, plan.questions[0], self.new.name, plan.spec)
            step.set(note=f"/predictions/{self.new.name} is answered by {answer['model_version']}{plan.lower_number}")

    def _drain(self) -> None:
        with self.work.step("drain") as step:
            self.client.set_default(self.new.name, self.new.version)
            if self.former is None:
                step.set(note="no version was serving before")
            elif self.work.drained(self.former):
                step.set(note=f"{self.former.version} has answered all its requests")
            else:
                step.set(note=f"{self.former.version} still gets requests at its own address")

    def _keep(self, count: int) -> None:
        with self.work.step("keep") as step:
            _, *kept = (entry for entry in desired.read(self.settings.var) if entry.name == self.new.name)
            retired = [entry for entry in kept[count:] if self.work.drained(entry)]
            for entry in retired:
                self.work.take_out(entry)
            self._clear()
            stay = [f"{entry.version} stays for rollback" for entry in kept if entry not in retired]
            step.set(note=", ".join([*stay, *(f"{entry.version} is retired" for entry in retired)]))

    def _clear(self) -> None:
        """Unregister versions that an interrupted rollout left: rolled out by us, not in the manifest.

        If the manifest was lost it lists none; then kept versions stay until the next rollout.
        """
        if self.initial.state is RolloutState.UNLISTED_DEFAULT:
            return
        listed = {entry.version for entry in desired.read(self.settings.var) if entry.name == self.new.name}
        ours = {entry.version for entry in entries(self.settings.var) if entry.name == self.new.name}
        for version in ours - listed - {self.new.version, self.former and self.former.version}:
            if self.client.describe(self.new.name, version) and self.client.default(self.new.name) != version:
                self._unregister(version)

    def _unregister(self, version: str) -> None:
        self.work.drained(ServedVersion(self.new.name, version, f"{self.new.name}-{version}.mar", ""))
        self.client.unregister(self.new.name, version)

    def _add_to_others(self) -> None:
        """Prove the version on every other node before it answers on any. Raises UserError: a node cannot follow."""
        for node in others(self.settings):
            with self.work.step(node.name) as step, named(node):
                listed = desired.find(desired.read(node.settings.var), self.new.name, self.new.version)
                if listed is None:
                    add_candidate(node.settings, self.new.mar, why=f"of {self.work.journal.entry.id}", quiet=True)
                    self.added.append(node)
                elif not Client(node.settings).ready(self.new.name, self.new.version):
                    raise Refused(f"{self.new} has no ready worker", f"see {node.settings.var}/logs/keeper.log")
                step.set(note="registered and proven")

    def _switch_others(self) -> None:
        for node in others(self.settings):
            with self.work.step(node.name) as step, named(node):
                promote_candidate(node.settings, self.new.mar, why=f"of {self.work.journal.entry.id}", quiet=True)
                step.set(note=f"/predictions/{self.new.name} is answered by {self.new.version}")

    def _undo(self) -> bool:
        """Restore the former default and its manifest, and unregister the new version.

        Returns:
            whether the node is as it was before the rollout.
        """
        if self.already_switched or self.initial.state is RolloutState.UNLISTED_DEFAULT:
            return not self.already_switched
        try:
            self._restore()
            if self.client.describe(self.new.name, self.new.version):
                self._unregister(self.new.version)
            copies.drop_copies(self.settings.var, self.before)
            for node in self.added:
                take_out(node.settings, self.new.name, self.new.version, force=True, quiet=True)
        except (UserError, OSError) as error:
            note(f"note: {self.new} could not be unregistered again: {error}")
            return False
        return True

    def _restore(self) -> None:
        """Restore the former default and its manifest."""
        if self.former is not None and self.client.default(self.new.name) == self.new.version:
            self.client.set_default(self.former.name, self.former.version)
        if desired.read(self.settings.var) != self.before:
            desired.write(self.settings.var, self.before)
