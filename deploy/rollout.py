"""Replace the serving version by another, without one lost request.

    python -m deploy rollout model_store/classroom-2.0.mar --why "corrections of May"

check      its contents against its manifest, its gate, memory for two versions
register   by its bare file name, until its workers are ready; clients do not see it yet
goldens    every golden photo through /predictions/NAME/VERSION
latency    beside the serving version in the same minute
default    /predictions/NAME is answered by it from now on
drain      until the former version has answered all that it had
keep       the former version stays for `rollback`; older ones are unregistered

Until `default` whatever goes wrong leaves the serving version as it was and nothing new registered. Killed at any
step, the same command goes on and ends in the same place.
"""

from pathlib import Path
from typing import Any

import click

from common.cli import command
from common.errors import UserError
from deploy.change.preflight import Stage, Standing, look
from deploy.change.session import Deployment, Refused, deployment, say
from deploy.settings import Settings, read_settings
from deploy.store import candidate, desired, profile
from deploy.store.candidate import Candidate
from deploy.store.desired import Entry
from deploy.store.journal import entries
from deploy.torchserve import probes
from deploy.torchserve.management import Client, Unreachable
from deploy.torchserve.probes import Question
from deploy.torchserve.process import Server
from handler.spec import Spec


@command(epilog="Example: python -m deploy rollout classroom-1.1.mar --why 'corrections of May'")
@click.argument("archive", type=click.Path(path_type=Path))
@click.option("--why", default="", help="The reason, for the history.")
@click.option(
    "--keep", type=click.IntRange(0, 8), help="Former versions to keep for rollback.  [default: the recipe's]"
)
@click.option("--dry-run", is_flag=True, help="Check the archive and the server, change nothing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of lines.")
def rollout(archive: Path, why: str, keep: int | None, dry_run: bool, as_json: bool) -> None:
    """Make ARCHIVE of the store the default version, proven before, during and after."""
    settings = read_settings()
    if dry_run:
        say(plan(settings, archive, keep), as_json)
    else:
        say(roll_out(settings, archive, why=why, keep=keep, quiet=as_json), as_json)


def roll_out(
    settings: Settings, archive: Path, *, why: str = "", keep: int | None = None, quiet: bool = False
) -> dict[str, Any]:
    """Roll an archive out, or go on with a rollout of it that was killed.

    Args:
        keep: former versions that stay registered; None: as the recipe says.

    Returns:
        the journal's entry.

    Raises:
        UserError: refused, or failed; in one line, with the fix.
    """
    new = candidate.find(archive, settings.store)
    with deployment(settings, "rollout", new.name, new.version, quiet, why=why) as work:
        Rollout(work, new, keep).run()
    return {**work.journal.entry, "told": f"{new} answers {settings.url('inference')}/predictions/{new.name}"}


def plan(settings: Settings, archive: Path, keep: int | None = None) -> dict[str, Any]:
    """What a rollout would do; all that can be checked without a change is checked.

    Raises:
        UserError: it would be refused.
    """
    new, client = candidate.find(archive, settings.store), Client(settings)
    manifest, spec = candidate.inspect(new)
    former = look(settings, client, new).former
    how = profile.how(settings, new.entry(manifest["digest"], spec))
    memory = _require_memory(settings, client, new, how.workers)
    count = len(list(probes.questions(new.mar)))
    kept = spec.rollout.keep if keep is None else keep
    steps = [
        f"check: {len(manifest['contents'])} contents as packed, run {manifest['run']}; {memory}",
        f"register {new.mar.name} with {how}",
        f"ask {count} golden photos of /predictions/{new.name}/{new.version}",
        f"compare latency with {former.version}, at most {spec.rollout.latency_ratio} x"
        if former
        else "nothing serves",
        f"set the default: {former.version if former else 'none'} -> {new.version}",
        f"drain {former.version}" if former else "nothing to drain",
        f"keep {kept} former version(s) for rollback, retire older ones",
    ]
    return {
        "name": new.name,
        "version": new.version,
        "steps": steps,
        "told": "\n".join([*steps, "nothing was changed"]),
    }


def _require_memory(settings: Settings, client: Client, new: Candidate, workers: int) -> str:
    """Room for its workers, unless they run already, started by a rollout that was killed."""
    if client.ready(new.name, new.version) >= workers:
        return "its workers run already"
    return probes.require_memory(client, new.name, workers, settings.reserve_mb)


