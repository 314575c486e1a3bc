"""Export a run as a bundle, which scripts/archive.sh packs.

    python -m training export runs/classroom/ID-prune --data PHOTOS --where open_licence=yes
    python -m training export RUN --data PHOTOS --to models/pets --if-better

writes runs/classroom/ID-prune/bundle, or the folder of --out, or with --to FOLDER the next of FOLDER/1, FOLDER/2 ...;
with --if-better only if it is more accurate than the last of these on the same held-out photos. A bundle contains
model.onnx in one file (uint8 in, calibrated logits out; with a scope also the probability that a photo is in scope),
recipe.json, goldens.json and its drawn photos, labels.npy, and run.json with the gate. The graph is quantised to int8
if that passes the gate and stays within the budget (`gate.max_loss`, `prune.most_flips`, compared with the float graph)
on the held-out photos; otherwise as many layers as possible are; otherwise its weights are stored as fp16 and computed
in f32.

With --outside or --extra whether a photo is in scope is fitted again, on more photos of no class (and drawn ones of the
classes) than the network was trained with; the network itself stays as it is.
"""

from collections.abc import Sequence
from pathlib import Path

import click

from common.cli import command
from common.commands import next_step
from common.errors import InvalidInput
from common.files import new_folder
from config.recipe import Recipe, with_threshold
from dataset.photos import Photo
from training.bundles.goldens import draw_goldens
from training.bundles.labels import LABELS, write_labels
from training.bundles.numbered import Baseline, last_version
from training.compression.export import export_model
from training.data.outside import read_outside, trained_on
from training.data.selection import fingerprint, fingerprint_unlabelled, read_extra, refuse_both, refuse_leak
from training.fitting.scope import fit_scope
from training.models.classifier import Classifier
from training.options import data_options, extra_option, outside_option, run_argument
from training.records.run import RunRecord, write_record
from training.records.split import split_of_run
from training.records.weights import load_model


@command(epilog="Example: python -m training export runs/shapes/ID-prune --data runs/drawn")
@run_argument
@data_options
@extra_option
@outside_option
@click.option("--out", type=click.Path(path_type=Path), help="The bundle's folder.  [default: RUN/bundle]")
@click.option(
    "--to", type=click.Path(file_okay=False, path_type=Path), help="Write the next version: FOLDER/1, FOLDER/2 ..."
)
@click.option("--if-better", is_flag=True, help="Export only if it is more accurate than the last version in --to.")
def export(
    run: Path,
    data: tuple[Path, ...],
    where: tuple[str, ...],
    extra: tuple[Path, ...],
    outside: tuple[Path, ...],
    out: Path | None,
    to: Path | None,
    if_better: bool,
) -> None:
    """Export RUN as a bundle that scripts/archive.sh packs."""
    if out and to:
        raise InvalidInput("--out and --to were both given", "give one of them: --to chooses the folder itself")
    if if_better and not to:
        raise InvalidInput("--if-better compares with the last version", "give the versions' folder, --to FOLDER")
    recipe, model, record = load_model(run)
    training, validation = split_of_run(run, recipe, record, data, where)
    if extra or outside:
        kinds = trained_on(read_outside(outside, where, data, extra, recipe))
        record = _with_scope(model, recipe, record, training, validation, read_extra(extra, recipe), kinds)
    last = last_version(to) if to else 0
    baseline = Baseline.read(to / str(last), record) if to and last and if_better else None
    target = to / str(last + 1) if to else out or run / "bundle"
    with new_folder(target) as folder:
        exported = export_model(model, recipe, training, validation, folder, record.unpruned_accuracy)
        if baseline:
            baseline.refuse_worse(exported.metrics.mean_accuracy)
        recipe = with_threshold(recipe, exported.scope_threshold)
        draw_goldens(folder, recipe)
        write_labels(folder / LABELS, recipe.labels)
        write_record(folder, record.with_export(exported), recipe)
    verdict = "passed" if exported.gate.passed else "FAILED: this bundle cannot be packed"
    click.echo(f"{target}: {exported.precision}, {exported.megabytes} MB, {exported.summary}; gate {verdict}")
    if exported.gate.passed:
        next_step("deploy", "archive", target)


def _with_scope(
    model: Classifier,
    recipe: Recipe,
    record: RunRecord,
    training: Sequence[Photo],
    validation: Sequence[Photo],
    added: Sequence[Photo],
    outside: Sequence[Photo],
) -> RunRecord:
    """Fit the model's scope again; returns the record that says with which photos.

    Raises:
        InvalidInput: a photo is held out, or in both lists; or there are too few.
    """
    refuse_leak(added, validation)
    refuse_both(outside, [*training, *validation, *added])
    scope = fit_scope(model, [*training, *validation], added, outside, recipe)
    return record.with_scope(scope, fingerprint_unlabelled(outside), fingerprint(added, recipe.labels))
