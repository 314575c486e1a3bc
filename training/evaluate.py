"""Evaluate a run or a bundle on labelled photos, and write a report.

    python -m training evaluate runs/classroom/ID-prune --data SPLIT
    python -m training evaluate runs/classroom/ID-prune --data SPLIT --against served
    python -m training evaluate models/classroom --data PHOTOS --where open_licence=no --ambiguous PHOTOS/ambiguous

A run is computed by PyTorch, a bundle by the engine that serves it (OpenVINO or ONNX Runtime). The photos are the
`val` part of a split; of unsplit data that the run was trained on, those that it held out; otherwise all. With
--outside FOLDER (photos of no class) it also measures how well a model with a scope tells them apart: AUROC, and the
share that passes, by kind (subfolder, or column `kind`).
Writes RUN/evaluation/ (or --out):

    report.html     opens without the internet; contains no photo, so it can be shared
    report.json     the same as data
    answers.tsv     every photo's label, prediction and probabilities
    hardest.jpg     contact sheet of the photos whose label got the lowest probability; keep it on this machine
"""

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import click
from rich.markup import escape
from rich.table import Column, Table

from common.cli import command
from common.commands import next_step
from common.console import err_console, note
from common.errors import InvalidInput, NotFound
from common.files import write_json, write_whole, writing
from config.recipe import Recipe
from dataset.listing import files_of
from dataset.photos import PARTS, Photo
from dataset.splitting.sources import missing_sources
from dataset.tables import write_rows
from training.data.outside import read_outside
from training.data.selection import fingerprint, fingerprint_unlabelled, read_data, read_extra
from training.evaluation.against import compare_with, former_model
from training.evaluation.measure import Evaluation, evaluate_photos
from training.evaluation.metrics import Scores
from training.evaluation.predictor import Infer, load_predictor
from training.evaluation.report import by_class, contact_sheet_of, render
from training.experiments.crossvalidation import cross_validate
from training.options import (
    data_options,
    data_words,
    extra_option,
    outside_option,
    part_option,
    run_argument,
    runs_option,
)
from training.records.run import RunRecord, read_record
from training.records.split import choose_part

HARDEST = 24
"""Photos on the contact sheet."""


@command(epilog="Example: python -m training evaluate runs/shapes/ID-prune --data runs/drawn")
@run_argument
@data_options
@extra_option
@outside_option
@part_option
@click.option(
    "--ambiguous",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder of photos of no class: a good model is less confident on them.",
)
@click.option("--folds", type=click.IntRange(2), help="Also cross-validate the recipe on all of --data (takes long).")
@click.option("--changes/--no-changes", default=True, help="Also predict re-encoded, scaled, rotated ... photos.")
@click.option(
    "--against",
    metavar="MODEL",
    help="Also compare with a run, a bundle, an archive (NAME-VERSION.mar), or `served`, on the same photos.",
)
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Folder to write.  [default: RUN/evaluation]"
)
@runs_option
def evaluate(
    run: Path,
    data: tuple[Path, ...],
    where: tuple[str, ...],
    extra: tuple[Path, ...],
    outside: tuple[Path, ...],
    part: str | None,
    ambiguous: Path | None,
    folds: int | None,
    changes: bool,
    against: str | None,
    out: Path | None,
    root: Path,
) -> None:
    """Evaluate RUN (a run, or a bundle) on labelled photos and write a report."""
    recipe, infer, device = load_predictor(run)
    everything = read_data(data, where, recipe)
    record = read_record(run)
    photos, chosen = choose_part(everything, part, recipe, record)
    kinds = choose_outside(outside, where, data, chosen, recipe, record, infer)
    with former_model(against, recipe) as former:  # first: a wrong name should not cost minutes
        evaluation = evaluate_photos(recipe, infer, photos, list_photos(ambiguous), changes, kinds)
        comparison = compare_with(former, evaluation).as_json() if former else None
    result = {
        "run": record.id,
        "date": date.today().isoformat(),
        "device": device,
        "part": chosen,
        "selected_on": fingerprint(photos, recipe.labels) == record.inputs.validation,
        "data": fingerprint(photos, recipe.labels).model_dump(),
        "warning": missing_sources(everything),
        **evaluation.as_json(),
        "against": comparison,
        "folds": _folds(recipe, folds, everything, read_extra(extra, recipe), root),
    }
    folder = out or run / "evaluation"
    write(folder, run, evaluation, result)
    show(evaluation.scores, result)
    if result["warning"]:
        err_console.print(f"[yellow]warning: {result['warning']}: split the photos with --source-from")
    if comparison:
        note(comparison["told"])
    click.echo(f"{folder}/report.html: {evaluation.scores}")
    if record.exported:
        next_step("deploy", "archive", run)
    elif fingerprint(everything, recipe.labels) == record.inputs.data:
        next_step("training", "export", run, *data_words(data, where))


