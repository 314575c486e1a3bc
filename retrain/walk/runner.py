"""Run the steps of a walk in order, skip those that are done, and resume the one that was interrupted."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from common.commands import WALK
from common.console import note
from common.errors import NotFound, UserError
from common.words import number_of
from retrain.walk.record import Lock, StepRecord, WalkRecord, locked, read, write
from retrain.walk.steps import STEPS, Plan, Request, Step


@dataclass(frozen=True)
class Finished:
    """One line of the summary: a step, its time in seconds in this walk, and what it left or why it did nothing."""

    name: str
    seconds: float
    text: str


class Walk:
    """A walk in progress; `plan.done` holds what its steps have left."""

    def __init__(self, request: Request, lock: Lock, fresh: bool) -> None:
        self.request, self.lock, self.plan = request, lock, Plan(request)
        self.folder = request.folder
        self.record = WalkRecord(photos=str(request.photos)) if fresh else read(self.folder, request.photos)
        self.began = time.monotonic()

    def run(self) -> list[Finished]:
        """All steps.

        Raises:
            UserError: a step failed or was interrupted; the same command continues with it.
        """
        return [self._do(name) for name in STEPS]

    def _do(self, name: str) -> Finished:
        header = f"step {STEPS.index(name) + 1} of {len(STEPS)}: {name}"
        if name in self.request.skip:
            note(f"{header}: skipped")
            return Finished(name, 0.0, "skipped")
        step = self.plan.step(name)
        if not step.words:
            note(f"{header}: nothing to do, {step.note}")
            return Finished(name, 0.0, step.note)
        record = self._known(name, step)
        if record is None or not record.output:
            elapsed = time.strftime("%H:%M:%S", time.gmtime(time.monotonic() - self.began))
            note(f"\n{header}, {elapsed} so far")
            record = self._run(name, step, header)
        else:
            note(f"{header}: done before, {record.output}")
        self.plan.done[name] = Path(record.output)
        return Finished(name, record.seconds, record.output)

    def _known(self, name: str, step: Step) -> StepRecord | None:
        """What an earlier walk recorded of the same step; its output too, if that was finished after a kill."""
        record = self.record.steps.get(name)
        if record is None or (record.words, record.inputs) != (list(step.words), step.inputs):
            return None
        if record.output and Path(record.output).exists():
            return record
        if output := step.output(record.started):
            return self._save(name, record.model_copy(update={"output": str(output)}))
        return None

    def _run(self, name: str, step: Step, header: str) -> StepRecord:
        record = StepRecord(words=list(step.words), inputs=step.inputs, started=time.time())
        self._save(name, record)
        code = self._command(name, step)
        output = step.output(record.started)
        if name == "label" and output is None and code == 0:
            raise UserError(
                f"{number_of(self.plan.undecided(), 'photo has', 'photos have')} no label yet",
                "run the same command to go on labelling",
            )
        if code < 0 or code == 128 + signal.SIGINT:
            raise UserError(f"interrupted in {header}", "the same command continues there")
        if code:
            raise UserError(f"{header} failed: see above", "the same command tries it again")
        if output is None:
            raise NotFound(
                f"{header} left nothing", "the same command tries it again; --fresh starts from the beginning"
            )
        seconds = round(time.time() - record.started, 1)
        return self._save(name, record.model_copy(update={"output": str(output), "seconds": seconds}))

    def _command(self, name: str, step: Step) -> int:
        """Run a command with our console; Ctrl-C and SIGTERM reach it. Returns: its exit code, negative if killed."""
        process = subprocess.Popen(
            [sys.executable, "-m", *step.words],
            env={**os.environ, WALK: name},
            pass_fds=(self.lock.descriptor,),
        )
        self.lock.announce(name, process.pid)
        before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        try:
            return self._wait(process, name)
        finally:
            signal.signal(signal.SIGTERM, before)

    def _wait(self, process: subprocess.Popen[bytes], name: str) -> int:
        interrupted = False
        while True:
            try:
                code = process.wait()
                return -signal.SIGINT if interrupted and name != "label" else code
            except KeyboardInterrupt:  # the terminal sent it to the command too, which ends by itself
                interrupted = True

    def _save(self, name: str, record: StepRecord) -> StepRecord:
        self.record.steps[name] = record
        write(self.folder, self.record)
        return record


def walk(request: Request, fresh: bool = False) -> tuple[Plan, list[Finished]]:
    """Make or resume a walk.

    Raises:
        Busy: another process works on it.
        UserError: a step failed.
    """
    with locked(request.folder, request.photos) as lock:
        running = Walk(request, lock, fresh)
        finished = running.run()
    return running.plan, finished
