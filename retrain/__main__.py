"""From a folder of photos to a packed version, in one command:

    make retrain PHOTOS=~/scraped
    python -m retrain PHOTOS                                   # label folders, or photos to label on a page
    python -m retrain PHOTOS --labels PHOTOS/labels.tsv        # labelled already

runs audit, label, split, train, prune, evaluate, export and archive, each with the command that a person would type.
It moves no photo: what the audit refuses is left out. The record is runs/RECIPE/retrain/NAME/walk.json. After Ctrl-C,
kill -9 or a mistake, the same command continues with the step that was interrupted; steps whose command and input are
the same are not done again. A second walk over the same photos is refused. At the end it names the rollout command.
"""

import json
from pathlib import Path
from typing import Any

import click
from rich.table import Column, Table
from rich.text import Text

from common.cli import Program
from common.commands import next_step
from common.console import console, say
from common.errors import InvalidInput
from config.recipe import read_recipe
from retrain.walk.runner import Finished, walk
from retrain.walk.steps import NO_RIVAL, STEPS, Plan, Request
from training.records.folder import RUNS

EXISTING = click.Path(exists=True, path_type=Path)


@click.command(cls=Program, name="retrain", epilog="Example: python -m retrain runs/drawn --recipe shapes")
@click.argument("photos", type=click.Path(exists=True, path_type=Path))
@click.option("--recipe", "name", default="classroom", show_default=True, help="Recipe: a name, or a path.")
@click.option("--labels", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Table of labels.")
@click.option("--extra", multiple=True, type=EXISTING, help="Photos for training only (drawn ones). May be repeated.")
@click.option("--outside", multiple=True, type=EXISTING, metavar="FOLDER", help="Photos of none of the classes.")
@click.option("--train", "share", type=click.FloatRange(0, 1), help="Share for training, as in dataset split.")
@click.option("--source-from", metavar="RULE", help="Where a photo's source stands, as in dataset split.")
@click.option("--few-sources", is_flag=True, help="Allow few sources of a class, as in dataset split.")
@click.option("--epochs", type=click.IntRange(0), help="Epochs of training and of pruning, instead of the recipe's.")
@click.option(
    "--against", metavar="MODEL", help=f"Compare with this archive, bundle or run, or {NO_RIVAL}.  [default: served]"
)
@click.option("--version", help="Version of the archive.  [default: the next]")
@click.option("--skip", multiple=True, type=click.Choice(STEPS), help="Leave a step out. May be repeated.")
@click.option("--fresh", is_flag=True, help="Do every step again.")
@click.option(
    "--runs", "root", default=RUNS, show_default=True, type=click.Path(path_type=Path), help="Where runs are."
)
def main(photos: Path, name: str, fresh: bool, root: Path, **given: Any) -> None:
    """Audit, label, split, train, prune, evaluate, export and pack, in one command.

    PHOTOS has a folder for each label. A flat folder is labelled on a page in the browser, unless --labels names a
    table. No photo is moved; what the audit refuses is left out.

    After Ctrl-C, a crash or a mistake, the same command continues with the step that was interrupted. The new model is
    compared with the served one on the same photos, or with the shipped one if none is served. Nothing is rolled out:
    the last line is the command for it.
    """
    recipe = read_recipe(name)
    if photos.is_file():
        raise InvalidInput(f"{photos} is a file", f"give the folder of the photos, and a table with --labels {photos}")
    request = Request(photos, name, recipe, root, **given)
    if "archive" in request.skip and request.version:
        raise InvalidInput("--version is the archive's, and --skip archive makes none", "give one of them")
    plan, finished = walk(request, fresh)
    console.print(summary(finished))
    if told := comparison(plan):
        say(told)
    archive, bundle = plan.done.get("archive"), plan.done.get("export")
    if archive and plan.served():
        next_step("deploy", "rollout", archive, "--photos", plan.data)
    elif archive and bundle:
        say(f"no version of {recipe.name} is served yet: the server starts with the newest one, {archive.name}")
        next_step("deploy", "up", "--bundle", bundle)


def summary(finished: list[Finished]) -> Table:
    """Every step, how long it took, and what it left."""
    table = Table("step", "seconds", Column("result", overflow="fold"))
    for step in finished:
        table.add_row(step.name, f"{step.seconds:.0f}" if step.seconds else "", Text(step.text))
    table.add_row("together", f"{sum(step.seconds for step in finished):.0f}", "")
    return table


def comparison(plan: Plan) -> str:
    """What the evaluation says about the served model on the same photos; empty if it compared with none."""
    report = plan.done.get("evaluate")
    content = json.loads(report.with_name("report.json").read_text(encoding="utf-8")) if report else {}
    return str((content.get("against") or {}).get("told", ""))


if __name__ == "__main__":
    main(prog_name="python -m retrain")
