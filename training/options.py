"""Command-line options that several commands share. Only command files import this module."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from dataset.photos import PARTS
from training.records.folder import RUNS

Command = Callable[..., Any]

extra_option = click.option(
    "--extra",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="Like --data, but used for training only, never held out or tested (drawn photos, for example).",
)
runs_option = click.option(
    "--runs", "root", default=RUNS, show_default=True, type=click.Path(path_type=Path), help="Where runs are written."
)
fresh_option = click.option(
    "--fresh", is_flag=True, help="Start from the beginning instead of resuming an interrupted run."
)
part_option = click.option(
    "--part",
    type=click.Choice([*PARTS, "all"]),
    help="Part of a split.  [default: val; for data without a split, what RUN held out, or all if RUN never saw it]",
)
run_argument = click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
unlabelled_option = click.option(
    "--unlabelled",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Photos without labels: only the teacher's probabilities are learned from them. May be repeated.",
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
            type=click.Path(exists=True, file_okay=False, path_type=Path),
            metavar="RUN",
            help="Also learn from the model of this run.",
        ),
    ):
        command = option(command)
    return command
