"""Measure a run or a bundle on labelled photos, and write the evidence down.

    python -m training evaluate runs/classroom/ID-prune --data SPLIT
    python -m training evaluate models/classroom --data PHOTOS --where open_licence=no --ambiguous PHOTOS/ambiguous

A run is measured in torch, a bundle as it is served (OpenVINO or ONNX Runtime): on the `val` part of a split, on what
the run held out of unsplit photos that it was made from, on all of other photos. Writes RUN/evaluation/ (or --out):

    report.html     opens without the internet; holds no photo, so it can be passed on
    report.json     the same as data
    answers.tsv     every photo's label, answer and probabilities
    hardest.jpg     contact sheet of the photos whose label got the least probability: photos, so for this machine only
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from common.cli import command
from common.errors import UserError
from common.files import write_json, write_whole
from config.recipe import Recipe
from dataset.files import files_of
from dataset.photos import Photo
from dataset.tables import write_rows
from training.evaluation.measure import Evidence, gather
from training.evaluation.metrics import Scores
from training.evaluation.report import contact_sheet_of, render
from training.fitting.loop import console
from training.predict import inference
from training.records.options import (
    choose_part,
    data_options,
    extra_option,
    part_option,
    read_data,
    read_extra,
    runs_option,
)
from training.records.run import fingerprint, read_run

HARDEST = 24


@command(epilog="Example: python -m training evaluate runs/shapes/ID-prune --data runs/drawn")
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@data_options
@extra_option
@part_option
@click.option(
    "--ambiguous",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder of photos that are neither: a good model is less sure of them.",
)
@click.option("--folds", type=click.IntRange(2), help="Cross-validate the recipe on all of --data too: takes long.")
@click.option("--changes/--no-changes", default=True, help="Ask again about re-encoded, scaled, turned ... photos.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="[default: RUN/evaluation]")
@runs_option
def evaluate(
    run: Path,
    data: tuple[Path, ...],
    where: tuple[str, ...],
    extra: tuple[Path, ...],
    part: str | None,
    ambiguous: Path | None,
    folds: int | None,
    changes: bool,
    out: Path | None,
    root: Path,
) -> None:
    """Measure RUN (a run, or a bundle) on labelled photos and write a report."""
    recipe, infer, device = inference(run)
    everything = read_data(data, where, recipe)
    facts = read_run(run)[1]
    photos, chosen = choose_part(everything, part, recipe, facts)
    found = gather(recipe, infer, photos, list_photos(ambiguous), changes)
    result = {
        "run": facts.get("id", run.name),
        "device": device,
        "part": chosen,
        "selected_on": fingerprint(photos, recipe.labels) == facts.get("validation"),
        "data": fingerprint(photos, recipe.labels),
        **found.as_json(),
        "folds": _folds(recipe, folds, everything, read_extra(extra, recipe), root),
    }
    write(out or run / "evaluation", run, found, result)
    show(found.scores, result)
    click.echo(f"{out or run / 'evaluation'}/report.html: {found.scores}")


def list_photos(folder: Path | None) -> list[Path]:
    """The files of a folder that has no labels, in order; none without a folder."""
    if folder is None:
        return []
    found = files_of(folder, links=True)
    if not found:
        raise UserError(f"--ambiguous {folder} is empty: leave it out, or give a folder of photos")
    return found


def write(folder: Path, run: Path, found: Evidence, result: dict[str, Any]) -> None:
    """Write report, data, answers and contact sheet.

    Raises:
        UserError: the folder cannot be written.
    """
    try:
        write_json(folder / "report.json", result)
        write_whole(folder / "hardest.jpg", contact_sheet_of(found, found.hardest(HARDEST)))
        write_whole(folder / "report.html", render(run, found, result).encode())
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}: give --out FOLDER") from error
    labels = found.recipe.labels
    rows = [
        {
            "path": photo.path.as_posix(),
            "label": labels[photo.label],
            "answer": labels[int(probabilities.argmax())],
            **{f"p({label})": f"{float(p):.6f}" for label, p in zip(labels, probabilities, strict=True)},
        }
        for photo, probabilities in zip(found.photos, found.probabilities, strict=True)
    ]
    write_rows(folder / "answers.tsv", list(rows[0]), rows)


def show(found: Scores, result: dict[str, Any]) -> None:
    """Print the confusion matrix, the changes and the latency."""
    matrix = Table("is \\ answered", *found.labels, "accuracy", "95 %")
    metrics = result["metrics"]
    for label, row in zip(found.labels, found.confusion, strict=True):
        low, high = metrics["accuracy_95"].get(label, (0, 1))
        matrix.add_row(label, *map(str, row), f"{metrics['accuracy'].get(label, 0):.1%}", f"{low:.1%} to {high:.1%}")
    console.print(matrix)
    if result["changes"]:
        changed = Table("photos that were", "mean of classes", "answers that changed")
        for name, entry in result["changes"].items():
            changed.add_row(name, f"{entry['mean_accuracy']:.1%}", str(entry["answers_that_changed"]))
        console.print(changed)
    times = Table("milliseconds", "p50", "p95")
    for name, values in result["milliseconds"].items():
        times.add_row(name, str(values["p50"]), str(values["p95"]))
    console.print(times)
    console.print(
        f"ROC AUC {metrics['roc_auc']}, expected calibration error {metrics['expected_calibration_error']}, "
        f"median confidence {result['confidence']['median']}"
        + (f"; {result['ambiguous']['told']}" if result["ambiguous"] else "")
    )


def _folds(
    recipe: Recipe, count: int | None, photos: Sequence[Photo], added: Sequence[Photo], root: Path
) -> dict[str, Any] | None:
    if count is None:
        return None
    from training.crossvalidate import cross_validate

    folder, facts = cross_validate(recipe.model_copy(update={"folds": count}), photos, added, root)
    return {"run": folder.name, "count": count, "metrics": facts["metrics"], "summary": facts["summary"]}
