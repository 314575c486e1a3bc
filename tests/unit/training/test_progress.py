"""Training that counts steps: rounds, learning-rate decay, held-out accuracy, checkpoints, resuming."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from common.errors import CheckFailed, InvalidInput, UserError
from config.recipe import Recipe, override, read_recipe
from dataset.photos import Photo
from tests.helpers.commands import SHAPES
from tests.helpers.pictures import draw_small_set
from training.data.loader import batches
from training.evaluation.metrics import score
from training.fitting.checkpoints import Recorder
from training.fitting.loop import optimise
from training.fitting.progress import Progress, sample_held_out
from training.models.registry import build


@pytest.fixture
def recipe() -> Recipe:
    steps = {"max_steps": 8, "save_every": 2, "batch_size": 4, "optimizer": "adam", "schedule": "decay", "every": 3}
    return override(read_recipe(SHAPES), "train", precision="f32", keep_checkpoints=2, keep="last", **steps)


@pytest.fixture
def few(recipe: Recipe, tmp_path: Path) -> list[Photo]:
    draw_small_set(tmp_path / "few", recipe, 3, seed=1)
    return [Photo(p, recipe.labels.index(p.parent.name), p.name) for p in sorted((tmp_path / "few").rglob("*.*g"))]


def train(recipe: Recipe, few: list[Photo], freeze: bool, folder: Path | None = None) -> tuple[nn.Module, Any]:
    torch.manual_seed(0)
    model = build(recipe.backbone, 3)
    if freeze:
        model.freeze()
    history = optimise(model, few, few, recipe, recipe.train, None, Recorder(folder) if folder else None)
    return model, history


def test_a_diverged_training_ends_with_the_step_and_the_fix(recipe: Recipe, few: list[Photo]) -> None:
    with pytest.raises(
        CheckFailed, match=r"diverged: the loss of step \d+, in .*, is (nan|inf): lower the learning rate"
    ):
        train(override(recipe, "train", learning_rate=1e30, schedule="cosine"), few, freeze=False)


def test_a_damaged_held_out_photo_is_named_before_training(recipe: Recipe, few: list[Photo], tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    model = build(recipe.backbone, 3)
    before = [parameter.clone() for parameter in model.parameters()]
    with pytest.raises(InvalidInput, match=r"broken\.jpg"):
        optimise(model, few, [*few, Photo(tmp_path / "broken.jpg", 0, "x")], recipe, recipe.train)
    assert all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize(
    ("count", "training", "expected"),
    [(13, True, [4, 4, 4]), (14, True, [4, 4, 4, 2]), (13, False, [4, 4, 4, 1]), (1, True, [1])],
)
def test_no_batch_of_one_photo_is_trained_on(
    recipe: Recipe, few: list[Photo], count: int, training: bool, expected: list[int]
) -> None:
    """Batch normalisation over 1 x 1 pixels needs two photos: PyTorch raises an error for one."""
    photos = (few * 2)[:count]
    assert [len(labels) for _, labels in batches(photos, recipe, 4, training)] == expected


def test_steps_continue_over_passes_of_the_photos(recipe: Recipe, few: list[Photo]) -> None:
    _, history = train(recipe, few, freeze=True)
    assert [entry["step"] for entry in history] == [2, 4, 6, 8]
    expected = [0.01 * 0.9 ** (step // 3) for step in (2, 4, 6, 8)]
    assert [entry["learning_rate"] for entry in history] == pytest.approx(expected)


@pytest.mark.slow
@pytest.mark.parametrize("freeze", [False, True])
def test_an_interrupted_training_ends_with_the_same_weights(
    recipe: Recipe, few: list[Photo], tmp_path: Path, freeze: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = override(recipe, "backbone", dropout=0.5)
    whole, history = train(recipe, few, freeze)
    save, saved = Recorder.save, []

    def interrupted(self: Recorder, state: dict[str, Any]) -> None:
        save(self, state)
        saved.append(1)
        if len(saved) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, few, freeze, tmp_path)
    resumed, again = train(recipe, few, freeze, tmp_path)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    assert [entry["validation_loss"] for entry in again] == [entry["validation_loss"] for entry in history]


@pytest.mark.slow
def test_the_last_checkpoints_are_kept(recipe: Recipe, few: list[Photo], tmp_path: Path) -> None:
    train(recipe, few, True, tmp_path)
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["00000006.safetensors", "00000008.safetensors"]


@pytest.mark.slow
def test_dropout_applies_to_cached_features_only_in_training(recipe: Recipe, few: list[Photo]) -> None:
    plain, _ = train(recipe, few, True)
    dropped, _ = train(override(recipe, "backbone", dropout=0.5), few, True)
    assert not torch.equal(plain.state_dict()["network.11.weight"], dropped.state_dict()["network.11.weight"])
    model = build(override(recipe, "backbone", dropout=0.9).backbone, 3).eval()
    photo = torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8)
    assert torch.equal(model(photo), model(photo))


def test_losses_and_held_out_accuracy_are_printed_between_checkpoints(recipe: Recipe) -> None:
    settings = override(recipe, "train", max_steps=6, save_every=6, report_every=2, evaluate_every=3).train
    lines: list[str] = []
    evaluated: list[int] = []

    def evaluate(step: int) -> Any:
        evaluated.append(step)
        return score(torch.eye(3), [Photo(Path("a"), index, "a") for index in range(3)], ("a", "b", "c"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.fitting.progress.note", lines.append)
        shown = Progress(settings, None, evaluate)
        for step, loss in enumerate((1.0, 3.0, 5.0, 7.0), 1):
            shown.step(step, loss, 0.1)
    assert [line.partition(":")[0] for line in lines] == ["step 2", "step 3", "step 4"]
    assert "loss 2.00000" in lines[0]
    assert "balanced accuracy 100.0%" in lines[1]
    assert "loss 6.00000" in lines[2]
    assert evaluated == [3]


def test_the_step_is_the_seed_of_the_held_out_sample(recipe: Recipe) -> None:
    settings = override(recipe, "train", evaluate_batches=2).train
    first = sample_held_out(20, settings, 1)
    assert first is not None
    assert len(set(first)) == 8
    assert first == sample_held_out(20, settings, 1) != sample_held_out(20, settings, 2)
    assert sample_held_out(8, settings, 1) is None
    assert sample_held_out(20, recipe.train, 1) is None


def test_max_steps_is_a_whole_number_of_rounds(recipe: Recipe) -> None:
    with pytest.raises(UserError, match="make it a multiple of 200"):
        override(recipe, "train", max_steps=300, save_every=200)
    assert override(recipe, "train", max_steps=30, save_every=200).train.rounds == 1
