"""List runs with metrics and lineage, compare two, delete some.

    python -m training runs
    python -m training runs --compare 20260101-000000-train 20260101-000100-prune
    python -m training runs --delete 20260101-000000-train

A run is a folder ROOT/RECIPE/ID whose name was given by training; other folders are never listed or deleted. A child is
listed below its parent, and the newest run last. A run that another run, a bundle in models/ or an archive in
model_store/ was made from is deleted only with --force; copies elsewhere are not known.
"""

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from common.cli import command
from common.commands import pasteable
from common.console import compact_table, console
from common.errors import InvalidInput, NotFound
from common.words import did_you_mean, number_of
from config.recipe import names
from training.records.compare import as_table, compare_runs
from training.records.delete import check_deletable, delete_runs
from training.records.folder import RUNS
from training.records.index import Run, age, find, packed_from, read_run, read_runs
from training.records.run import RUN, CrossValidated, Metrics, Swept


@command(epilog="Example: python -m training runs")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--recipe", metavar="NAME", help="Only the runs of this recipe.")
@click.option(
    "--runs", "root", type=click.Path(path_type=Path), default=RUNS, show_default=True, help="Where the runs are."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.option("--compare", is_flag=True, help="Compare two runs or bundles, named by id or folder.")
@click.option("--delete", is_flag=True, help="Delete the runs named by id or folder, with the bundles in them.")
@click.option("--force", is_flag=True, help="Also delete runs that other runs or bundles were made from.")
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
    """List the runs; with --compare or --delete, compare or delete the runs of these IDs."""
    _check(ids, compare, delete)
    everything = read_runs(root)
    selected = _of_recipe(everything, recipe)
    if compare:
        _compare(_named(ids[0], selected), _named(ids[1], selected), as_json)
    elif delete:
        _delete(ids, selected, everything, root, force, yes)
    elif as_json:
        click.echo(json.dumps([describe(run) for _, run in tree(selected)], indent=2, ensure_ascii=False))
    elif selected:
        show(selected)
    else:
        words = ("training", "train", recipe or "RECIPE", "--data", "PHOTOS")
        click.echo(f"no run in {root.resolve()} yet: create one with {pasteable(*words)}", err=True)


def tree(runs: Sequence[Run]) -> list[tuple[int, Run]]:
    """Runs in the order of the list, each with its depth: children below their parent, newest branch last."""
    newest = {run.task: run.id for run in sorted(runs, key=lambda run: age(run.id))}
    tasks = sorted(newest, key=newest.__getitem__)
    return [row for task in tasks for row in _tree_of_task([run for run in runs if run.task == task])]


def _tree_of_task(runs: Sequence[Run]) -> list[tuple[int, Run]]:
    known = {run.id for run in runs}
    children: dict[str, list[Run]] = {}
    for run in runs:
        parent = str(run.parent)
        children.setdefault(parent if parent in known else "", []).append(run)

    def below(parent: str, depth: int) -> list[tuple[int, Run]]:
        branches = [[(depth, run), *below(run.id, depth + 1)] for run in children.get(parent, [])]
        return [row for branch in sorted(branches, key=_newest) for row in branch]

    ordered = below("", 0)
    cyclic = [run for run in runs if run.id not in {shown.id for _, shown in ordered}]  # each other's parents
    return [*((0, run) for run in cyclic), *ordered]


def describe(run: Run) -> dict[str, Any]:
    """One run as plain data; unknown values are None."""
    record, recipe = run.record, run.recipe
    metrics = record.metrics if record else None
    return {
        "id": run.id,
        "recipe": run.task,
        "step": run.step,
        "state": str(run.state),
        "parent": run.parent,
        "backbone": recipe.backbone.name if recipe else None,
        "trained": _trained(run),
        "photos": record.inputs.data.count if record and record.inputs.data else None,
        "mean_accuracy": metrics.mean_accuracy if metrics else None,
        "mean_accuracy_95": metrics.mean_accuracy_95 if metrics else None,
        "summary": record.summary if record else None,
        "seconds": record.seconds if record else None,
        "commit": record.origin.commit if record else None,
        "gate": None if not record or not record.gate else "passed" if record.gate.passed else "failed",
        "packed": list(_packed(run)),
        "folder": str(run.folder),
    }


def show(runs: Sequence[Run]) -> None:
    """Print a table for each recipe, readable in 80 columns; the recipe of the newest run last."""
    for task, rows in itertools.groupby(tree(runs), key=lambda row: row[1].task):
        table = compact_table(title=task)
        table.add_column("run", no_wrap=True)
        for title in ("model", "balanced accuracy\n(95 %)", "gate, packed"):
            table.add_column(title, overflow="fold")
        for depth, run in rows:
            table.add_row(*map(Text, _cells(depth, run)))
        console.print(table)


def _compare(first: Run, second: Run, as_json: bool) -> None:
    rows = compare_runs(first, second)
    if as_json:
        content = {"runs": [first.id, second.id], "rows": [row.as_json() for row in rows]}
        click.echo(json.dumps(content, indent=2, ensure_ascii=False))
        return
    console.print(as_table(first, second, rows))
    if not all(row.same for row in rows if row.key == "validation"):
        click.echo("they were validated on different photos, which may explain a difference in accuracy", err=True)


def _delete(
    ids: Sequence[str], selected: Sequence[Run], everything: Sequence[Run], root: Path, force: bool, yes: bool
) -> None:
    chosen = list({run.folder: run for run in (find(name, selected) for name in ids)}.values())
    check_deletable(chosen, everything, root, force)
    if not yes:
        click.confirm(f"delete {', '.join(map(_with_bundle, chosen))}?", abort=True)
    for folder in delete_runs(chosen, root):
        click.echo(f"{folder}: deleted")


def _with_bundle(run: Run) -> str:
    return f"{run.folder} and the bundle in it" if (run.folder / "bundle").is_dir() else str(run.folder)


def _check(ids: Sequence[str], compare: bool, delete: bool) -> None:
    if compare and delete:
        raise InvalidInput("give --compare or --delete, not both")
    if compare and len(ids) != 2:
        raise InvalidInput(f"--compare needs two runs, {len(ids)} given", "python -m training runs --compare A B")
    if delete and not ids:
        raise InvalidInput("--delete needs the runs to delete", "python -m training runs --delete ID")
    if ids and not (compare or delete):
        raise InvalidInput(f"{ids[0]}: no action was given", "add --compare A B, or --delete ID")


def _of_recipe(runs: list[Run], recipe: str | None) -> list[Run]:
    legal = {*names(), *(run.task for run in runs)}
    if recipe and recipe not in legal:
        raise NotFound(f"--recipe {recipe}", f"{did_you_mean(recipe, legal)}legal are {', '.join(sorted(legal))}")
    return [run for run in runs if recipe in (None, run.task)]


def _named(name: str, runs: Sequence[Run]) -> Run:
    """As `find`; a bundle, or a run in another place, may be named by its folder."""
    run = read_run(Path(name)) if (Path(name) / RUN).is_file() else None
    return run or find(name, runs)


def _packed(run: Run) -> Iterator[str]:
    if (run.folder / "bundle").is_dir():
        yield "bundle"
    yield from packed_from(run)


def _trained(run: Run) -> str | None:
    """Which layers were trained: pruning always fine-tunes all; other steps than these two do both, or neither."""
    if run.step not in ("train", "prune") or not run.recipe:
        return None
    return "frozen" if run.step == "train" and run.recipe.train.freeze else "full"


def _cells(depth: int, run: Run) -> list[str]:
    row = describe(run)
    indent = "  " * (depth - 1) + ("└ " if depth else "")
    name = [indent + run.id]
    if row["parent"] and not depth:  # the parent was deleted, or is of another recipe
        name.append(f"  of {row['parent']}")
    seconds = f"{row['seconds']:,.0f} s" if row["seconds"] is not None else None
    name.append(" " * len(indent) + "  " + ", ".join(filter(None, (seconds, (row["commit"] or "")[:7]))))
    trained = ", ".join(filter(None, (row["trained"], number_of(row["photos"], "photo") if row["photos"] else None)))
    model = filter(None, (row["backbone"], trained))
    gate = [row["gate"] or "", *row["packed"]]
    return ["\n".join(name).rstrip(), "\n".join(model), _accuracy(run), "\n".join(filter(None, gate))]


def _accuracy(run: Run) -> str:
    """Balanced accuracy with its interval; of a cross-validation the first condition's, of a sweep the best one."""
    if run.record is None:
        return str(run.state)
    if isinstance(run.record.result, Swept):
        best = max(run.record.result.rows, key=lambda row: row.mean_accuracy)
        return f"best {best.mean_accuracy:.1%}\n{best.backbone}, {best.mode}"
    metrics = run.record.metrics
    if isinstance(run.record.result, CrossValidated):
        metrics = next(iter(run.record.result.metrics.values()), None)
    return _interval(metrics) if metrics else ""


def _interval(metrics: Metrics) -> str:
    low_high = metrics.mean_accuracy_95
    return f"{metrics.mean_accuracy:.1%}" + (f"\n({low_high[0]:.1%} to {low_high[1]:.1%})" if low_high else "")


def _newest(branch: Sequence[tuple[int, Run]]) -> str:
    return max(run.id for _, run in branch)