def choose_outside(
    outside: Sequence[Path],
    where: Sequence[str],
    data: Sequence[Path],
    part: str,
    recipe: Recipe,
    record: RunRecord,
    infer: Infer,
) -> list[Photo]:
    """The photos of no class to measure the scope on: all of --outside, and those of the same part of --data.

    Raises:
        InvalidInput: --outside is given, and the model has no scope.
    """
    if not infer.has_scope:
        if outside:
            raise InvalidInput("--outside: this model does not know what is out of scope", "train it with --outside")
        return []
    photos = read_outside(outside, where, data, (), recipe)
    photos = [photo for photo in photos if part not in PARTS or photo.part in ("", part)]
    if photos and fingerprint_unlabelled(photos) == record.inputs.outside:
        note("note: the model was trained on these photos of no class; the figures of other sources are in run.json")
    return photos


def list_photos(folder: Path | None) -> list[Path]:
    """The files of a folder of unlabelled photos, sorted; empty if `folder` is None.

    Raises:
        NotFound: the folder is empty.
    """
    if folder is None:
        return []
    paths = files_of(folder, links=True)
    if not paths:
        raise NotFound(f"--ambiguous {folder} is empty", "leave the option out, or give a folder of photos")
    return paths


def write(folder: Path, run: Path, evaluation: Evaluation, result: dict[str, Any]) -> None:
    """Write the report, the predictions and the contact sheet.

    Raises:
        CannotWrite: the folder cannot be written.
    """
    with writing(folder, "give --out FOLDER"):
        write_json(folder / "report.json", result)
        write_whole(folder / "hardest.jpg", contact_sheet_of(evaluation, evaluation.hardest(HARDEST)))
        write_whole(folder / "report.html", render(run, evaluation, result).encode())
    labels = evaluation.recipe.labels
    rows = [
        {
            "path": photo.path.as_posix(),
            "label": labels[photo.label],
            "answer": labels[int(probabilities.argmax())],
            **{f"p({label})": f"{float(p):.6f}" for label, p in zip(labels, probabilities, strict=True)},
            **scope,
        }
        for photo, probabilities, scope in zip(
            evaluation.photos, evaluation.probabilities, evaluation.scope_columns, strict=True
        )
    ]
    write_rows(folder / "answers.tsv", list(rows[0]), rows)


def show(scores: Scores, result: dict[str, Any]) -> None:
    """Print accuracy by class, robustness and latency; the whole confusion matrix is in the report."""
    err_console.print(_class_table(scores))
    if result["changes"]:
        changes = Table("altered photos", "balanced accuracy", "changed predictions")
        for name, entry in result["changes"].items():
            changes.add_row(name, f"{entry['mean_accuracy']:.1%}", str(entry["answers_that_changed"]))
        err_console.print(changes)
    if result["scope"]:
        err_console.print(_scope_table(result["scope"]))
    times = Table("milliseconds", "p50", "p95")
    for name, values in result["milliseconds"].items():
        times.add_row(name, str(values["p50"]), str(values["p95"]))
    err_console.print(times)
    metrics = result["metrics"]
    area = "not defined (a class has no photo)" if metrics["roc_auc"] is None else metrics["roc_auc"]
    err_console.print(
        f"ROC AUC {area}, expected calibration error {metrics['expected_calibration_error']}, "
        f"median confidence {result['confidence']['median']}"
        + (f"; {result['ambiguous']['told']}" if result["ambiguous"] else "")
    )


def _scope_table(scope: dict[str, Any]) -> Table:
    """Who is in scope: photos of each class, which should be, and of each kind of no class, which should not."""
    area = "" if scope["auroc"] is None else f", AUROC {scope['auroc']}"
    table = Table(Column(f"photos{area}", overflow="fold"), "in scope", "share", "95 %")
    for title, groups in (("", scope["kept"]), ("no class: ", scope["passed"])):
        for name, row in groups.items():
            low, high = row["share_95"]
            counts = f"{row['passed']} of {row['photos']}", f"{row['share']:.1%}", f"{low:.1%} to {high:.1%}"
            table.add_row(escape(f"{title}{name}"), *counts)
        table.add_section()
    return table


def _class_table(scores: Scores) -> Table:
    class_column, instead_column = (Column(title, overflow="fold") for title in ("class", "predicted instead"))
    table = Table(class_column, "correct", "accuracy", "95 %", instead_column)
    for row in by_class(scores):
        wrong = {
            label: count
            for label, count in zip(scores.labels, row["predicted"], strict=True)
            if count and label != row["label"]
        }
        most = sorted(wrong, key=lambda label: -wrong[label])[:2]
        instead = ", ".join(f"{label} {wrong[label]}" for label in most) + (" ..." if len(wrong) > 2 else "")
        if row["photos"]:
            low, high = row["interval"]
            figures = f"{row['hits']} of {row['photos']}", f"{row['accuracy']:.1%}", f"{low:.1%} to {high:.1%}"
        else:
            figures = "no photo", "", ""
        table.add_row(escape(row["label"]), *figures, escape(instead))
    return table


def _folds(
    recipe: Recipe, count: int | None, photos: Sequence[Photo], extra: Sequence[Photo], root: Path
) -> dict[str, Any] | None:
    if count is None:
        return None
    folder, record = cross_validate(recipe.model_copy(update={"folds": count}), photos, extra, root)
    return {"run": folder.name, "count": count, "metrics": record.as_json()["metrics"], "summary": record.summary}
