"""Caches of photos and of features, and distillation: what makes training fast must not change its result."""

import copy
import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import nn

from benchmarks import document_training
from benchmarks.training import summary
from common.errors import UserError
from config.recipe import Augment, Fit, Recipe, override, read_recipe
from dataset.photos import UNLABELLED, Photo
from handler.spec import Input
from tests.helpers import pictures as drawings
from tests.helpers.commands import SHAPES, newest
from tests.helpers.pictures import draw_small_set
from training.__main__ import main
from training.data.augment import Augmenter
from training.data.cache import Pictures, bounded
from training.data.loader import PhotoSet
from training.data.loader import batches as load_batches
from training.evaluation.inference import Answer, answer, folded, predict
from training.fitting import batches, loop
from training.fitting.batches import Features, only_head_trains
from training.fitting.loop import optimise
from training.models.registry import build
from training.records.weights import load_model


@pytest.fixture
def recipe() -> Recipe:
    return override(read_recipe(SHAPES), "train", epochs=3, precision="f32")


@pytest.fixture
def few(recipe: Recipe, tmp_path: Path) -> list[Photo]:
    draw_small_set(tmp_path / "few", recipe, 3, seed=1)
    return [Photo(p, recipe.labels.index(p.parent.name), p.name) for p in sorted((tmp_path / "few").rglob("*.*g"))]


