"""The runs that were made: list them with metrics and lineage, compare two, delete some.

    python -m training runs
    python -m training runs --compare 20260101-000000-train 20260101-000100-prune
    python -m training runs --delete 20260101-000000-train

A run is a folder ROOT/RECIPE/ID with a name that training gave it; other folders are never listed and never
deleted. A child stands below its parent, the newest run last. A run that another run or a bundle in models/ or
an archive in model_store/ came from is deleted by --force only; copies elsewhere are not known here.
"""

import difflib
import fcntl
import itertools
import json
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from config.recipe import names
from training.runs import CHECKPOINT, KEY, PROGRESS, RUNS

ID = re.compile(r"\d{8}-\d{6}-(?P<step>[a-z]+)(-\d+)?")
BUNDLES, STORE = Path("models"), Path("model_store")
PARTIAL, DELETED = ".partial", ".deleted"
WIDTH = 160  # of tables that go into a file or a pipe, where there is no terminal to ask
COLUMNS = ("run", "backbone", "trained", "photos", "mean of classes (95 %)", "seconds", "commit", "gate", "packed")


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
        """Ids of the runs that this one names: its parent, and the members of a sweep."""
        rows = self.facts.get("rows")
        named = [self.facts.get("parent"), *(_dig(row, "run") for row in (rows if isinstance(rows, list) else []))]
        return [name for name in named if isinstance(name, str)]


@click.command(epilog="Example: python -m training runs")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--recipe", metavar="NAME", help="Only the runs of this recipe.")
@click.option(
    "--runs", "root", type=click.Path(path_type=Path), default=RUNS, show_default=True, help="Where runs are."
)
@click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")
@click.option("--compare", is_flag=True, help="Compare two runs or bundles, named by id or folder.")
@click.option("--delete", is_flag=True, help="Delete the runs named by id or folder, with the bundles in them.")
@click.option("--force", is_flag=True, help="Delete also what other runs or bundles came from.")
@click.option("--yes", is_flag=True, help="Delete without asking.")
def runs(
    ids: tuple[str, ...],
    recipe: str | None,
    root: Path,
    as_json: bool,
    compare: bool,
    delete: bool,
    force: bool,
    yes: bool,
) -> None:
    """List the runs that were made; with --compare or --delete, the runs of that ID."""
    _check(ids, compare, delete)
    every = read_runs(root)
    found = _of_recipe(every, recipe)
    if compare:
        first, second = (_named(word, found) for word in ids)
        show_comparison(first, second, as_json)
    elif delete:
        chosen = {run.folder: run for run in (find(word, found) for word in ids)}
        delete_runs(list(chosen.values()), every, root, force, yes)
    elif as_json:
        click.echo(json.dumps([describe(run) for _, run in tree(found)], indent=2, ensure_ascii=False))
    elif found:
        show(found)
    else:
        name = recipe or names()[0]
        click.echo(f"no run in {root}: make the first: python -m training train {name} --data PHOTOS", err=True)


