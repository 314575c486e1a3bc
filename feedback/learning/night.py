"""One night, step by step; each step is written down, so that the same command goes on where it was stopped.

    pull, train, prune, export, judge, pack, announce

The steps call the existing commands as subprocesses, by default with the lowest priority, so that serving on the same
machine keeps its cores.
"""

import contextlib
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.console import note
from common.errors import Busy, CheckFailed, UserError
from common.files import write_json, writing
from feedback.learning.gate import LEAST_NEW
from feedback.learning.judge import gather, judge
from feedback.settings import ROOT
from handler.spec import read_spec

STATE, GATE = "state.json", "gate.json"


@dataclass(frozen=True)
class Plan:
    """What a night works with.

    Attributes:
        recipe: name or path.
        anchor: run whose weights the fine-tune starts from: the last one that a person signed.
        signed: bundle of the anchor, which the candidate is compared with.
        base: photos that are trained on every time.
        frozen: label folders of the frozen test photos.
        once_fixed: label folders of photos that were fixed once.
        prune: whether the fine-tuned run is pruned before it is exported.
        work: folder of snapshots, nights and archives.
        idle: whether the commands compute only while nobody else wants the cores.
        lock: descriptor of the lock of `work`: a command that outlives a killed night holds it until it ends.
    """

    recipe: str
    anchor: Path
    signed: Path
    base: tuple[Path, ...]
    frozen: Path
    once_fixed: Path | None
    prune: bool
    work: Path
    idle: bool = True
    lock: int | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        return read_spec(self.signed / "recipe.json").labels


class Night:
    """A night's folder with its state.

    Args:
        folder: created if it is missing.
    """

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder, self.plan = folder, plan
        self.state: dict[str, Any] = _read(folder / STATE)

    @property
    def finished(self) -> bool:
        return bool(self.state.get("verdict"))

    def note(self, **facts: Any) -> None:
        """Write a step down."""
        self.state |= facts
        write_json(self.folder / STATE, self.state)

    def candidate(self, snapshot: Path) -> Path:
        """Train, prune and export; the bundle.

        Raises:
            UserError: a command failed, with its message.
        """
        bundle = self.folder / "bundle"
        if bundle.is_dir():
            return bundle
        data = [word for folder in self.plan.base for word in ("--data", str(folder))]
        extra, runs = ["--extra", str(snapshot / "train.tsv")], ["--runs", str(self.folder / "runs")]
        start = ["--init-from", str(self.plan.anchor)]
        run = self._run("train", lambda: ["train", self.plan.recipe, *data, *extra, *start, *runs])
        if self.plan.prune:
            parent = str(run)
            run = self._run("prune", lambda: ["prune", parent, *data, *extra, *runs])
        self._call("training", "export", str(run), *data, "--out", str(bundle))
        return bundle

    def _run(self, step: str, words: Callable[[], Sequence[str]]) -> Path:
        """The run of a step: made now, or by an earlier start of this command."""
        done = sorted((self.folder / "runs").glob(f"*/*-{step}"))
        if not done:
            self._call("training", *words())
            done = sorted((self.folder / "runs").glob(f"*/*-{step}"))
        return done[-1]

    def judged(self, bundle: Path, snapshot: Path, tries: int) -> str:
        """Apply the gate and write gate.json; why it was refused, or "passed"."""
        evidence = gather(self.plan.frozen, snapshot, self.plan.once_fixed, self.plan.labels)
        verdict = judge(self.plan.signed, bundle, evidence, snapshot, tries)
        write_json(self.folder / GATE, verdict.as_json())
        return verdict.sentence

    def packed(self, bundle: Path, version: int) -> Path:
        """The archive of the candidate."""
        store = self.plan.work / "archives"
        archive = store / f"{read_spec(bundle / 'recipe.json').name}-{version}.0.mar"
        if not archive.is_file():
            self._call("deploy", "archive", str(bundle), f"{version}.0", SERVE_STORE=str(store))
        return archive

    def _call(self, package: str, *words: str, **environment: str) -> None:
        """Run a command of the project; its output is shown.

        Raises:
            UserError: it failed.
        """
        note(f"python -m {package} {' '.join(words)}")
        done = subprocess.run(
            [sys.executable, "-m", package, *words],
            cwd=ROOT,
            env={**os.environ, **environment},
            preexec_fn=yield_cores if self.plan.idle else None,
            start_new_session=self.plan.idle,  # the priority is that of a session: ours may be a person's terminal
            pass_fds=() if self.plan.lock is None else (self.plan.lock,),
            stdout=sys.stderr,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        sys.stderr.write(done.stderr)
        if done.returncode < 0:
            problem = f"{package} {words[0]} was killed by signal {-done.returncode}"
            raise UserError(problem, "the same command goes on there")
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1].removeprefix("Error: ")
            kind = CheckFailed if words[0] in ("export", "archive") else UserError
            raise kind(f"{package} {words[0]} failed: {last}")


@contextlib.contextmanager
def only_one(work: Path) -> Iterator[int]:
    """Hold the lock of a folder of nights; its descriptor.

    Raises:
        Busy: another night, or a command of one that was killed, works in it.
        CannotWrite: the folder cannot be written.
    """
    with writing(work):
        work.mkdir(parents=True, exist_ok=True)
        file = (work / ".lock").open("w", encoding="ascii")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Busy(f"another nightly run works in {work}", "wait for it, or give another --work") from error
        yield file.fileno()


def enough(new: int) -> bool:
    """Whether so many newly agreed photos are worth a try."""
    return new >= LEAST_NEW


def tries_since(work: Path, anchor: Path) -> int:
    """How many candidates were judged since an anchor was signed."""
    states = [_read(path) for path in work.glob(f"nights/*/{STATE}")]
    return sum(bool(state.get("verdict")) and state.get("anchor") == str(anchor) for state in states)


def unfinished(plan: Plan) -> Night | None:
    """A night that was stopped, if any."""
    for path in sorted(plan.work.glob(f"nights/*/{STATE}")):
        night = Night(path.parent, plan)
        if not night.finished and night.state.get("anchor") == str(plan.anchor):
            return night
    return None


def last_version(work: Path) -> int:
    """The highest version that a night has packed, announced or not; 0 if there is none."""
    return max((int(_read(path).get("version") or 0) for path in work.glob(f"nights/*/{STATE}")), default=0)


def learned_ids(work: Path) -> set[int]:
    """The photos that earlier nights have tried to learn from."""
    states = [_read(path) for path in work.glob(f"nights/*/{STATE}")]
    return {int(number) for state in states if state.get("verdict") for number in state.get("photos", [])}


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}


def yield_cores() -> None:
    """Compute only while nobody else wants the cores. `nice` alone has no effect between sessions (docs/log.md)."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text("19", encoding="ascii")
