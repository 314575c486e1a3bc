"""The runs that were made: list them with metrics and lineage, compare two, delete some.

    python -m training runs
    python -m training runs --compare 20260101-000000-train 20260101-000100-prune
    python -m training runs --delete 20260101-000000-train

A run is a folder ROOT/RECIPE/ID with a name that training gave it; other folders are never listed and never
deleted. A child stands below its parent, the newest run last. A run that another run or a bundle in models/ or
an archive in model_store/ came from is deleted by --force only; copies elsewhere are not known here.
"""

import difflib
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from common.cli import command
from common.errors import UserError
from config.recipe import names
from training.records.compare import show_comparison
from training.records.delete import delete_runs
from training.records.index import Run, cell, console, dig, find, read_run, read_runs, shipped
from training.records.run import RUNS

COLUMNS = ("run", "backbone", "trained", "photos", "mean of classes (95 %)", "seconds", "commit", "gate", "packed")


@command(epilog="Example: python -m training runs")
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
    photos, passed = dig(run.facts, "data", "photos"), dig(run.facts, "gate", "passed")
    return {
        "id": run.id,
        "recipe": run.task,
        "step": run.step,
        "state": run.state,
        "parent": run.facts.get("parent"),
        "backbone": dig(run.recipe, "backbone", "name"),
        "trained": _trained(run),
        "photos": sum(n for n in photos.values() if isinstance(n, int)) if isinstance(photos, dict) else None,
        "mean_accuracy": dig(run.facts, "metrics", "mean_accuracy"),
        "mean_accuracy_95": dig(run.facts, "metrics", "mean_accuracy_95"),
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
        console().print(table)


def _check(ids: Sequence[str], compare: bool, delete: bool) -> None:
    if compare and delete:
        raise UserError("give --compare or --delete, not both")
    if compare and len(ids) != 2:
        raise UserError(f"--compare takes two runs, {len(ids)} given: python -m training runs --compare A B")
    if delete and not ids:
        raise UserError("--delete takes the runs to delete: python -m training runs --delete ID")
    if ids and not (compare or delete):
        raise UserError(f"{ids[0]}: say what to do with it: --compare A B, or --delete ID")


def _of_recipe(found: list[Run], recipe: str | None) -> list[Run]:
    legal = {*names(), *(run.task for run in found)}
    if recipe and recipe not in legal:
        near = difflib.get_close_matches(recipe, legal, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(f"--recipe {recipe}: {hint}legal are {', '.join(sorted(legal))}")
    return [run for run in found if recipe in (None, run.task)]


def _named(word: str, found: Sequence[Run]) -> Run:
    """As `find`; a bundle or a run that lies elsewhere may be named by its folder."""
    run = read_run(Path(word)) if (Path(word) / "run.json").is_file() else None
    return run or find(word, found)


def _packed(run: Run) -> Iterator[str]:
    if (run.folder / "bundle").is_dir():
        yield "bundle"
    yield from shipped(run)


def _trained(run: Run) -> str | None:
    """Which layers: pruning fine-tunes all of them, whatever training did; other steps do both, or neither."""
    if run.step not in ("train", "prune") or not run.recipe:
        return None
    return "frozen" if run.step == "train" and dig(run.recipe, "train", "freeze") is True else "full"


def _cells(depth: int, run: Run) -> list[str]:
    row = describe(run)
    parent = f" of {row['parent']}" if row["parent"] and not depth else ""  # deleted, or of another recipe
    name = f"{'  ' * (depth - 1)}{'└ ' if depth else ''}{run.id}{parent}"
    seconds = f"{row['seconds']:,.0f}" if isinstance(row["seconds"], int | float) else ""
    middle = [cell(row[key]) for key in ("backbone", "trained", "photos")]
    return [name, *middle, _told(row), seconds, cell(row["commit"])[:7], cell(row["gate"]), ", ".join(row["packed"])]


def _told(row: dict[str, Any]) -> str:
    """How accurate; of a run with scores of several kinds (cross-validation, a sweep) what it says itself."""
    if row["state"] != "complete":
        return str(row["state"])
    match row["mean_accuracy"], row["mean_accuracy_95"]:
        case float(mean), [float(low), float(high)]:
            return f"{mean:.1%} ({low:.1%} to {high:.1%})"
    return cell(row["summary"])


def _newest(branch: Sequence[tuple[int, Run]]) -> str:
    return max(run.id for _, run in branch)