def same(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def opened(monkeypatch: pytest.MonkeyPatch) -> Counter[Path]:
    """Counts by photo how often it is decoded from now on."""
    decoded: Counter[Path] = Counter()
    read = Path.read_bytes

    def counting(path: Path) -> bytes:
        decoded[path] += 1
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", counting)
    return decoded


@pytest.mark.parametrize("freeze", [False, True])
def test_the_photo_cache_changes_no_weight(recipe: Recipe, few: list[Photo], freeze: bool) -> None:
    trained = []
    for cache in (0, 1, 100):
        changed = override(recipe, "train", cache=cache)
        torch.manual_seed(0)
        model = build(changed.backbone, 3)
        if freeze:
            model.freeze()
        optimise(model, few, few, changed, changed.train)
        trained.append(model)
    assert same(trained[0], trained[1])
    assert same(trained[0], trained[2])


def test_each_photo_is_decoded_once_for_each_use(
    recipe: Recipe, few: list[Photo], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = opened(monkeypatch)
    training, validation = few[::2], few[1::2]
    optimise(build(recipe.backbone, 3), training, validation, recipe, recipe.train)
    assert dict(decoded) == {photo.path: 1 for photo in few}


def test_a_full_cache_is_reported_once_and_photos_are_decoded_again(
    recipe: Recipe, few: list[Photo], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    size = Pictures(recipe, 100)
    size.picture(few[0].path)
    pictures = Pictures(recipe, 100)
    pictures.limit = size.used
    decoded = opened(monkeypatch)
    for _ in range(2):
        for photo in few[:3]:
            pictures.picture(photo.path)
    assert [decoded[photo.path] for photo in few[:3]] == [1, 2, 2]
    assert capsys.readouterr().err.count("decoded each time") == 1


def test_free_memory_is_the_default_limit(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    class Memory:
        available = 1000

    monkeypatch.setattr(psutil, "virtual_memory", Memory)
    assert Pictures(recipe).limit == 500
    assert Pictures(override(recipe, "train", cache=7)).limit == 7 * 2**20


@pytest.mark.parametrize(
    ("shape", "size"),
    [((1000, 1000), (200, 200)), ((4000, 400), (1000, 100)), ((90, 400), (90, 400)), ((4000, 90), (4000, 90))],
)
def test_photos_to_augment_keep_twice_the_input_size(shape: tuple[int, int], size: tuple[int, int]) -> None:
    assert bounded(Image.new("RGB", shape), Input(height=50, width=100)).size == size


def test_a_picture_of_the_cache_is_never_changed() -> None:
    settings = Augment(border=1, flip=1, brightness=0.5, contrast=0.5, saturation=0.5, jpeg=(30, 40), shrink=(0.3, 0.5))
    photo = drawings.photo()
    before = photo.tobytes()
    for changed in (settings, Augment(scale=(1, 1), flip=1, brightness=0.5)):
        Augmenter(changed, Input(height=70, width=50))(photo)
    assert photo.tobytes() == before


def test_each_step_of_the_augmenter_does_something() -> None:
    whole = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0)}
    photo = drawings.photo().resize((100, 100))
    size = Input(height=50, width=50)

    def changed(**settings: Any) -> np.ndarray[Any, Any]:
        torch.manual_seed(3)
        return Augmenter(Augment.model_validate({**whole, **settings}), size)(photo).astype(int)

    plain = changed()
    assert np.array_equal(changed(flip=1.0), plain[:, :, ::-1])
    assert np.array_equal(plain, np.asarray(photo.resize((50, 50), Image.Resampling.BILINEAR)).transpose(2, 0, 1))
    steps: list[dict[str, Any]] = [{"jpeg": (5, 5)}, {"shrink": (0.1, 0.2)}, {"border": 1.0}, {"brightness": 0.5}]
    for settings in steps:
        assert np.abs(changed(**settings) - plain).mean() > 1, settings
    grey = changed(saturation=1.0)
    assert np.abs(grey - plain).mean() > 0.5


def test_features_are_what_the_last_layer_sees(recipe: Recipe, few: list[Photo]) -> None:
    pixels = torch.stack([PhotoSet(few, recipe, False)[index][0] for index in range(4)])
    for name in ("smallnet", "resnet18", "efficientnet_lite0"):
        model = build(override(recipe, "backbone", name=name, weights="none").backbone, 3).eval()
        head = model.network.get_submodule(model.head)
        with torch.no_grad():
            assert torch.allclose(head(answer(model, model.head, pixels).features), model(pixels), atol=1e-5)


@pytest.mark.parametrize("name", ["smallnet", "resnet18", "efficientnet_lite0"])
def test_folded_batch_norms_change_no_answer_and_not_the_model(recipe: Recipe, name: str) -> None:
    model = build(override(recipe, "backbone", name=name, weights="none").backbone, 3)
    photos = torch.randint(0, 256, (4, 3, 64, 96), dtype=torch.uint8)
    for _ in range(3):
        model.train()(photos)  # statistics other than the first ones
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.no_grad():
        expected = model.eval()(photos)
        assert torch.allclose(folded(model)(photos), expected, atol=1e-3, rtol=1e-3)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    if name != "efficientnet_lite0":  # timm's batch norms hold their activation, and stay
        assert not [part for part in folded(model).modules() if isinstance(part, nn.BatchNorm2d)]


def test_only_a_frozen_model_trains_on_features(recipe: Recipe) -> None:
    model = build(recipe.backbone, 3)
    assert not only_head_trains(model)
    model.freeze()
    assert only_head_trains(model)


def test_a_frozen_network_runs_once_for_each_view(
    recipe: Recipe, few: list[Photo], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    passed: list[int] = []

    def counting(network: nn.Module, head: str, photos: torch.Tensor) -> Answer:
        passed.append(len(photos))
        return answer(network, head, photos)

    def full(*_: Any) -> None:
        raise AssertionError("an epoch ran the whole network")

    monkeypatch.setattr(batches, "answer", counting)
    monkeypatch.setattr(batches, "predict", full)
    model = build(recipe.backbone, 3)
    model.freeze()
    changed = override(recipe, "train", epochs=9, copies=2)
    history = optimise(model, few, few, changed, changed.train)
    assert len(history) == 9
    assert sum(passed) == 2 * len(few) + len(few)
    assert "2 augmented views of each of 9 photos" in " ".join(capsys.readouterr().err.split())


def test_a_frozen_epoch_is_the_epoch_that_it_replaces(recipe: Recipe, few: list[Photo]) -> None:
    """Without augmentation there is nothing random but the order: features and pixels train the same last layer."""
    still = recipe.model_copy(update={"augment": Augment(scale=(1, 1), ratio=(1.5, 1.5))})
    weights = []
    for feed in (batches.Features, batches.Pixels):
        torch.manual_seed(0)
        model = build(still.backbone, 3)
        model.freeze()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(batches, "Features", feed)
            history = optimise(model, few, few, still, still.train)
        weights.append((model.state_dict()["network.11.weight"], history[-1]["validation_loss"]))
    assert torch.allclose(weights[0][0], weights[1][0], atol=1e-4)
    assert weights[0][1] == pytest.approx(weights[1][1], abs=1e-3)


@pytest.mark.parametrize("norms", ["batch", "adapted"])
def test_norms_of_a_frozen_network_take_the_photos_statistics_only_on_request(
    recipe: Recipe, few: list[Photo], norms: str
) -> None:
    still = recipe.model_copy(update={"augment": Augment(scale=(1, 1), ratio=(1.5, 1.5))})
    still = override(still, "train", norms=norms)
    model = build(still.backbone, 3)
    model.freeze()
    before = copy.deepcopy(model)
    optimise(model, few, few, still, still.train)
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before.state_dict()[name])}
    head = {f"network.{before.head}.{name}" for name in ("weight", "bias")}
    (first,) = [name for name, module in before.named_modules() if isinstance(module, nn.BatchNorm2d)][:1]
    statistics = {name for name in model.state_dict() if "running" in name or "tracked" in name}
    assert statistics and moved == (head | statistics if norms == "adapted" else head)
    inputs_of_first: list[torch.Tensor] = []
    before.get_submodule(first).register_forward_pre_hook(lambda _, inputs: inputs_of_first.append(inputs[0]))
    pixels = torch.cat(
        [pixels for pixels, _ in load_batches(few[:8], still, 8, augment=True, pictures=Pictures(still))]
    )
    before.eval()(pixels)
    adapted = model.get_submodule(first).running_mean
    assert isinstance(adapted, torch.Tensor)
    assert torch.allclose(adapted, inputs_of_first[0].mean((0, 2, 3)), atol=1e-4) == (norms == "adapted")


def test_epochs_take_turns_with_the_views(recipe: Recipe, few: list[Photo]) -> None:
    model = build(recipe.backbone, 3)
    model.freeze()
    changed = override(recipe, "train", copies=2, batch_size=9)
    feed = Features(model, few, few, changed, changed.train, None)
    views = [next(feed.epoch(number))[0].sort(0).values for number in range(3)]
    assert torch.equal(views[0], views[2])
    assert not torch.equal(views[0], views[1])


def test_a_model_comes_back_as_other_code_expects_it(recipe: Recipe, few: list[Photo]) -> None:
    model, teacher = build(recipe.backbone, 3), build(recipe.backbone, 3)
    settings = recipe.train.model_copy(update={"distill": 0.5})
    optimise(model, few, few, recipe, settings, teacher)
    for network in (model, teacher):
        assert all(parameter.is_contiguous() for parameter in network.parameters())
        assert not network.training


def test_photos_without_a_label_are_learnt_from_the_teacher_alone() -> None:
    logits = torch.tensor([[1.0, -1.0], [0.5, 0.2], [0.0, 3.0]])
    target = torch.tensor([[2.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    labels = torch.tensor([0, UNLABELLED, 1])
    given, teacher, distill = Answer(logits, logits), Answer(target, target), Fit(distill=0.7)
    criterion = nn.CrossEntropyLoss(ignore_index=UNLABELLED)
    hard = nn.functional.cross_entropy(logits[[0, 2]], labels[[0, 2]])
    soft = -(target.softmax(1) * logits.log_softmax(1)).sum(1).mean()
    assert loop._loss(criterion, given, labels, teacher, distill) == pytest.approx(float(0.3 * hard + 0.7 * soft))
    none = torch.full((3,), UNLABELLED)
    assert loop._loss(criterion, given, none, teacher, distill) == pytest.approx(float(0.7 * soft))
    assert float(loop._loss(criterion, given, none, None, Fit())) == 0


def test_the_distance_of_matched_features_is_divided_by_the_teachers_variance() -> None:
    same = torch.zeros(3, 2)
    target = torch.tensor([[0.0, 10.0], [20.0, 30.0], [40.0, 50.0]])
    given = Answer(same, target + 5)
    loss = loop._loss(nn.CrossEntropyLoss(), given, torch.zeros(3).long(), Answer(same, target), Fit(match=2.0))
    assert float(loss) == pytest.approx(float(torch.tensor(2.0).log()) + 2 * 25 / float(target.var()))


def test_matching_brings_the_features_of_a_damaged_model_back(recipe: Recipe, few: list[Photo]) -> None:
    torch.manual_seed(1)
    teacher = build(recipe.backbone, 3).eval()
    model = copy.deepcopy(teacher)
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.add_(0.3 * parameter.std() * torch.randn_like(parameter))
    pixels = torch.stack([PhotoSet(few, recipe, False)[index][0] for index in range(len(few))])

    def distance() -> float:
        with torch.no_grad():
            features, target = (answer(network.eval(), network.head, pixels).features for network in (model, teacher))
        return float((features - target).square().mean())

    before = distance()
    settings = Fit(match=1.0, norms="frozen", epochs=40, batch_size=3, optimizer="adamw", learning_rate=0.003)
    statistics = {name: value.clone() for name, value in model.state_dict().items() if "running" in name}
    optimise(model, few, few, recipe, settings, teacher)
    assert distance() < before / 2
    assert all(torch.equal(model.state_dict()[name], value) for name, value in statistics.items())


def test_features_of_another_width_cannot_be_matched(recipe: Recipe, few: list[Photo]) -> None:
    model, teacher = (
        build(recipe.backbone, 3),
        build(override(recipe, "backbone", name="resnet18", weights="none").backbone, 3),
    )
    with pytest.raises(UserError, match="64 features of this model with the teacher's 512"):
        optimise(model, few, few, recipe, recipe.train.model_copy(update={"match": 1.0}), teacher)


@pytest.mark.parametrize("freeze", [False, True])
def test_unlabelled_photos_move_the_student(recipe: Recipe, few: list[Photo], freeze: bool) -> None:
    settings = recipe.train.model_copy(update={"distill": 0.5, "class_weights": True, "sampling": "balanced"})
    torch.manual_seed(5)
    teacher = build(recipe.backbone, 3).eval()
    hidden = [replace(photo, label=UNLABELLED) for photo in few]
    trained = []
    for photos in (few, [*few, *hidden]):
        torch.manual_seed(0)
        model = build(recipe.backbone, 3)
        if freeze:
            model.freeze()
        history = optimise(model, photos, few, recipe, settings, teacher)
        assert all(math.isfinite(entry["training_loss"]) for entry in history)
        assert all(0 <= entry["training_accuracy"] <= 1 for entry in history)
        trained.append(model)
    assert not same(*trained)


def test_views_depend_only_on_the_seed(recipe: Recipe, few: list[Photo]) -> None:
    drawn = []
    for before in (0, 7):
        torch.manual_seed(1)
        model = build(recipe.backbone, 3)
        model.freeze()
        torch.rand(before)
        drawn.append(Features(model, few, few, recipe, recipe.train, None).views[0][0])
    assert torch.equal(*drawn)


def run(*words: object) -> str:
    done = CliRunner().invoke(main, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done.output


def refused(*words: object) -> str:
    done = CliRunner().invoke(main, [str(word) for word in words])
    assert done.exit_code == 1, done.output
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    return line


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn photos, others without a label, and a teacher's run."""
    place = tmp_path_factory.mktemp("taught")
    draw_small_set(place / "drawn", read_recipe(SHAPES), 8, seed=1)
    draw_small_set(place / "others", read_recipe(SHAPES), 2, seed=2)
    run("train", SHAPES, "--data", place / "drawn", "--runs", place / "runs", "--epochs", 1)
    return place


def test_a_run_names_its_teacher(taught: Path, tmp_path: Path) -> None:
    teacher = newest(taught / "runs" / "shapes", "train")
    arguments = ["--data", taught / "drawn", "--runs", tmp_path, "--epochs", 1, "--weights", "none"]
    teaching = ["--teacher", teacher, "--distill", 0.6, "--unlabelled", taught / "others"]
    run("train", SHAPES, *arguments, *teaching, "--backbone", "resnet18")
    recipe, _, record = load_model(newest(tmp_path / "shapes", "train"))
    assert record.inputs.teacher == teacher.name
    assert record.inputs.unlabelled is not None and record.inputs.unlabelled.photos == 6
    assert recipe.train.distill == 0.6
    assert recipe.backbone.name == "resnet18"
    assert record.inputs.data is not None and record.inputs.data.photos == {"disc": 8, "stripe": 8, "cross": 8}
    listed = json.loads(run("runs", "--runs", tmp_path, "--json"))
    assert [row["id"] for row in listed] == [record.id]


def test_an_unusable_teacher_is_refused(taught: Path, tmp_path: Path) -> None:
    teacher = newest(taught / "runs" / "shapes", "train")
    begin = ["train", SHAPES, "--data", taught / "drawn", "--runs", tmp_path, "--epochs", 1]
    assert "give --teacher RUN" in refused(*begin, "--unlabelled", taught / "others")
    assert "give --teacher RUN" in refused(*begin, "--distill", 0.5)
    assert "give --distill 0.7" in refused(*begin, "--teacher", teacher)
    teaching = ["--teacher", teacher, "--distill", 0.5]
    assert "held out other photos of the same data" in refused(*begin, *teaching, "--seed", 3)
    assert "--unlabelled" in (line := refused(*begin, *teaching, "--unlabelled", taught / "drawn"))
    assert "is held out as" in line
    (tmp_path / "empty").mkdir()
    assert "has no photo" in refused(*begin, *teaching, "--unlabelled", tmp_path / "empty")
    assert "leave out --teacher" in refused(*begin, *teaching, "--sweep", "smallnet")
    wide = tmp_path / "wide.yaml"
    wide.write_text(SHAPES.read_text().replace("width: 96", "width: 64"))
    assert "has input" in refused("train", wide, *begin[2:], *teaching)


def test_unreadable_photos_are_named(recipe: Recipe, few: list[Photo], tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    broken = [*few, Photo(tmp_path / "broken.jpg", 0, "x")]
    for augment in (False, True):
        with pytest.raises(UserError, match=r"broken\.jpg.*take it out"):
            list(load_batches(broken, recipe, 4, augment, pictures=Pictures(recipe)))


def test_predictions_are_the_same_with_a_cache(recipe: Recipe, few: list[Photo]) -> None:
    model = build(recipe.backbone, 3)
    pictures = Pictures(recipe)
    expected = predict(model, few, recipe)
    assert all(torch.equal(expected, predict(model, few, recipe, pictures)) for _ in range(2))


@pytest.mark.parametrize("freeze", [False, True])
def test_the_documents_loop_trains_the_parameters_that_it_names(
    recipe: Recipe, few: list[Photo], monkeypatch: pytest.MonkeyPatch, freeze: bool
) -> None:
    monkeypatch.setattr(document_training, "WORKERS", 0)
    model = build(recipe.backbone, 3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    document_training.train_as_the_document(model, few, few, recipe.input, 1, freeze)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    last = {"network.11.weight", "network.11.bias"}
    parameters = {name for name, _ in model.named_parameters()}
    assert changed & parameters == (last if freeze else parameters)
    assert any("running_mean" in name for name in changed), "the loop of the classroom document updates the statistics"


def trainings(seconds: tuple[float, float, float], accuracy: float = 0.9) -> list[dict[str, Any]]:
    rows = []
    for mode in ("full", "frozen"):
        for way, time in zip(("document", "ours", "ours, f32"), seconds, strict=True):
            score = 0.9 if way == "document" else accuracy
            rows.append({"mode": mode, "way": way, "seconds": time, "mean_accuracy": score})
    return rows


def test_the_benchmark_says_which_promise_is_broken() -> None:
    assert summary(trainings((50, 10, 20)), True)["broken"] == []
    slow = " ".join(summary(trainings((50, 25, 45)), True)["broken"])
    assert "full, ours: 2.0 times" in slow
    assert "full, ours, f32: 1.11 times" in slow
    assert "frozen, ours: 2.0 times" in slow
    assert summary(trainings((50, 25, 25)), False)["broken"] == [], "without bf16 it promises less"
    worse = summary(trainings((50, 10, 20), 0.85), True)["broken"]
    assert len(worse) == 4
    assert "85.0%, the document's loop 90.0%" in worse[0]
