"""`train --sweep`: the table of the classroom document. Every backbone is trained in full and with frozen features.

    python -m training train classroom --data SPLIT --sweep resnet18:PATH,resnet34,efficientnet_lite0

Each member is a separate run. Writes runs/classroom/ID-sweep: table.md, table.png, and run.json with the rows. An
interrupted sweep is resumed by the same command.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from rich.table import Table

from common.console import compact_table, console, err_console
from common.errors import NotFound, UserError
from common.files import write_json, write_whole
from common.words import number_of
from config.recipe import Recipe, override
from dataset.photos import Photo
from training.compression.cost import blank, milliseconds
from training.data.selection import fingerprint
from training.fitting.trainer import train_run
from training.models.registry import BACKBONES, NoWeights, build
from training.records.folder import PROGRESS, make_run
from training.records.run import Inputs, RunRecord, SweepRow, Swept, Trained
from training.records.weights import load_model

Mode = Literal["full", "frozen"]
MODES: tuple[Mode, ...] = ("full", "frozen")
COLUMNS = {
    "backbone": "backbone",
    "weights": "started from",
    "mode": "trained",
    "trained_parameters": "parameters trained",
    "parameters": "of",
    "epochs": "epochs",
    "seconds": "seconds of all epochs",
    "accuracy": "balanced accuracy (95 %)",
    "milliseconds": "one photo, ms",
}


@dataclass(frozen=True)
class Plan:
    """What a sweep trains: (backbone, weights) pairs, and backbones that the recipe cannot use, with the reason."""

    backbones: list[tuple[str, str]]
    skipped: dict[str, str]

    @property
    def members(self) -> list[tuple[str, str, Mode]]:
        return [(name, weights, mode) for name, weights in self.backbones for mode in MODES]


def run_sweep(
    recipe: Recipe, backbones: str, photos: Sequence[Photo], added: Sequence[Photo], root: Path, fresh: bool
) -> tuple[Path, RunRecord]:
    """Train every member, write the table and print it.

    Args:
        backbones: `all`, or `BACKBONE[:WEIGHTS],...`; without WEIGHTS, ImageNet's are used, or random ones if the
            backbone has none here, which the table shows.

    Returns:
        the sweep's folder and record.

    Raises:
        UserError: a named backbone is unknown or cannot be built for this recipe.
    """
    plan = make_plan(backbones, recipe)
    inputs = Inputs(
        data=fingerprint(photos, recipe.labels),
        extra=fingerprint(added, recipe.labels),
        members=[list(member) for member in plan.members],
        **({"skipped": plan.skipped} if plan.skipped else {}),
    )

    def work(folder: Path) -> Swept:
        kept = folder / PROGRESS
        rows = [SweepRow.model_validate(row) for row in json.loads(kept.read_text())] if kept.exists() else []
        for name, weights, mode in plan.members[len(rows) :]:
            err_console.rule(f"{name}, {mode}")
            changed = override(recipe, "train", freeze=mode == "frozen")
            changed = override(changed, "backbone", name=name, weights=weights)
            rows.append(train_member(changed, photos, added, root, fresh, mode))
            write_json(kept, [row.as_json() for row in rows])
        write_whole(folder / "table.md", as_markdown(rows, plan.skipped).encode())
        draw(rows, folder / "table.png")
        return Swept(rows=rows, summary=f"{number_of(len(rows), 'training')}, best: {_best(rows)}")

    folder, record = make_run("sweep", recipe, root, inputs, work, fresh)
    if isinstance(record.result, Swept):
        console.print(as_table(record.result.rows, plan.skipped))
    return folder, record


def make_plan(backbones: str, recipe: Recipe) -> Plan:
    """Resolve `all` or `a,b:PATH` into backbones and weights; weights are ImageNet's where available, else `none`.

    A backbone of `all` that cannot be built for the recipe is skipped; a named one is an error.

    Raises:
        UserError: a named backbone is unknown or cannot be built.
    """
    if backbones != "all":
        return Plan([_named(entry.strip(), recipe) for entry in backbones.split(",")], {})
    chosen: list[tuple[str, str]] = []
    skipped: dict[str, str] = {}
    for name in BACKBONES:
        try:
            chosen.append((name, available_weights(recipe, name)))
        except UserError as error:
            skipped[name] = " ".join(error.message.removeprefix("command line: ").split())
    if not chosen:
        raise NotFound("--sweep: no backbone can be built for this recipe", "; ".join(skipped.values()))
    return Plan(chosen, skipped)


def available_weights(recipe: Recipe, name: str) -> str:
    """`imagenet` if this backbone's ImageNet weights are available here, else `none`.

    Raises:
        UserError: the backbone cannot be built for this recipe.
    """
    plain = override(recipe, "backbone", name=name, weights="none")
    with torch.device("meta"):
        build(plain.backbone, len(recipe.labels), recipe.input)
    try:
        build(override(plain, "backbone", weights="imagenet").backbone, len(recipe.labels), recipe.input)
    except NoWeights:
        return "none"
    return "imagenet"


def train_member(
    recipe: Recipe, photos: Sequence[Photo], added: Sequence[Photo], root: Path, fresh: bool, mode: Mode
) -> SweepRow:
    """Train one member; returns its row."""
    folder, record = train_run(recipe, photos, added, root, fresh)
    model = load_model(folder)[1]
    trained = record.result
    assert isinstance(trained, Trained)  # `train_run` makes no other
    metrics, photo, weights = trained.metrics, blank(recipe), recipe.backbone.weights
    low, high = metrics.mean_accuracy_95 or (0.0, 1.0)
    return SweepRow(
        backbone=recipe.backbone.name,
        weights={"none": "random", "imagenet": "ImageNet"}.get(weights, Path(weights).stem),
        run=record.id,
        trained_parameters=trained.trained_parameters or 0,
        parameters=trained.parameters or 0,
        epochs=len(trained.epochs),
        seconds=round(sum(entry["seconds"] for entry in trained.epochs), 1),
        mean_accuracy=metrics.mean_accuracy,
        accuracy=f"{metrics.mean_accuracy:.1%} ({low:.1%} to {high:.1%})",
        milliseconds=milliseconds(lambda: model(photo), rounds=5),
        mode=mode,
    )


def as_markdown(rows: Sequence[SweepRow], skipped: dict[str, str]) -> str:
    """The table of a sweep; the first epoch's time includes work that is done once for all epochs."""
    lines = [list(COLUMNS.values()), ["---"] * len(COLUMNS)]
    for row in rows:
        values = (getattr(row, key) for key in COLUMNS)
        lines.append([f"{value:,}" if isinstance(value, int) else str(value) for value in values])
    lines += [[name, "", f"skipped: {reason}", *[""] * (len(COLUMNS) - 3)] for name, reason in skipped.items()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def as_table(rows: Sequence[SweepRow], skipped: dict[str, str]) -> Table:
    """The table of a sweep for a terminal of 80 columns."""
    table = compact_table(
        "backbone, weights",
        "trained",
        "parameters\ntrained",
        "seconds",
        "balanced accuracy\n(95 %)",
        "ms per\nphoto",
    )
    for row in rows:
        accuracy = row.accuracy.replace(" (", "\n(")
        table.add_row(
            f"{row.backbone}\n{row.weights}",
            row.mode,
            f"{row.trained_parameters:,}",
            str(row.seconds),
            accuracy,
            str(row.milliseconds),
        )
    for name, reason in skipped.items():
        table.add_row(name, "skipped", "", "", reason, "")
    return table


def draw(rows: Sequence[SweepRow], path: Path) -> None:
    """Seconds and accuracy of each member as bars."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 0.5 * len(rows) + 1.5), layout="constrained")
    names = [f"{row.backbone} ({row.weights}), {row.mode}" for row in rows]
    for axes, (title, values) in zip(figure.subplots(1, 2, sharey=True), _charts(rows), strict=True):
        bars = axes.barh(names, values)
        axes.bar_label(bars, fmt="{:.3g}", padding=3)
        axes.set(title=title)
        axes.margins(x=0.15)
    axes.invert_yaxis()
    figure.savefig(path, dpi=100)


def _charts(rows: Sequence[SweepRow]) -> Iterator[tuple[str, list[float]]]:
    yield "seconds of training", [row.seconds for row in rows]
    yield "balanced accuracy", [row.mean_accuracy for row in rows]


def _named(entry: str, recipe: Recipe) -> tuple[str, str]:
    name, _, weights = entry.partition(":")
    if name not in BACKBONES:
        raise NotFound(f"--sweep {entry}: no such backbone", f"legal are {', '.join(BACKBONES)}")
    return name, weights or available_weights(recipe, name)


def _best(rows: Sequence[SweepRow]) -> str:
    best = max(rows, key=lambda row: (row.mean_accuracy, -row.seconds))
    return f"{best.backbone}, {best.mode}, {best.accuracy}"
