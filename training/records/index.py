"""The runs on disk: list them, find one, and name the bundles and archives that were made from it.

A run is a folder ROOT/RECIPE/ID whose name was given by training; other folders are never read as runs.
"""

import json
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from common.console import note
from common.errors import InvalidInput, NotFound, UserError
from common.words import did_you_mean
from config.recipe import Recipe
from training.records.folder import CHECKPOINT, PARTIAL, PROGRESS, RUNS
from training.records.run import RUN, RunRecord, read_recipe_of, read_record

ID = re.compile(r"(?P<time>\d{8}-\d{6})-(?P<step>[a-z]+)(-(?P<number>\d+))?")
LATEST = "latest"
MODEL_STEPS = ("train", "prune")
"""Steps whose runs have a model."""
BUNDLES, STORE = Path("models"), Path("model_store")


class State(StrEnum):
    """`unfinished`: interrupted, or being made; `damaged`: run.json or recipe.json cannot be read."""

    COMPLETE = "complete"
    UNFINISHED = "unfinished"
    DAMAGED = "damaged"


@dataclass(frozen=True)
class Run:
    """A folder of runs/RECIPE/; record and recipe only if it is complete."""

    folder: Path
    state: State
    record: RunRecord | None = None
    recipe: Recipe | None = None

    @property
    def id(self) -> str:
        return self.folder.name.removesuffix(PARTIAL)

    @property
    def task(self) -> str:
        return self.folder.parent.name

    @property
    def step(self) -> str:
        match = ID.fullmatch(self.id)
        return self.record.step if self.record else match["step"] if match else ""

    @property
    def parent(self) -> str | None:
        return self.record.inputs.parent if self.record else None


def read_runs(root: Path) -> list[Run]:
    """All runs under a folder, by recipe and age; unfinished ones only if they can be resumed.

    Raises:
        NotFound: `root` does not exist and is not the default folder.
    """
    if not root.is_dir() and root != RUNS:
        raise NotFound(f"{root} is not a folder", "give the --runs FOLDER that the runs were written to")
    folders = (path for path in sorted(root.glob("*/*")) if path.is_dir())
    runs = (read_run(path) for path in folders if ID.fullmatch(path.name.removesuffix(PARTIAL)))
    return [run for run in runs if run]


def read_run(folder: Path) -> Run | None:
    """One run; None for an unfinished one that cannot be resumed. A damaged run must not hide the others."""
    if folder.name.endswith(PARTIAL):
        resumable = any((folder / name).exists() for name in (CHECKPOINT, PROGRESS))
        return Run(folder, State.UNFINISHED) if resumable else None
    try:
        return Run(folder, State.COMPLETE, read_record(folder), read_recipe_of(folder))
    except UserError:
        return Run(folder, State.DAMAGED)


def age(run_id: str) -> tuple[str, int]:
    """A key that sorts the runs of a recipe, oldest first: the second one that began in a second is called ID-2."""
    match = ID.fullmatch(run_id)
    return (match["time"], int(match["number"] or 1)) if match else ("", 0)


def of_step(folders: Iterable[Path], step: str) -> list[Path]:
    """Those of the folders that are complete runs of a step, oldest first."""
    runs = [path for path in folders if (match := ID.fullmatch(path.name)) and match["step"] == step]
    return sorted(runs, key=lambda path: age(path.name))


def find(name: str, runs: Sequence[Run]) -> Run:
    """The run with an id or a folder.

    Raises:
        NotFound: there is none (names the nearest).
        InvalidInput: runs of two recipes have this id.
    """
    if is_latest(name):
        complete = [run for run in runs if run.state is State.COMPLETE and run.step in MODEL_STEPS]
        newest = max(complete, key=lambda run: age(run.id), default=None)
        name = str(newest.folder) if newest else name
    folder = _absolute(Path(name))
    matches = [run for run in runs if name in (run.id, run.folder.name) or _absolute(run.folder) == folder]
    if len(matches) == 1:
        return matches[0]
    if matches:
        folders = " or ".join(str(run.folder) for run in matches)
        raise InvalidInput(f"several recipes have a run {name}", f"give one of {folders}")
    hint = did_you_mean(Path(name).name, [run.id for run in runs]).rstrip()
    raise NotFound(f"no run {name}", hint or "python -m training runs lists them")


def is_latest(name: str) -> bool:
    """Whether a run is named `latest` or `RECIPE/latest`, and no folder is."""
    return Path(name).name == LATEST and not Path(name).exists()


def latest_run(name: str, steps: Collection[str] = MODEL_STEPS, root: Path = RUNS, recipe: str = "") -> Path:
    """The folder of the newest complete run that one of these steps made.

    Args:
        name: `latest`, or `RECIPE/latest` for the runs of one recipe; runs/RECIPE/latest is the same.
        recipe: with `latest`, only its runs.

    Raises:
        NotFound: there is none.
    """
    place = Path(name).parent
    if place == Path():
        folder = root / recipe
    else:
        folder = place if place.is_dir() or place.parts[: len(root.parts)] == root.parts else root / place
    places = [*folder.glob("*"), *folder.glob("*/*")]
    named = [path for path in places if (match := ID.fullmatch(path.name)) and match["step"] in steps]
    for path in sorted(named, key=lambda path: path.name, reverse=True):
        if (run := read_run(path)) and run.state is State.COMPLETE:
            note(f"{name} is {path}")
            return path
    raise NotFound(
        f"{name}: there is no complete run of {' or '.join(steps)} in {folder.resolve()}",
        "python -m training runs lists all; python -m training train RECIPE --data PHOTOS makes one",
    )


def packed_from(run: Run) -> Iterator[str]:
    """The bundles in models/ and archives in model_store/ that were made from a run."""
    for path in sorted(BUNDLES.glob(f"*/{RUN}")):
        content = _json(path)
        if (content.get("recipe"), content.get("id")) == (run.task, run.id):
            yield str(path.parent)
    for path in sorted(STORE.glob("*.json")):
        content = _json(path)
        if (content.get("name"), content.get("run")) == (run.task, run.id):
            yield path.stem


def _absolute(path: Path) -> Path:
    """The absolute path; a link in its last part is not followed."""
    return path.parent.resolve() / path.name


def _json(path: Path) -> dict[str, Any]:
    """A JSON object; an empty one if it cannot be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
