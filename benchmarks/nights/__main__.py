"""How much a model learns in simulated nights: balanced accuracy by night, on photos of sources that are never fed.

    python -m benchmarks.nights PHOTOS --work runs/simulated-nights --chart docs/images/nights.svg

PHOTOS has label folders and SOURCES.tsv (dataset audit). A third of the sources is what the first model is trained on,
a quarter is never fed, and the rest is fed as reviewed corrections, a fifth more each night; each source counts as one
uploader. What a night learns from is chosen as `feedback nightly` chooses it: one photo of a chain of near duplicates,
at most a tenth from one uploader, one group in five held out, no near duplicate of the photos that are never fed. Each
night fine-tunes from the first model, without pruning and export. Nothing is refused, but the table has the chance that
at most one point is lost to the first model, as the gate would compute it. Killed at any step, the same command goes
on. Prints Markdown, and one JSON line last.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image, ImageOps
from rich.progress import track

from benchmarks.harness.commands import run_command
from common.cli import command
from common.console import console, note
from common.errors import InvalidInput
from common.files import write_json
from config.recipe import read_recipe
from dataset.photos import TABLE
from dataset.tables import read_rows, write_rows
from feedback.learning import snapshot as snapshots
from feedback.learning.client import Agreed
from feedback.learning.gate import Counts, probability_of_small_loss
from feedback.photos.frozen import hashes_of
from feedback.photos.hashing import THRESHOLD, nearest, packed, phash

BASE, NEVER = 1 / 3, 1 / 4
"""Shares of the sources."""
COLUMNS = ("path", "label", "source")


@dataclass(frozen=True)
class Row:
    """A photo with its label and source."""

    path: Path
    label: str
    source: str


@dataclass(frozen=True)
class Parts:
    """Photos to begin with, photos to feed in their order, and photos that are never fed; no source is in two."""

    base: list[Row]
    fed: list[Row]
    never: list[Row]


@command(epilog="Example: python -m benchmarks.nights runs/photos --epochs 2")
@click.argument("photos", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--recipe", default="classroom", show_default=True, help="Recipe: name or path.")
@click.option("--nights", default=5, show_default=True, type=click.IntRange(1))
@click.option("--epochs", default=2, show_default=True, type=click.IntRange(1), help="Of each night.")
@click.option("--seed", default=0, show_default=True, help="Other seeds divide the sources in another way.")
@click.option("--work", default=Path("runs/simulated-nights"), show_default=True, type=click.Path(path_type=Path))
@click.option("--chart", type=click.Path(dir_okay=False, path_type=Path), help="Write the picture here (SVG).")
def main(photos: Path, recipe: str, nights: int, epochs: int, seed: int, work: Path, chart: Path | None) -> None:
    """Simulate nights on the photos of a folder."""
    labels = read_recipe(recipe).labels
    parts, work = divide(photos.resolve(), labels, seed), work.resolve()
    _write(work / "base.tsv", parts.base)
    _write(work / "never.tsv", parts.never)
    train = ["training", "train", recipe, "--data", work / "base.tsv", "--epochs", epochs, "--freeze"]
    rows = []
    for night in range(nights + 1):
        note(f"night {night} of {nights}")
        fed = parts.fed[: len(parts.fed) * night // nights]
        extra: list[object] = []
        if fed:
            snapshot = _snapshot(work / "snapshots" / str(night), fed, parts, labels)
            extra = ["--extra", snapshot / "train.tsv", "--init-from", _run(work, 0)]
        rows.append({"night": night, "fed": len(fed), **_night(work, night, [*train, *extra])})
        click.echo(json.dumps(rows[-1]), err=True)
    click.echo(
        "| night | photos fed | right of those never fed | balanced accuracy | small loss |\n|---|---|---|---|---|"
    )
    for row in rows:
        right, chance = f"{row['right']} of {row['photos']}", f"{row['small_loss']:.1%}"
        click.echo(f"| {row['night']} | {row['fed']} | {right} | {row['balanced']:.1%} | {chance} |")
    if chart:
        _draw(rows, chart)
    click.echo(json.dumps({"benchmark": "nights", "base": len(parts.base), "epochs": epochs, "nights": rows}))


def divide(photos: Path, labels: Sequence[str], seed: int) -> Parts:
    """Divide the sources of a folder.

    Raises:
        InvalidInput: the photos to begin with, or those that are never fed, lack a label.
    """
    rows = [
        Row(photos / row["path"], row["path"].partition("/")[0], row["source"])
        for row in read_rows(photos / TABLE, ("path", "source"))
    ]
    rows = [row for row in rows if row.label in labels and row.path.is_file()]
    order = sorted({row.source for row in rows}, key=lambda source: _digest(f"{seed} {source}"))
    first, last = round(BASE * len(order)), round((1 - NEVER) * len(order))
    rows.sort(key=lambda row: (order.index(row.source), row.path))
    places = [order.index(row.source) for row in rows]
    parts = Parts(
        [row for row, place in zip(rows, places, strict=True) if place < first],
        [row for row, place in zip(rows, places, strict=True) if first <= place < last],
        [row for row, place in zip(rows, places, strict=True) if place >= last],
    )
    for part in (parts.base, parts.never):
        if {row.label for row in part} != set(labels):
            raise InvalidInput(f"seed {seed} leaves a part without one of the labels", "give another --seed")
    return parts


def _snapshot(folder: Path, fed: Sequence[Row], parts: Parts, labels: Sequence[str]) -> Path:
    if folder.is_dir():
        return folder
    agreed, hashes, chains = list[tuple[Agreed, bytes]](), list[str](), list[int]()
    sources = sorted({row.source for row in fed})
    for number, row in enumerate(track(fed, "hashing", console=console, transient=True), 1):
        with Image.open(row.path) as photo:
            value = phash(ImageOps.exif_transpose(photo).convert("RGB"))
        index, bits = nearest(value, packed(hashes))
        chain = chains[index] if bits <= THRESHOLD else number
        if value:
            hashes, chains = [*hashes, value], [*chains, chain]
        suffix = {".png": ".png", ".webp": ".webp"}.get(row.path.suffix.lower(), ".jpg")
        url, uploader = f"/uploads/{number:032x}{suffix}", sources.index(row.source)
        data = row.path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        agreed.append((Agreed(number, row.label, digest, url, chain, uploader, "upload", 1.0), data))
    frozen = _hashes_of(parts.never, folder.parent)
    snapshots.write(folder, snapshots.choose(agreed, labels, frozen, len(parts.base)))
    return folder


def _hashes_of(rows: Sequence[Row], work: Path) -> tuple[str, ...]:
    """The hashes of the photos that are never fed, computed once."""
    path = work.parent / "never.json"
    if not path.is_file():
        found = [value for row in track(rows, "hashing", console=console) for value in hashes_of(row.path)]
        write_json(path, found)
    return tuple(json.loads(path.read_text(encoding="utf-8")))


def _night(work: Path, night: int, train: Sequence[object]) -> dict[str, Any]:
    """Train and evaluate, unless that was done."""
    runs, report = work / "runs" / str(night), work / "evaluations" / str(night) / "report.json"
    if not list(runs.glob("*/*-train")):
        run_command(*train, "--runs", runs)
    if not report.is_file():
        words = ["--data", work / "never.tsv", "--part", "all", "--no-changes", "--out", report.parent]
        run_command("training", "evaluate", _run(work, night), *words)
    answers, right = _answers(work, night)
    _, first = _answers(work, 0)
    pairs = list(zip(first, right, strict=True))
    counts = Counts(len(pairs), pairs.count((True, False)), pairs.count((False, True)))
    shares = [
        float(np.mean([ok for ok, row in zip(right, answers, strict=True) if row["label"] == label]))
        for label in sorted({row["label"] for row in answers})
    ]
    loss = round(probability_of_small_loss(counts), 4)
    return {**asdict(counts), "right": sum(right), "balanced": round(float(np.mean(shares)), 4), "small_loss": loss}


def _answers(work: Path, night: int) -> tuple[list[dict[str, str]], list[bool]]:
    """The rows of the photos that are never fed, and which are right."""
    rows = read_rows(work / "evaluations" / str(night) / "answers.tsv")
    return rows, [row["answer"] == row["label"] for row in rows]


def _run(work: Path, night: int) -> Path:
    return sorted((work / "runs" / str(night)).glob("*/*-train"))[-1]


def _write(path: Path, rows: Sequence[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_rows(path, COLUMNS, [{"path": str(row.path), "label": row.label, "source": row.source} for row in rows])


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _draw(rows: Sequence[dict[str, Any]], chart: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 3.5))
    axes.plot([row["night"] for row in rows], [100 * row["balanced"] for row in rows], marker="o", color="#1f6feb")
    for row in rows:
        text = f"{100 * row['balanced']:.1f}"
        axes.annotate(text, (row["night"], 100 * row["balanced"]), (0, 8), textcoords="offset points", ha="center")
    axes.set_xlabel("night (0: the first model)")
    axes.set_ylabel(f"balanced accuracy, %, of {rows[0]['photos']} photos never fed")
    axes.set_xticks([row["night"] for row in rows])
    axes.margins(y=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    chart.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(chart)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.nights")
