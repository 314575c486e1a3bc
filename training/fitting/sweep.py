"""`train --sweep`: the document's table, every backbone trained in full and frozen.

    python -m training train classroom --data SPLIT --sweep resnet18:PATH,resnet34,efficientnet_lite0

Each member is a run of its own. Writes runs/classroom/ID-sweep: table.md, table.png, run.json with the rows.
Interrupted, the same command goes on.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import torch

from common.console import err_console
from common.errors import UserError
from common.files import write_json, write_whole
from config.recipe import INPUTS, Recipe, override
from dataset.photos import Photo
from training.compression.timing import milliseconds
from training.models.registry import BACKBONES, NoWeights, build
from training.records.run import PROGRESS, fingerprint, load_model, new_run
from training.train import train_run

MODES = {"full": False, "frozen": True}
COLUMNS = {
    "backbone": "backbone",
    "weights": "started from",
    "mode": "trained",
    "trained_parameters": "parameters trained",
    "parameters": "of",
    "epochs": "epochs",
    "seconds": "seconds of all epochs",
    "accuracy": "mean of classes (95 %)",
    "milliseconds": "one photo, ms",
}


def run_sweep(
    recipe: Recipe, wanted: str, photos: Sequence[Photo], added: Sequence[Photo], root: Path, fresh: bool
) -> None:
    """Train every member and write the table.

    Args:
        wanted: `all`, or `BACKBONE[:WEIGHTS],...`; without WEIGHTS ImageNet's, or random ones where those
            cannot be had, which the table says.
    """
    members = [(*member, mode) for member in parse(wanted, recipe) for mode in MODES]
    prints = {"data": fingerprint(photos, recipe.labels), "extra": fingerprint(added, recipe.labels)}
    with new_run("sweep", recipe, root, fresh, **prints, members=[list(member) for member in members]) as (
        folder,
        facts,
    ):
        kept = folder / PROGRESS
        rows: list[dict[str, Any]] = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else []
        for name, weights, mode in members[len(rows) :]:
            err_console.rule(f"{name}, {mode}")
            changed = override(override(recipe, "train", freeze=MODES[mode]), "backbone", name=name, weights=weights)
            rows.append({**train_member(changed, photos, added, root, fresh), "mode": mode})
            write_json(kept, rows)
        facts["rows"] = rows
        facts["summary"] = f"{len(rows)} trainings, best: {_best(rows)}"
        write_whole(folder / "table.md", as_markdown(rows).encode())
        draw(rows, folder / "table.png")
    click.echo(as_markdown(rows), nl=False)
    click.echo(f"{folder.with_suffix('')}: {facts['summary']}")


def parse(wanted: str, recipe: Recipe) -> list[tuple[str, str]]:
    """`a,b:PATH` -> [(a, weights), (b, PATH)]; weights are ImageNet's where they can be had, else `none`.

    Raises:
        UserError: an unknown backbone.
    """
    small = {"smallnet", *INPUTS}
    names = [name for name in BACKBONES if name not in small] if wanted == "all" else wanted.split(",")
    members = []
    for entry in names:
        name, _, weights = entry.strip().partition(":")
        if name not in BACKBONES:
            raise UserError(f"--sweep {entry}: no such backbone: legal are {', '.join(BACKBONES)}")
        members.append((name, weights or available(recipe, name)))
    return members


def available(recipe: Recipe, name: str) -> str:
    """`imagenet` if this backbone's weights can be had here, else `none`."""
    try:
        build(override(recipe, "backbone", name=name, weights="imagenet").backbone, len(recipe.labels), recipe.input)
    except NoWeights:
        return "none"
    return "imagenet"


def train_member(
    recipe: Recipe, photos: Sequence[Photo], added: Sequence[Photo], root: Path, fresh: bool
) -> dict[str, Any]:
    """Train one member; its row."""
    folder, facts = train_run(recipe, photos, added, root, fresh)
    model = load_model(folder)[1]
    photo = torch.zeros(1, *recipe.input.shape, dtype=torch.uint8)
    low, high = facts["metrics"]["mean_accuracy_95"]
    weights = recipe.backbone.weights
    times = [entry["seconds"] for entry in facts["epochs"]]
    return {
        "backbone": recipe.backbone.name,
        "weights": {"none": "random", "imagenet": "ImageNet"}.get(weights, Path(weights).stem),
        "run": facts["id"],
        "trained_parameters": facts["trained_parameters"],
        "parameters": facts["parameters"],
        "epochs": len(facts["epochs"]),
        "seconds": round(sum(times), 1),
        "mean_accuracy": facts["metrics"]["mean_accuracy"],
        "accuracy": f"{facts['metrics']['mean_accuracy']:.1%} ({low:.1%} to {high:.1%})",
        "milliseconds": milliseconds(lambda: model(photo), rounds=5),
    }


def as_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The table; an epoch's time holds its validation pass, the first one's what is computed once for all."""
    lines = [list(COLUMNS.values()), ["---"] * len(COLUMNS)]
    lines += [[f"{row[key]:,}" if isinstance(row[key], int) else str(row[key]) for key in COLUMNS] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Seconds and accuracy of each member as bars."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 0.5 * len(rows) + 1.5), layout="constrained")
    names = [f"{row['backbone']} ({row['weights']}), {row['mode']}" for row in rows]
    for axes, key, title in zip(
        figure.subplots(1, 2, sharey=True),
        ("seconds", "mean_accuracy"),
        ("seconds of training", "mean of classes"),
        strict=True,
    ):
        bars = axes.barh(names, [row[key] for row in rows])
        axes.bar_label(bars, fmt="{:.3g}", padding=3)
        axes.set(title=title)
        axes.margins(x=0.15)
    axes.invert_yaxis()
    figure.savefig(path, dpi=100)


def _best(rows: Sequence[dict[str, Any]]) -> str:
    best = max(rows, key=lambda row: (row["mean_accuracy"], -row["seconds"]))
    return f"{best['backbone']}, {best['mode']}, {best['accuracy']}"
