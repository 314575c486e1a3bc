"""Command-line options that several commands share. Only command files import this module."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import click

from config.recipe import read_recipe
from dataset.photos import PARTS
from training.records.folder import RUNS
from training.records.index import MODEL_STEPS, is_latest, latest_run

Command = Callable[..., Any]


class RunFolder(click.Path):
    """The folder of a run or a bundle; or `latest`, the newest complete run that one of `steps` made.

    `RECIPE/latest` is the newest of one recipe; after an eager argument `recipe`, `latest` is the newest of that one.
    """

    name = "run"

    def __init__(self, steps: Collection[str] = MODEL_STEPS) -> None:
        super().__init__(exists=True, file_okay=False, path_type=Path)
        self.steps = steps

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not is_latest(str(value)):
            return super().convert(value, param, ctx)
        given = ctx.params if ctx else {}
        recipe = read_recipe(given["recipe"]).name if given.get("recipe") else ""
        return latest_run(str(value), self.steps, given.get("root") or RUNS, recipe)


extra_option = click.option(
    "--extra",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="Like --data, but used for training only, never held out or tested (drawn photos, for example).",
)
runs_option = click.option(
    "--runs",
    "root",
    default=RUNS,
    show_default=True,
    is_eager=True,  # RunFolder reads it
    type=click.Path(path_type=Path),
    help="Where runs are written.",
)
fresh_option = click.option(
    "--fresh", is_flag=True, help="Start from the beginning instead of resuming an interrupted run."
)
part_option = click.option(
    "--part",
    type=click.Choice([*PARTS, "all"]),
    help="Part of a split.  [default: val; for data without a split, what RUN held out, or all if RUN never saw it]",
)
run_argument = click.argument("run", type=RunFolder())
unlabelled_option = click.option(
    "--unlabelled",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Photos without labels: only the teacher's probabilities are learned from them. May be repeated.",
)


def data_words(
    data: Sequence[Path], where: Sequence[str], extra: Sequence[Path] = (), outside: Sequence[Path] = ()
) -> list[str]:
    """The words of `data_options`, `extra_option` and `outside_option` again, for the command of the next step."""
    pairs = [("--data", data), ("--where", where), ("--extra", extra), ("--outside", outside)]
    return [word for option, values in pairs for value in values for word in (option, str(value))]


def runs_words(root: Path) -> list[str]:
    """The words of `runs_option` again."""
    return [] if root == RUNS else ["--runs", str(root)]


outside_option = click.option(
    "--outside",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    metavar="FOLDER",
    help="Photos of none of the classes (or a table of them): the model also learns what is out of scope. "
    "May be repeated.",
)


def data_options(command: Command) -> Command:
    """Add --data (repeatable) and --where."""
    command = click.option(
        "--where", metavar="COLUMN=VALUE", multiple=True, help="Keep photos whose row in the table has this value."
    )(command)
    return click.option(
        "--data",
        multiple=True,
        required=True,
        type=click.Path(exists=True, path_type=Path),
        help="Label folders, a split (dataset split), or a table of path and label. May be repeated.",
    )(command)


def teacher_options(command: Command) -> Command:
    """Add --teacher, --distill and --unlabelled (repeatable)."""
    for option in (
        unlabelled_option,
        click.option("--distill", type=click.FloatRange(0, 1), help="Share of the loss that comes from the teacher."),
        click.option(
            "--teacher",
            type=RunFolder(),
            metavar="RUN",
            help="Also learn from the model of this run.",
        ),
    ):
        command = option(command)
    return command
