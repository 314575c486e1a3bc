"""The record of a walk: runs/RECIPE/retrain/NAME/walk.json, and the lock that lets one process at a time work on it."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from pydantic import BaseModel, ValidationError

from common.errors import Busy, InvalidInput
from common.files import write_json, writing

FILE, LOCK = "walk.json", ".lock"


class StepRecord(BaseModel):
    """One step as it last ran.

    Attributes:
        words: the command, without the interpreter.
        inputs: digest of what it reads; with other words or inputs it runs again.
        started: seconds since 1970.
        seconds, output: once it is done.
    """

    words: list[str]
    inputs: str
    started: float
    seconds: float = 0.0
    output: str = ""


class WalkRecord(BaseModel):
    """The content of walk.json: the steps that ran or run, by name."""

    photos: str
    steps: dict[str, StepRecord] = {}


def read(folder: Path, photos: Path) -> WalkRecord:
    """The record of a walk; a new one if there is none.

    Raises:
        InvalidInput: it is damaged.
    """
    path = folder / FILE
    try:
        return WalkRecord.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return WalkRecord(photos=str(photos))
    except (OSError, ValueError, ValidationError) as error:
        raise InvalidInput(f"{path} is damaged", "remove it: the walk then starts again") from error


def write(folder: Path, record: WalkRecord) -> None:
    """Write the record. Raises: CannotWrite: the disk is full, or the folder is read-only."""
    with writing(folder, "free some disk space, or give --runs FOLDER"):
        write_json(folder / FILE, record.model_dump(mode="json"))


class Lock:
    """The lock of a walk, held by this process and by the command that it runs (which inherits the descriptor)."""

    def __init__(self, file: TextIO) -> None:
        self.file = file

    @property
    def descriptor(self) -> int:
        return self.file.fileno()

    def announce(self, step: str, process: int) -> None:
        """Write who works on what, for the message to a second walk."""
        self.file.seek(0)
        self.file.truncate()
        json.dump({"step": step, "process": process}, self.file)
        self.file.flush()


@contextmanager
def locked(folder: Path, photos: Path) -> Iterator[Lock]:
    """Hold the lock of a walk. The kernel releases it when the last of its processes ends, even after kill -9.

    Raises:
        Busy: another process works on this walk; names its step.
        CannotWrite: the folder cannot be written.
    """
    with writing(folder, "give --runs FOLDER"):
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("a+", encoding="utf-8")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _busy(file, photos) from None
        lock = Lock(file)
        lock.announce("start", os.getpid())
        yield lock


def _busy(file: TextIO, photos: Path) -> Busy:
    file.seek(0)
    try:
        owner = json.loads(file.read())
        step, process = str(owner["step"]), int(owner["process"])
    except (ValueError, KeyError, TypeError):
        return Busy(f"{photos} is being retrained by another process", "wait for it")
    return Busy(
        f"{photos} is being retrained already: process {process} is at the step {step}",
        f"wait for it, or stop it with kill {process} and run this again",
    )
