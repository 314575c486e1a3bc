"""cifar10 and mnist from drawn photos to the handler's answer: the nets of the CIFAR-10 document, a few epochs."""

import base64
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from ts.context import Context
from ts.service import Service

from config.recipe import read_recipe
from deploy.archive import pack
from handler import goldens
from handler.service import ClassifierService
from tests.helpers.document_nets import Net, NetOfMnist
from tests.helpers.handler import Metrics
from tests.helpers.siblings import EPOCHS, PHOTOS_PER_LABEL, bundle_of


@pytest.fixture(scope="module", params=["cifar10", "mnist"])
def bundle(request: pytest.FixtureRequest, sibling: Callable[[str], Path]) -> Path:
    return bundle_of(sibling(request.param), request.param)


@pytest.fixture(scope="module")
def unpacked(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    mar = pack(bundle, "1.0", folder)
    shutil.unpack_archive(mar, folder / "unpacked", "zip")
    return folder / "unpacked"


def context(folder: Path) -> Context:
    manifest = json.loads((folder / "MAR-INF" / "MANIFEST.json").read_text())
    return Context(manifest["model"]["modelName"], str(folder), manifest, 1, None, "0.12.0", metrics=Metrics())


def ask(folder: Path, entries: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], int]:
    """The answer and the status of one `{"data": [...]}`."""
    service, now = ClassifierService(), context(folder)
    service.initialize(now)
    value = json.dumps({"data": entries}).encode()
    parameter = {"name": "body", "contentType": "application/json", "value": value}
    batch = [{"requestId": b"0", "headers": [], "parameters": [parameter]}]
    now.request_processor, data, _ = Service.retrieve_data_for_inference(batch)
    answer = json.loads(service.handle(data, now)[0])
    return answer, int(now.get_response_status(0)[0])


def entry(folder: Path, golden: goldens.Golden, **changes: Any) -> dict[str, Any]:
    """An item as the client of the CIFAR-10 document sends it."""
    data = base64.b64encode((folder / golden.photo).read_bytes()).decode()
    shape = list(read_recipe_of(folder).input.shape)
    return {"content_type": "image/png", "data": data, "shape": shape, **changes}


def read_recipe_of(folder: Path) -> Any:
    from handler.spec import read_spec

    return read_spec(folder / "recipe.json")


def test_items_are_answered_in_order_and_bad_items_get_errors(unpacked: Path) -> None:
    rows = goldens.read(unpacked)
    bad: list[dict[str, Any]] = [
        {"shape": [3, 224, 224]},
        {"shape": "32"},
        {"content_type": "text/plain"},
        {"data": "?"},
    ]
    answers, status = ask(
        unpacked, [entry(unpacked, rows[3]), *(entry(unpacked, rows[0], **c) for c in bad), entry(unpacked, rows[1])]
    )
    assert status == 200
    assert answers[0] == {"image_id": None, "result": rows[3].label}
    assert answers[5] == {"image_id": None, "result": rows[1].label}
    codes = [answer["error"]["code"] for answer in answers[1:5]]
    assert codes == ["invalid_request", "invalid_request", "unsupported_format", "invalid_base64"]
    assert str(list(read_recipe_of(unpacked).input.shape)) in answers[1]["error"]["message"]


def test_undeclared_types_and_shapes_are_not_checked(unpacked: Path) -> None:
    golden = goldens.read(unpacked)[2]
    bare = {"data": entry(unpacked, golden)["data"]}
    assert ask(unpacked, [bare]) == ([{"image_id": None, "result": golden.label}], 200)


def test_the_status_is_400_only_if_all_items_fail(unpacked: Path) -> None:
    bad = entry(unpacked, goldens.read(unpacked)[0], shape=[3, 1, 1])
    answers, status = ask(unpacked, [bad, bad])
    assert status == 400
    assert [set(answer) for answer in answers] == [{"image_id", "error"}] * 2


def test_the_checkpoint_has_the_documents_keys_and_fits_its_net(bundle: Path) -> None:
    """The document's network with these weights, and ours of the same epoch (keep: last), give the same logits."""
    from training.records.weights import load_model

    recipe, model, _ = load_model(bundle.parent)
    state = torch.load(bundle.parent / "checkpoint.pth", weights_only=True)
    assert set(state) == {"epoch", "model_state_dict", "optimizer_state_dict"}
    assert state["epoch"] == EPOCHS - 1
    net: nn.Module = Net() if recipe.name == "cifar10" else NetOfMnist()
    net.load_state_dict(state["model_state_dict"])
    torch.optim.AdamW(net.parameters()).load_state_dict(state["optimizer_state_dict"])
    photos = torch.randint(0, 256, (4, *recipe.input.shape), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.allclose(net((photos / 255 - 0.5) / 0.5), model(photos), atol=1e-5)
        assert not torch.allclose(net(F.relu(photos / 255)), model(photos), atol=1e-2)


def test_the_running_loss_is_printed_and_recorded(bundle: Path) -> None:
    run = json.loads((bundle.parent / "run.json").read_text())
    batches = len(range(0, sum(run["data"]["photos"].values()) - sum(run["validation"]["photos"].values()), 8))
    log = (bundle.parents[3] / "train.log").read_text()
    printed = {
        (int(e), int(b)): float(loss) for e, b, loss in re.findall(r"\[(\d+), +(\d+)\] loss: (\d\.\d{3})\n", log)
    }
    recorded: dict[tuple[int, int], float] = {}
    for number, epoch in enumerate(run["epochs"], 1):
        reports = epoch["running_loss"]
        assert [report["batch"] for report in reports] == list(range(5, batches + 1, 5))
        recorded |= {(number, report["batch"]): report["loss"] for report in reports}
    assert printed == pytest.approx(recorded, abs=0.001)
    assert min(recorded, key=recorded.__getitem__)[0] > 1


def test_training_records_the_accuracy_of_every_class_under_the_documents_names(bundle: Path) -> None:
    run = json.loads((bundle.parent / "run.json").read_text())
    recipe = read_recipe(run["recipe"])
    assert set(run["metrics"]["accuracy"]) == set(recipe.labels)
    assert run["data"]["photos"] == dict.fromkeys(recipe.labels, PHOTOS_PER_LABEL)
