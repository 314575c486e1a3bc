"""Train as a cloud job: read photos from one URL, write the model's package and its analysis to two others.

    python -m training job --data_url s3://BUCKET/data_set --train_url s3://BUCKET/resnet --eval_url s3://BUCKET/out

The option names are the cloud's. URLs may be local folders (training/cloud/storage.py). `data_url` contains
train/LABEL and val/LABEL, or label folders that the job splits by source. Training starts from the weights in
BACKBONE-pre.pth (resnet34-pre.pth) if that file is there. The job writes

    train_url/model/            the package that the cloud serves (training/cloud/package.py)
    train_url/run/              run.json, curves, weights, resources.jsonl and job.json (times, resources)
    eval_url/analysis-train/    the files of training/analyse.py, on the training photos
    eval_url/analysis-val/      the same on the held-out photos

The same command can be repeated: fetched files are kept, an interrupted training continues, a finished one is not
repeated, and the content of the URLs is replaced when the new content is complete.
"""

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
from filelock import FileLock, Timeout

from common.cli import command
from common.errors import Busy
from common.files import write_json, write_whole
from common.words import number_of
from config.recipe import Recipe, override, read_recipe
from dataset.photos import PARTS, TABLE, Photo
from training.analyse import write_analysis
from training.cloud.package import build_package
from training.cloud.resources import Resources, in_words
from training.cloud.storage import copying, fetch, join, publish
from training.compression.export import calibrated
from training.data.selection import divide, fingerprint, read_data, sha256
from training.evaluation.inference import predict
from training.fitting.trainer import train_run
from training.options import fresh_option, runs_option
from training.records.folder import digest
from training.records.index import of_step
from training.records.run import RunRecord, Trained, read_recipe_of, read_record
from training.records.weights import load_model


@command(
    epilog="Example: python -m training job --recipe shapes --data_url runs/drawn --train_url runs/cloud/resnet "
    "--eval_url runs/cloud/out"
)
@click.option(
    "--data_url",
    required=True,
    metavar="URL",
    help="Where the photos are: train/LABEL and val/LABEL, or LABEL folders.",
)
@click.option("--train_url", required=True, metavar="URL", help="Where the package and the run go.")
@click.option("--eval_url", required=True, metavar="URL", help="Where the analysis goes.")
@click.option("--recipe", "name", default="flowers", show_default=True, help="A name in config/recipes, or a path.")
@click.option("--backbone", help="Backbone, instead of the recipe's.")
@click.option("--weights", help="imagenet, none, or a local state dict, instead of BACKBONE-pre.pth and the recipe's.")
@click.option("--freeze/--full", default=None, help="Train only the last layer, or all.  [default: the recipe's]")
@click.option("--epochs", type=click.IntRange(0), help="Epochs, instead of the recipe's.")
@click.option(
    "--every", default=10.0, show_default=True, type=click.FloatRange(0.1), help="Seconds between two samples."
)
@fresh_option
@runs_option
def job(
    data_url: str,
    train_url: str,
    eval_url: str,
    name: str,
    backbone: str | None,
    weights: str | None,
    every: float,
    fresh: bool,
    root: Path,
    **changes: Any,
) -> None:
    """Train on the photos at --data_url, write the package and the analysis to the other URLs."""
    recipe = override(override(read_recipe(name), "train", **changes), "backbone", name=backbone, weights=weights)
    with _locked(root / "jobs" / digest([data_url, recipe.name])) as work, Stages() as stages:
        with Resources(work / "resources.jsonl", every, stages.tell) as resources:
            stages.begin(f"fetch {data_url}")
            fetch(data_url, work / "data", lambda path: _is_needed(path, recipe), stages.tell)
            if not weights:
                recipe = _pretrained(recipe, work, stages.tell)
            photos = read_data([work / "data"], (), recipe)
            stages.begin("train")
            run = _trained(recipe, photos, root, fresh, stages.tell)
            stages.begin("analyse")
            out, metrics = _outcome(run, photos, work)
            stages.begin("write")
            publish(out / "model", join(train_url, "model"), stages.tell)
            for analysis in ("analysis-train", "analysis-val"):
                publish(out / analysis, join(eval_url, analysis), stages.tell)
        usage = {"stages": stages.seconds(), "resources": resources.summary(), "metrics": metrics}
        with copying("written", str(out)):
            shutil.copytree(run, out / "run")
            shutil.copyfile(work / "resources.jsonl", out / "run" / "resources.jsonl")
            write_json(out / "run" / "job.json", usage)
        publish(out / "run", join(train_url, "run"), stages.tell)
        stages.tell(_summary(usage["resources"], usage["stages"]))
    click.echo(f"{join(train_url, 'model')}: {read_record(run).summary}")


