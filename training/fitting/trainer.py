"""Training one model into a run: what `train`, a sweep and each fold of cross-validation share."""

from collections.abc import Sequence
from pathlib import Path

import torch

from common.console import note
from common.errors import InvalidInput
from common.words import number_of
from config.recipe import Recipe
from dataset.photos import Photo
from training.data.selection import divide, fingerprint, fingerprint_unlabelled, refuse_both, refuse_leak, tell_leak
from training.evaluation.inference import predict
from training.evaluation.metrics import score
from training.fitting import parallel
from training.fitting.checkpoints import Follower, Recorder
from training.fitting.distillation import Teacher
from training.fitting.loop import optimise
from training.fitting.scope import fit_scope, require_enough
from training.models.classifier import Classifier
from training.models.registry import build
from training.records.folder import make_run
from training.records.run import Inputs, Metrics, RunRecord, Trained, read_record
from training.records.weights import load_model, save_model


def train_run(
    recipe: Recipe,
    photos: Sequence[Photo],
    added: Sequence[Photo],
    root: Path,
    fresh: bool = False,
    init_from: Path | None = None,
    teacher: Teacher | None = None,
    outside: Sequence[Photo] = (),
) -> tuple[Path, RunRecord]:
    """Train one model into a run.

    Args:
        added: photos to train on besides, never held out.
        init_from: a run to start from.
        teacher: a model to learn from as well.
        outside: photos of no class: with them the model gets a scope.

    Returns:
        the run's folder and record.

    Raises:
        UserError: held-out photos would be trained on, or `init_from` does not fit the recipe.
    """
    training, validation = divide(photos, recipe)
    refuse_leak(added, validation)
    refuse_both(outside, [*photos, *added])
    if outside:
        require_enough([*training, *validation], outside)
    if not parallel.rank():
        tell_leak(training, validation)
    inputs = Inputs(
        parent=None,
        data=fingerprint(photos, recipe.labels),
        validation=fingerprint(validation, recipe.labels),
        extra=fingerprint(added, recipe.labels),
    )
    if outside:
        inputs = inputs.model_copy(update={"outside": fingerprint_unlabelled(outside)})
    start = None
    if init_from:
        start, parent = _start_from(init_from, recipe, inputs)
        inputs = inputs.model_copy(update={"parent": parent.id})
    if teacher:
        teacher.refuse_leak(validation, inputs)
        inputs = teacher.added_to(inputs)
    seen = [*training, *added, *(teacher.unlabelled if teacher else [])]

    if parallel.rank():
        train_model(recipe, seen, validation, Follower(Path(parallel.heard())), start)
        made = Path(parallel.heard())
        return made, read_record(made)

    def work(folder: Path) -> Trained:
        parallel.tell(str(folder))
        recorder = Recorder(folder, portable=True)
        model, result = train_model(recipe, seen, validation, recorder, start, teacher.model if teacher else None)
        if outside:
            scope = fit_scope(model, [*training, *validation], added, outside, recipe)
            result = result.model_copy(update={"scope": scope, "summary": f"{result.summary}; {scope}"})
        save_model(folder, model)
        return result

    made, record = make_run("train", recipe, root, inputs, work, fresh)
    parallel.tell(str(made))
    return made, record


def train_model(
    recipe: Recipe,
    training: Sequence[Photo],
    validation: Sequence[Photo],
    recorder: Recorder | None = None,
    start: Classifier | None = None,
    teacher: Classifier | None = None,
) -> tuple[Classifier, Trained]:
    """Build a model (or take `start`) and train it.

    Args:
        recorder: keeps checkpoints, and resumes from the last one.

    Returns:
        the model, and its epochs, parameter counts and scores on the held-out photos.
    """
    torch.manual_seed(recipe.train.seed)
    model = start or build(recipe.backbone, len(recipe.labels), recipe.input)
    if recipe.train.freeze:
        model.freeze()
    count = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    note(
        f"{recipe.backbone.name}: {trained:,} of {count:,} parameters are trained, on "
        f"{number_of(len(training), 'photo')}; {number_of(len(validation), 'photo is', 'photos are')} held out"
    )
    epochs = optimise(model, training, validation, recipe, recipe.train, teacher, recorder)
    scores = score(predict(model, validation, recipe), validation, recipe.labels)
    result = Trained(
        parameters=count,
        trained_parameters=trained,
        epochs=epochs,
        metrics=Metrics.model_validate(scores.as_json()),
        summary=str(scores),
    )
    return model, result


def _start_from(run: Path, recipe: Recipe, inputs: Inputs) -> tuple[Classifier, RunRecord]:
    """The model of another run, to be fine-tuned."""
    before, model, record = load_model(run)
    if (before.backbone.name, before.labels) != (recipe.backbone.name, recipe.labels):
        raise InvalidInput(
            f"--init-from is a {before.backbone.name} for {', '.join(before.labels)}, but this recipe needs a "
            f"{recipe.backbone.name} for {', '.join(recipe.labels)}",
            "give --backbone, or another run",
        )
    if record.inputs.validation != inputs.validation:
        note(f"note: {run} held out other photos: it may have been trained on some that are held out now")
    model.scope = None  # it belongs to the former features
    model.pool = recipe.backbone.pool
    return model.requires_grad_(True), record
