"""The nets of the CIFAR-10 document: its state dicts load and give its logits; input and labels of the recipes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from common.errors import UserError
from config.recipe import Backbone, Fit, read_recipe, validated
from dataset.photos import read_photos, split_parts
from handler.image import fit, preprocess, to_array
from handler.spec import Input, Limits
from tests.helpers.document_nets import Net, NetOfMnist
from training.fitting.progress import Progress
from training.models.registry import NoWeights, build, pretrained


@pytest.mark.parametrize(("name", "document"), [("cifar10", Net), ("mnist", NetOfMnist)])
def test_a_state_dict_of_the_cifar_document_loads_and_gives_the_same_logits(
    name: str, document: type[nn.Module], tmp_path: Path
) -> None:
    recipe, net = read_recipe(name), document()
    with torch.no_grad():
        net.get_parameter("fc3.weight").mul_(3)
    path = tmp_path / "net.pth"
    torch.save(net.state_dict(), path)
    model = build(Backbone(name=recipe.backbone.name, weights=str(path)), 10).eval()
    model.network.load_state_dict(net.state_dict())  # --weights leaves the last layer out
    photos = torch.randint(0, 256, (5, *recipe.input.shape), dtype=torch.uint8)
    expected = net((photos.float() / 255 - 0.5) / 0.5)
    assert torch.allclose(model(photos), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["cifar_net", "mnist_net", "scenes_net", "smallnet"])
@pytest.mark.parametrize("construct", [lambda backbone: build(backbone, 10), pretrained])
def test_networks_without_imagenet_weights_raise_one_kind_of_error(name: Any, construct: Any) -> None:
    with pytest.raises(NoWeights, match=rf"{name} has no ImageNet weights: set backbone\.weights to none"):
        construct(Backbone(name=name, weights="imagenet"))


def grey(recipe_like: Any, **changes: Any) -> dict[str, Any]:
    content: dict[str, Any] = read_recipe(recipe_like).model_dump(mode="json")
    return {**content, **changes}


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("mnist", {"input": {"height": 28, "width": 28}}, "mnist_net requires an input of 1 x 28 x 28"),
        ("cifar10", {"input": {"height": 64, "width": 32}}, "cifar_net requires an input of 3 x 32 x 32"),
        ("shapes", {"input": {"height": 64, "width": 96, "channels": 1}}, "smallnet requires an input of 3 channels"),
        ("shapes", {"input": {"height": 64, "width": 96, "channels": 2}}, "input.channels"),
        ("cifar10", {"aliases": {"airplane": "plain"}}, "legal are .*'plane'"),
        ("cifar10", {"aliases": {"car": "plane"}}, "are labels already"),
        ("cifar10", {"train": {"report_every": 0}}, "train.report_every"),
    ],
)
def test_a_recipe_that_cannot_work_is_refused(name: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        validated(grey(name, **changes), "mine.yaml")


def test_one_channel_is_pillows_luma_of_what_is_seen(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    size = Input(height=28, width=28, channels=1)
    array = preprocess((tmp_path / "a.png").read_bytes(), size, Limits())
    assert array.shape == (1, 28, 28)
    assert array.dtype == np.uint8
    luma = (pixels @ [0.299, 0.587, 0.114])[None]
    assert np.abs(array - luma).max() <= 1
    three = to_array(fit(Image.fromarray(pixels), Input(height=28, width=28)))
    assert np.array_equal(three, pixels.transpose(2, 0, 1))


def test_grey_pictures_keep_their_values() -> None:
    values = np.arange(28 * 28, dtype=np.uint8).reshape(28, 28)
    size = Input(height=28, width=28, channels=1)
    assert np.array_equal(to_array(fit(Image.fromarray(values).convert("RGB"), size))[0], values)


ALIASES = {"airplane": "plane", "automobile": "car"}


def test_photos_under_another_name_are_read_as_the_label(tmp_path: Path) -> None:
    for name in ("airplane/1.png", "plane/2.png", "automobile/3.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"-")
    photos = read_photos(tmp_path, ("plane", "car"), aliases=ALIASES)
    read = {photo.path.relative_to(tmp_path).as_posix(): photo.label for photo in photos}
    assert read == {"airplane/1.png": 0, "plane/2.png": 0, "automobile/3.png": 1}
    with pytest.raises(UserError, match="no folder car"):
        read_photos(tmp_path, ("plane", "car"))
    table = tmp_path / "t.tsv"
    table.write_text("path\tlabel\nairplane/1.png\tairplane\nautomobile/3.png\tcar\n")
    assert [photo.label for photo in read_photos(table, ("plane", "car"), aliases=ALIASES)] == [0, 1]


def test_a_split_folder_may_have_other_names_too(tmp_path: Path) -> None:
    for part in ("train", "val"):
        for name in ("airplane", "automobile"):
            (tmp_path / part / name).mkdir(parents=True)
            (tmp_path / part / name / "1.png").write_bytes(b"-")
    assert split_parts(tmp_path, ("plane", "car"), ALIASES) == ["train", "val"]
    photos = read_photos(tmp_path, ("plane", "car"), aliases=ALIASES)
    assert sorted((photo.part, photo.label) for photo in photos) == [("train", 0), ("train", 1), ("val", 0), ("val", 1)]


def test_the_running_loss_is_of_the_last_batches_alone(capsys: pytest.CaptureFixture[str]) -> None:
    def reports(every: int | None) -> list[dict[str, float]]:
        shown = Progress(Fit(report_every=every), None, lambda step: pytest.fail("nothing is evaluated"), epoch=1)
        for batch, loss in enumerate((1.0, 2.0, 3.0, 5.0, 5.0, 5.0, 9.0), 101):
            shown.step(batch, loss, 0.1)
        return shown.reports

    assert reports(3) == [{"batch": 3, "loss": 2.0}, {"batch": 6, "loss": 5.0}]
    assert "[2,     6] loss: 5.000" in capsys.readouterr().err
    assert reports(None) == []