def read_runs(root: Path) -> list[Run]:
    """All runs under a folder, by recipe and age; what is unfinished only where something was reached.

    Raises:
        click.ClickException: `root` is no folder, and not the default one.
    """
    if not root.is_dir() and root != RUNS:
        raise click.ClickException(f"{root} is no folder: give the --runs FOLDER that the runs were written to")
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
        click.ClickException: there is none (names the nearest), or two recipes have one of this id.
    """
    place = _place(Path(word))
    fitting = [run for run in found if word in (run.id, run.folder.name) or _place(run.folder) == place]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise click.ClickException(f"{word} is of several recipes: give {' or '.join(str(r.folder) for r in fitting)}")
    near = difflib.get_close_matches(Path(word).name, [run.id for run in found], 1)
    hint = f"did you mean {near[0]}?" if near else "python -m training runs lists them"
    raise click.ClickException(f"no run {word}: {hint}")


def tree(found: Sequence[Run]) -> list[tuple[int, Run]]:
    """Runs in the order of the list, each with its depth: below its parent, what has the newest run last."""
    newest = {run.task: run.id for run in sorted(found, key=lambda run: run.id)}
    tasks = sorted(newest, key=newest.__getitem__)
    return [row for task in tasks for row in _tree_of_task([run for run in found if run.task == task])]


def _tree_of_task(found: Sequence[Run]) -> list[tuple[int, Run]]:
    known = {run.id for run in found}
    children: dict[str, list[Run]] = {}
    for run in found:
        parent = str(run.facts.get("parent"))
        children.setdefault(parent if parent in known else "", []).append(run)

    def below(parent: str, depth: int) -> list[tuple[int, Run]]:
        branches = [[(depth, run), *below(run.id, depth + 1)] for run in children.get(parent, [])]
        return [row for branch in sorted(branches, key=_newest) for row in branch]

    ordered = below("", 0)
    lost = [run for run in found if run.id not in {shown.id for _, shown in ordered}]  # each other's parents
    return [*((0, run) for run in lost), *ordered]


def describe(run: Run) -> dict[str, Any]:
    """One run as plain data; what is not known is None."""
    photos, passed = _dig(run.facts, "data", "photos"), _dig(run.facts, "gate", "passed")
    return {
        "id": run.id,
        "recipe": run.task,
        "step": run.step,
        "state": run.state,
        "parent": run.facts.get("parent"),
        "backbone": _dig(run.recipe, "backbone", "name"),
        "trained": _trained(run),
        "photos": sum(n for n in photos.values() if isinstance(n, int)) if isinstance(photos, dict) else None,
        "mean_accuracy": _dig(run.facts, "metrics", "mean_accuracy"),
        "mean_accuracy_95": _dig(run.facts, "metrics", "mean_accuracy_95"),
        "summary": run.facts.get("summary"),
        "seconds": run.facts.get("seconds"),
        "commit": run.facts.get("commit"),
        "gate": None if passed is None else "passed" if passed is True else "failed",
        "packed": list(_packed(run)),
        "folder": str(run.folder),
    }


def show(found: Sequence[Run]) -> None:
    """Print a table for each recipe, that with the newest run last."""
    for task, rows in itertools.groupby(tree(found), key=lambda row: row[1].task):
        table = Table(*COLUMNS, title=task, title_justify="left")
        table.columns[0].no_wrap = True
        for depth, run in rows:
            table.add_row(*map(Text, _cells(depth, run)))
        _console().print(table)


def compared(first: Run, second: Run) -> list[dict[str, Any]]:
    """What differs between two runs, and what one wants to see even where it does not.

    Returns:
        rows of `key`, `values` (of the first, of the second; None where it has none) and `same`.
    """
    sides = [_flat(first), _flat(second)]
    rows = [(key, [side.get(key) for side in sides]) for key in dict.fromkeys([*sides[0], *sides[1]])]
    always = ("data", "validation", "mean_accuracy", "mean_accuracy_95", "seconds")
    return [{"key": k, "values": v, "same": v[0] == v[1]} for k, v in rows if k in always or v[0] != v[1]]


def show_comparison(first: Run, second: Run, as_json: bool) -> None:
    """Print what differs.

    Raises:
        click.ClickException: one of them is not complete.
    """
    for run in (first, second):
        if run.state != "complete":
            raise click.ClickException(f"{run.folder} is {run.state}: compare complete runs")
    rows = compared(first, second)
    if as_json:
        click.echo(json.dumps({"runs": [first.id, second.id], "rows": rows}, indent=2, ensure_ascii=False))
        return
    table = Table("", str(first.folder), str(second.folder), "")
    for row in rows:
        table.add_row(*map(Text, (row["key"], *map(_cell, row["values"]), "same" if row["same"] else "different")))
    _console().print(table)
    if not all(row["same"] for row in rows if row["key"] == "validation"):
        click.echo("they were validated on different photos: a difference in accuracy may be the photos'", err=True)


def delete_runs(chosen: Sequence[Run], every: Sequence[Run], root: Path, force: bool, yes: bool) -> None:
    """Delete runs, the newest first, each out of sight before its first file goes.

    Args:
        every: all runs under `root`: those that came from a chosen one protect it, unless they are chosen too.

    Raises:
        click.ClickException: one must not be deleted (then none is), or cannot be.
    """
    for run in chosen:
        _refuse(run, chosen, every, root, force)
    if not yes:
        click.confirm(f"delete {', '.join(map(_with_bundle, chosen))}?", abort=True)
    for left in root.glob(f"*/.*{DELETED}"):  # of a deletion that was interrupted
        if ID.fullmatch(left.name[1:].removesuffix(DELETED).removesuffix(PARTIAL)) and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
    for run in sorted(chosen, key=lambda run: run.id, reverse=True):
        hidden = run.folder.with_name(f".{run.folder.name}{DELETED}")
        try:
            run.folder.rename(hidden)
            shutil.rmtree(hidden)
        except OSError as error:
            raise click.ClickException(f"{run.folder} cannot be deleted: {error}") from error
        click.echo(f"{run.folder}: deleted")


def _check(ids: Sequence[str], compare: bool, delete: bool) -> None:
    if compare and delete:
        raise click.ClickException("give --compare or --delete, not both")
    if compare and len(ids) != 2:
        raise click.ClickException(f"--compare takes two runs, {len(ids)} given: python -m training runs --compare A B")
    if delete and not ids:
        raise click.ClickException("--delete takes the runs to delete: python -m training runs --delete ID")
    if ids and not (compare or delete):
        raise click.ClickException(f"{ids[0]}: say what to do with it: --compare A B, or --delete ID")


def _of_recipe(found: list[Run], recipe: str | None) -> list[Run]:
    legal = {*names(), *(run.task for run in found)}
    if recipe and recipe not in legal:
        near = difflib.get_close_matches(recipe, legal, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise click.ClickException(f"--recipe {recipe}: {hint}legal are {', '.join(sorted(legal))}")
    return [run for run in found if recipe in (None, run.task)]


def _named(word: str, found: Sequence[Run]) -> Run:
    """As `find`; a bundle or a run that lies elsewhere may be named by its folder."""
    run = read_run(Path(word)) if (Path(word) / "run.json").is_file() else None
    return run or find(word, found)


def _refuse(run: Run, chosen: Sequence[Run], every: Sequence[Run], root: Path, force: bool) -> None:
    if run.folder.resolve() != root.resolve() / run.task / run.folder.name:
        raise click.ClickException(f"{run.folder} is a link, or lies behind one: delete it where it is")
    if run.state == "unfinished" and _in_work(run.folder):
        raise click.ClickException(f"{run.folder} is being made: stop that process first")
    needed = [other.id for other in every if run.id in other.parents and other not in [run, *chosen]]
    needed += _shipped(run)
    if needed and not force:
        raise click.ClickException(f"{run.folder}: {', '.join(needed)} came from it: give --force to delete it anyway")


def _in_work(folder: Path) -> bool:
    try:
        with (folder / KEY).open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _shipped(run: Run) -> Iterator[str]:
    """The bundles and archives, outside the run, that were made of it."""
    for path in sorted(BUNDLES.glob("*/run.json")):
        made = _json(path)
        if (made.get("recipe"), made.get("id")) == (run.task, run.id):
            yield str(path.parent)
    for path in sorted(STORE.glob("*.json")):
        made = _json(path)
        if (made.get("name"), made.get("run")) == (run.task, run.id):
            yield path.stem


def _packed(run: Run) -> Iterator[str]:
    if (run.folder / "bundle").is_dir():
        yield "bundle"
    yield from _shipped(run)


def _with_bundle(run: Run) -> str:
    return f"{run.folder} and the bundle in it" if (run.folder / "bundle").is_dir() else str(run.folder)


def _trained(run: Run) -> str | None:
    """Which layers: pruning fine-tunes all of them, whatever training did; other steps do both, or neither."""
    if run.step not in ("train", "prune") or not run.recipe:
        return None
    return "frozen" if run.step == "train" and _dig(run.recipe, "train", "freeze") is True else "full"


def _cells(depth: int, run: Run) -> list[str]:
    row = describe(run)
    parent = f" of {row['parent']}" if row["parent"] and not depth else ""  # deleted, or of another recipe
    name = f"{'  ' * (depth - 1)}{'└ ' if depth else ''}{run.id}{parent}"
    seconds = f"{row['seconds']:,.0f}" if isinstance(row["seconds"], int | float) else ""
    middle = [_cell(row[key]) for key in ("backbone", "trained", "photos")]
    return [name, *middle, _told(row), seconds, _cell(row["commit"])[:7], _cell(row["gate"]), ", ".join(row["packed"])]


def _told(row: dict[str, Any]) -> str:
    """How accurate; of a run with scores of several kinds (cross-validation, a sweep) what it says itself."""
    if row["state"] != "complete":
        return str(row["state"])
    match row["mean_accuracy"], row["mean_accuracy_95"]:
        case float(mean), [float(low), float(high)]:
            return f"{mean:.1%} ({low:.1%} to {high:.1%})"
    return _cell(row["summary"])


def _cell(value: Any) -> str:
    if isinstance(value, str) or value is None:
        return value or ""
    return json.dumps(value, ensure_ascii=False)


def _flat(run: Run) -> dict[str, Any]:
    """A run by dotted keys, in the order in which one asks; photos as counts and a digest."""
    facts = run.facts
    flat: dict[str, Any] = {name: _photos(facts[name]) for name in ("data", "validation", "extra") if name in facts}
    scores = _leaves(facts.get("metrics") or {})
    flat |= {key: value for key, value in scores if not key.endswith(("confusion", "labels"))}
    flat |= {key: facts.get(key) for key in ("seconds", "parent", "commit", "python")}
    return flat | dict(
        _leaves({**{key: facts.get(key, {}) for key in ("gate", "after", "packages")}, "recipe": run.recipe})
    )


def _photos(prints: Any) -> str:
    counts = _dig(prints, "photos")
    each = ", ".join(f"{count} {label}" for label, count in counts.items()) if isinstance(counts, dict) else "?"
    return f"{each}; {str(_dig(prints, 'sha256'))[:12]}"


def _leaves(content: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(content, dict):
        yield prefix, content
        return
    for key, value in content.items():
        yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))


def _newest(branch: Sequence[tuple[int, Run]]) -> str:
    return max(run.id for _, run in branch)


def _place(path: Path) -> Path:
    """Where a path is, a link at its end not followed."""
    return path.parent.resolve() / path.name


def _dig(content: Any, *keys: str) -> Any:
    for key in keys:
        content = content.get(key) if isinstance(content, dict) else None
    return content


def _json(path: Path) -> dict[str, Any]:
    """A JSON object; an empty one where it cannot be read: one damaged file must not hide the other runs."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else WIDTH)