class Stages:
    """Reports progress as lines with the time since the start, readable in a cloud's log; times each stage."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.marks: list[tuple[str, float]] = []

    def __enter__(self) -> "Stages":
        return self

    def __exit__(self, *reason: object) -> None:
        if reason[0] is not None and self.marks:
            self.tell(f"stopped at: {self.marks[-1][0]}")

    def begin(self, name: str) -> None:
        self.marks.append((name, time.monotonic()))
        self.tell(name)

    def tell(self, line: str) -> None:
        click.echo(f"[{time.monotonic() - self.started:7.1f} s] {line}", err=True)

    def seconds(self) -> dict[str, float]:
        """Seconds of each stage, by the first word of its name."""
        ends = [mark for _, mark in self.marks[1:]] + [time.monotonic()]
        return {name.split()[0]: round(end - begun, 1) for (name, begun), end in zip(self.marks, ends, strict=True)}


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[Path]:
    """The job's folder, locked against a second process.

    Raises:
        Busy: another job uses it.
    """
    with copying("written", str(folder)):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / "lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise Busy(f"{folder}: another job is training on this data", "wait for it, or give --runs") from None
    try:
        yield folder
    finally:
        lock.release()


def _is_needed(path: str, recipe: Recipe) -> bool:
    """Whether a job needs a file: photos in label folders, the table of sources, and the backbone's weights."""
    top, _, rest = path.partition("/")
    return top in (*PARTS, *recipe.labels, *recipe.aliases) if rest else path in (TABLE, _weights_file(recipe))


def _weights_file(recipe: Recipe) -> str:
    return f"{recipe.backbone.name}-pre.pth"


def _pretrained(recipe: Recipe, work: Path, tell: Callable[[str], None]) -> Recipe:
    """The recipe with the fetched weights, in a folder named by their digest: other weights make another run."""
    file = work / "data" / _weights_file(recipe)
    if not file.is_file():
        tell(f"no {file.name} at the URL: initial weights: {recipe.backbone.weights}")
        return recipe
    tell(f"weights: {file.name}")
    copy = work / "weights" / sha256(file)[:16] / file.name
    if not copy.is_file():
        with copying("written", str(copy)):
            write_whole(copy, file.read_bytes())
    return override(recipe, "backbone", weights=str(copy))


def _trained(recipe: Recipe, photos: list[Photo], root: Path, fresh: bool, tell: Callable[[str], None]) -> Path:
    """A run of this recipe on these photos: a finished one if there is one, else a new one."""
    data = fingerprint(photos, recipe.labels)
    for run in reversed(of_step((file.parent for file in (root / recipe.name).glob("*/run.json")), "train")):
        record = read_record(run)
        if not fresh and _plain(record) and read_recipe_of(run) == recipe and record.inputs.data == data:
            tell(f"trained already: {run} (--fresh trains again)")
            return run
    return train_run(recipe, photos, [], root, fresh)[0]


def _plain(record: RunRecord) -> bool:
    """Whether a run was trained from nothing but the recipe and its data."""
    inputs = record.inputs
    alone = not inputs.parent and not inputs.teacher and not (inputs.extra and inputs.extra.count)
    return alone and isinstance(record.result, Trained)


def _outcome(run: Path, photos: list[Photo], work: Path) -> tuple[Path, dict[str, Any]]:
    """Write package and analysis below the job's folder.

    Returns:
        the folder, and the overall figures on the held-out photos.
    """
    recipe, model, _ = load_model(run)
    training, validation = divide(photos, recipe)
    model = calibrated(model, validation, recipe)
    out = work / "out"
    with copying("written", str(out)):
        shutil.rmtree(out, ignore_errors=True)
        for part, some in (("train", training), ("val", validation)):
            logits = predict(model, some, recipe)
            figures = write_analysis(out / f"analysis-{part}", recipe, some, logits, part, work / "data")
        build_package(out / "model", recipe, model, figures)
    return out, figures


def _summary(resources: dict[str, Any], stages: dict[str, float]) -> str:
    mean, highest = (
        {key: value[which] for key, value in resources.items() if isinstance(value, dict)}
        for which in ("mean", "highest")
    )
    times = ", ".join(f"{name} {seconds} s" for name, seconds in stages.items())
    return f"{times}; mean: {in_words(mean)}; highest: {in_words(highest)}; {number_of(resources['cores'], 'core')}"
