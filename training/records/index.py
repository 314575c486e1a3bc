"""The runs that were made, as their folders tell: read them, find one, and what was made of it outside of it.

A run is a folder ROOT/RECIPE/ID with a name that training gave it; other folders are never read as one.
"""

import difflib
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from common.errors import UserError
from training.records.run import CHECKPOINT, PROGRESS, RUNS

ID = re.compile(r"\d{8}-\d{6}-(?P<step>[a-z]+)(-\d+)?")
BUNDLES, STORE = Path("models"), Path("model_store")
PARTIAL = ".partial"
WIDTH = 160  # of tables that go into a file or a pipe, where there is no terminal to ask


@dataclass(frozen=True)
class Run:
    """A folder of runs/RECIPE/: `complete`, `unfinished` (stopped or being made), or `damaged` (unreadable JSON)."""

    folder: Path
    state: str
    facts: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return self.folder.name.removesuffix(PARTIAL)

    @property
    def task(self) -> str:
        return self.folder.parent.name

    @property
    def step(self) -> str:
        named = ID.fullmatch(self.id)
        return str(self.facts.get("step") or (named["step"] if named else ""))

    @property
    def parents(self) -> list[str]:
        """Ids of the runs that this one names: its parent, its teacher, and the members of a sweep."""
        rows = self.facts.get("rows")
        named = [
            *(self.facts.get(key) for key in ("parent", "teacher")),
            *(dig(row, "run") for row in (rows if isinstance(rows, list) else [])),
        ]
        return [name for name in named if isinstance(name, str)]


def read_runs(root: Path) -> list[Run]:
    """All runs under a folder, by recipe and age; what is unfinished only where something was reached.

    Raises:
        UserError: `root` is no folder, and not the default one.
    """
    if not root.is_dir() and root != RUNS:
        raise UserError(f"{root} is no folder: give the --runs FOLDER that the runs were written to")
    folders = (path for path in sorted(root.glob("*/*")) if path.is_dir())
    entries = (read_run(path) for path in folders if ID.fullmatch(path.name.removesuffix(PARTIAL)))
    return [run for run in entries if run]


def read_run(folder: Path) -> Run | None:
    """One run; None for an unfinished one that reached nothing."""
    if folder.name.endswith(PARTIAL):
        reached = any((folder / name).exists() for name in (CHECKPOINT, PROGRESS))
        return Run(folder, "unfinished") if reached else None
    facts, recipe = (_json(folder / name) for name in ("run.json", "recipe.json"))
    return Run(folder, "complete" if facts and recipe else "damaged", facts, recipe)


def find(word: str, found: Sequence[Run]) -> Run:
    """The run of an id or a folder.

    Raises:
        UserError: there is none (names the nearest), or two recipes have one of this id.
    """
    place = _place(Path(word))
    fitting = [run for run in found if word in (run.id, run.folder.name) or _place(run.folder) == place]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise UserError(f"{word} is of several recipes: give {' or '.join(str(r.folder) for r in fitting)}")
    near = difflib.get_close_matches(Path(word).name, [run.id for run in found], 1)
    hint = f"did you mean {near[0]}?" if near else "python -m training runs lists them"
    raise UserError(f"no run {word}: {hint}")


def shipped(run: Run) -> Iterator[str]:
    """The bundles and archives, outside the run, that were made of it."""
    for path in sorted(BUNDLES.glob("*/run.json")):
        made = _json(path)
        if (made.get("recipe"), made.get("id")) == (run.task, run.id):
            yield str(path.parent)
    for path in sorted(STORE.glob("*.json")):
        made = _json(path)
        if (made.get("name"), made.get("run")) == (run.task, run.id):
            yield path.stem


def dig(content: Any, *keys: str) -> Any:
    """What lies below the keys of nested dicts; None where one is missing."""
    for key in keys:
        content = content.get(key) if isinstance(content, dict) else None
    return content


def cell(value: Any) -> str:
    """A value of run.json in a table: text as it is, None empty, else JSON."""
    if isinstance(value, str) or value is None:
        return value or ""
    return json.dumps(value, ensure_ascii=False)


def console() -> Console:
    """Where tables are printed: as wide as the terminal, or WIDTH where there is none."""
    return Console(width=None if sys.stdout.isatty() else WIDTH)


def _place(path: Path) -> Path:
    """Where a path is, a link at its end not followed."""
    return path.parent.resolve() / path.name


def _json(path: Path) -> dict[str, Any]:
    """A JSON object; an empty one where it cannot be read: one damaged file must not hide the other runs."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