class Rollout:
    """The steps of one rollout."""

    def __init__(self, work: Deployment, new: Candidate, keep: int | None) -> None:
        self.work, self.new, self.keep = work, new, keep
        self.client, self.settings = work.client, work.settings
        self.before = desired.read(work.settings.var)
        self.model = f"{new.name}/{new.version}"
        self.standing: Standing
        self.spec: Spec
        self.entry: Entry
        self.how: profile.How
        self.questions: list[Question]

    def run(self) -> None:
        """All steps; before the switch a failure undoes, after it the same command goes on."""
        self.standing = look(self.settings, self.client, self.new, self.work.journal.entry["id"])
        self.work.journal.entry["previous"] = self.former and self.former.version
        try:
            self._check()
            if self.standing.stage is not Stage.SWITCHED:
                self._register()
            self._goldens()
            if self.standing.stage is not Stage.SWITCHED:
                self._latency()
                self._switch()
        except BaseException as error:
            if self._undone() and isinstance(error, UserError) and not isinstance(error, Unreachable):
                raise Refused(error.message) from error
            raise
        self._drain()
        self._keep()

    @property
    def former(self) -> Entry | None:
        """What answers until the switch."""
        return self.standing.former

    def _check(self) -> None:
        """Everything that needs no worker."""
        with self.work.step("check") as step:
            manifest, self.spec = candidate.inspect(self.new)
            self.entry = self.new.entry(manifest["digest"], self.spec)
            self.questions = list(probes.questions(self.new.mar))
            self.work.journal.entry["digest"] = manifest["digest"]
            self.how = profile.how(self.settings, self.entry)
            profile.say_passed_over(self.settings, self.entry)
            memory = _require_memory(self.settings, self.client, self.new, self.how.workers)
            step["note"] = f"{len(manifest['contents'])} contents as packed, run {manifest['run']}; {memory}"

    def _register(self) -> None:
        with self.work.step("register") as step:
            self._clear()
            workers = self.how.workers
            if self.client.describe(self.new.name, self.new.version) is None:
                self._load()
            elif self.client.ready(self.new.name, self.new.version) < workers:
                self.client.scale(self.new.name, self.new.version, 0)  # it was killed half-way: start them anew
                self.client.scale(self.new.name, self.new.version, workers)
            step["note"] = f"{workers} worker(s) ready"

    def _load(self) -> None:
        try:
            self.client.register(self.new.mar.name, self.new.name, self.how)
        except Unreachable:
            raise
        except UserError as error:
            why = " ".join(Server(self.settings).why_no_worker().split())
            raise Refused(f"{self.new} does not load: {error.message}: {why}") from error

    def _goldens(self) -> None:
        with self.work.step("goldens") as step:
            answers = [probes.ask(self.client, question, self.model, self.spec) for question in self.questions]
            step["note"] = f"{len(answers)} as packed, within {max(answer['difference'] for answer in answers):.4f}"

    def _latency(self) -> None:
        with self.work.step("latency") as step:
            former, limit = self.former, self.spec.rollout.latency_ratio
            if former is None or not self.client.ready(former.name, former.version):
                step["note"] = "no version serves to compare with"
                return
            models = (self.model, f"{former.name}/{former.version}")
            mine, theirs = probes.latencies(self.client, self.questions[0], models, limit)
            step |= {"ms": round(mine, 2), "former_ms": round(theirs, 2)}
            step["note"] = f"{mine:.1f} ms, {former.version} {theirs:.1f} ms: {mine / theirs:.2f} x, at most {limit} x"
            if mine > limit * theirs:
                raise Refused(
                    f"{self.new} is too slow: {step['note']}: prune or quantise it further, "
                    "or raise rollout.latency_ratio in its recipe"
                )

    def _switch(self) -> None:
        """TorchServe first, the manifest right after: killed in between, the keeper sets the former one again."""
        with self.work.step("default") as step:
            desired.keep_copy(self.settings.var, self.new.mar)
            self.client.set_default(self.new.name, self.new.version)
            desired.write(self.settings.var, desired.switched(self.before, self.entry, self.former))
            answer = probes.ask(self.client, self.questions[0], self.new.name, self.spec)
            step["note"] = f"/predictions/{self.new.name} is answered by {answer['model_version']}"

    def _drain(self) -> None:
        with self.work.step("drain") as step:
            self.client.set_default(self.new.name, self.new.version)
            if self.former is None:
                step["note"] = "nothing served before"
            elif self.work.drained(self.former):
                step["note"] = f"{self.former.version} has answered all that it had"
            else:
                step["note"] = f"{self.former.version} is still asked by its own address"

    def _keep(self) -> None:
        with self.work.step("keep") as step:
            count = self.spec.rollout.keep if self.keep is None else self.keep
            _, *kept = (entry for entry in desired.read(self.settings.var) if entry.name == self.new.name)
            gone = [entry for entry in kept[count:] if self.work.drained(entry)]
            for entry in gone:
                self.work.take_out(entry)
            self._clear()
            stay = [f"{entry.version} stays for rollback" for entry in kept if entry not in gone]
            step["note"] = ", ".join([*stay, *(f"{entry.version} is retired" for entry in gone)])

    def _clear(self) -> None:
        """Take out what a rollout that was killed has left: versions of ours that the manifest does not name.

        Where the manifest was lost, it names none, and what was kept stays until the next rollout.
        """
        if self.standing.stage is Stage.FOUND:
            return
        named = {entry.version for entry in desired.read(self.settings.var) if entry.name == self.new.name}
        ours = {entry["version"] for entry in entries(self.settings.var) if entry["name"] == self.new.name}
        for version in ours - named - {self.new.version, self.former and self.former.version}:
            if self.client.describe(self.new.name, version) and self.client.default(self.new.name) != version:
                self.work.drained(Entry(self.new.name, version, f"{self.new.name}-{version}.mar", ""))
                self.client.unregister(self.new.name, version)

    def _undone(self) -> bool:
        """Have what was before: the former default and its manifest, and no new version; whether that is so."""
        if self.standing.stage is not Stage.NEW:
            return self.standing.stage is Stage.FOUND
        try:
            if self.former is not None and self.client.default(self.new.name) == self.new.version:
                self.client.set_default(self.former.name, self.former.version)
            if desired.read(self.settings.var) != self.before:
                desired.write(self.settings.var, self.before)
            if self.client.describe(self.new.name, self.new.version):
                self.work.drained(Entry(self.new.name, self.new.version, self.new.mar.name, ""))
                self.client.unregister(self.new.name, self.new.version)
            desired.drop_copies(self.settings.var, self.before)
        except (UserError, OSError) as error:
            click.echo(f"note: {self.new} could not be taken out again: {error}", err=True)
            return False
        return True
