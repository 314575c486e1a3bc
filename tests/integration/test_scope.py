"""A model that knows what is out of scope, from graph to answer: goldens, archive, detail, refusal, request log."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

from common.errors import CheckFailed
from common.files import write_json
from config.recipe import SCOPE_OUTPUT, Recipe, read_recipe, with_threshold
from dataset.draw import draw
from deploy.archive import pack
from deploy.torchserve import probes
from handler import goldens
from handler.image import preprocess
from handler.spec import read_spec
from tests.helpers.commands import SHIPPED, command
from tests.helpers.handler import ask, encoded, started
from tests.helpers.pictures import encode
from tests.helpers.small import random_bundle, unpacked
from training.bundles.goldens import GOLDEN_SEED, NO_CLASS_DRAWING, draw_goldens
from training.bundles.scope_output import _features, with_scope
from training.models.scope import COLOUR_STEP, Scope, colours_of, features_of
from training.records.run import read_recipe_of, read_record

INSIDE = encode(draw("discs", 3), "JPEG", quality=85)
OUTSIDE = encode(draw(NO_CLASS_DRAWING, GOLDEN_SEED), "JPEG", quality=85)  # the first golden drawing of no class


def features(graph: onnx.ModelProto, recipe: Recipe, data: bytes) -> torch.Tensor:
    graph.graph.output.append(onnx.helper.make_empty_tensor_value_info(_features(graph)))
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    graph.graph.output.pop()
    photo = preprocess(data, recipe.input, recipe.limits)[None]
    last = torch.from_numpy(session.run(None, {recipe.export.input: photo})[1])
    return features_of(last, (), colours_of(torch.from_numpy(photo), COLOUR_STEP * recipe.backbone.pool))


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights, and a scope halfway between the features of INSIDE and OUTSIDE."""
    folder = random_bundle(read_recipe("shapes"), tmp_path_factory.mktemp("bundle"))
    recipe = with_threshold(read_recipe_of(folder), 0.5)
    graph = onnx.load(folder / "model.onnx")
    inside, outside = (features(graph, recipe, data) for data in (INSIDE, OUTSIDE))
    direction = (inside - outside).T / (inside - outside).square().sum()
    scope = Scope(inside.shape[1], 1)
    scope.weight.copy_(10 * direction)
    scope.scale.zero_()
    scope.bias.fill_(float(-10 * ((inside + outside) / 2 @ direction)))
    (folder / "model.onnx").write_bytes(with_scope(graph, scope, recipe.backbone.pool).SerializeToString())
    write_json(folder / "recipe.json", recipe.model_dump(mode="json"))
    shutil.rmtree(folder / "goldens")
    draw_goldens(folder, recipe)
    return pack(folder, "1.0", tmp_path_factory.mktemp("store"))


@pytest.fixture
def root(archive: Path, tmp_path: Path) -> Path:
    return unpacked(archive, tmp_path / "unpacked")


def change_answer(root: Path, **changes: Any) -> None:
    content = json.loads((root / "recipe.json").read_text())
    content["answer"].update(changes)
    write_json(root / "recipe.json", content)


def test_detail_says_whether_a_photo_is_in_scope(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    service = started(root)
    bodies = [encoded(INSIDE, detail=True), encoded(OUTSIDE, detail=True), encoded(OUTSIDE)]
    (inside, outside, plain), now = ask(service, root, *bodies)
    keys = ["image_id", "result", "probabilities", "confidence", "unsure", "in_scope", "out_of_scope", "model_version"]
    assert list(inside) == keys
    assert (inside["out_of_scope"], outside["out_of_scope"]) == (False, True)
    assert inside["in_scope"] > 0.9 > 0.1 > outside["in_scope"]
    assert outside["result"] in service.spec.labels
    assert list(plain) == ["image_id", "result"]
    assert [now.get_response_status(index)[0] for index in range(3)] == [200, 200, 200]
    lines = [json.loads(message) for message in caplog.messages if message.startswith('{"time')]
    assert [line["out_of_scope"] for line in lines] == [0, 1, 1]


def test_a_recipe_that_refuses_answers_422_with_and_without_detail(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    change_answer(root, out_of_scope="refuse")
    service = started(root)
    both = json.dumps({"data": [json.loads(encoded(photo)) for photo in (INSIDE, OUTSIDE)]}).encode()
    answers, now = ask(service, root, encoded(INSIDE), encoded(OUTSIDE), encoded(OUTSIDE, detail=True), both)
    assert [now.get_response_status(index)[0] for index in range(4)] == [200, 422, 422, 200]
    assert answers[1]["error"]["code"] == answers[2]["error"]["code"] == "out_of_scope"
    assert "none of the classes of shapes" in answers[1]["error"]["message"]
    assert answers[3][0]["result"] in service.spec.labels
    assert answers[3][1]["error"]["code"] == "out_of_scope"
    lines = [json.loads(message) for message in caplog.messages if message.startswith('{"time')]
    assert [(line["out_of_scope"], line["code"]) for line in lines] == [
        (0, "ok"),
        (1, "out_of_scope"),
        (1, "out_of_scope"),
        (1, "out_of_scope"),
    ]
    assert lines[1]["results"] == []


def test_goldens_pin_the_scope(root: Path) -> None:
    rows = goldens.read(root)
    assert all(row.in_scope is not None for row in rows)
    assert any("no_class" in row.photo and row.in_scope < 0.5 for row in rows if row.in_scope is not None)
    content = json.loads((root / "goldens.json").read_text())
    content[0]["in_scope"] = 1 - content[0]["in_scope"]
    write_json(root / "goldens.json", content)
    with pytest.raises(goldens.GoldenMismatch, match="in scope"):
        started(root)


def test_a_rollout_accepts_the_refusal_of_a_golden_photo_that_is_out_of_scope(archive: Path, root: Path) -> None:
    change_answer(root, out_of_scope="refuse")
    service, spec = started(root), read_spec(root / "recipe.json")

    class Client:
        def predict(self, _: str, body: dict[str, Any]) -> Any:
            (answer,), now = ask(service, root, json.dumps(body).encode())
            status = now.get_response_status(0)[0]
            return SimpleNamespace(ok=status == 200, status_code=status, json=lambda: answer, text=json.dumps(answer))

    for question in probes.questions(archive):
        refused = spec.answer.is_out_of_scope(question.golden.in_scope)
        answer = probes.ask(Client(), question, "shapes", spec)  # type: ignore[arg-type]
        assert ("error" in answer) is refused
    without = replace(question.golden, in_scope=None)
    with pytest.raises(CheckFailed):
        probes.ask(Client(), probes.Question(without, question.body), "shapes", spec)  # type: ignore[arg-type]


def test_export_fits_the_scope_and_leaves_the_classes_as_they_are(
    runs: Path, bundle: Path, drawn: Path, tmp_path: Path
) -> None:
    logos = tmp_path / "logos"
    logos.mkdir()
    for seed in range(12):
        (logos / f"{seed}.png").write_bytes(encode(draw(NO_CLASS_DRAWING, seed), "PNG"))
    target = tmp_path / "bundle"
    command("training", "export", bundle.parent, "--data", drawn, "--outside", logos, "--out", target)
    recipe, record = read_recipe_of(target), read_record(target)
    assert record.inputs.outside and record.inputs.outside.count == 12
    assert recipe.answer.scope_threshold is not None
    photo = {recipe.export.input: preprocess(INSIDE, recipe.input, recipe.limits)[None]}
    before, after = (
        onnxruntime.InferenceSession(folder / "model.onnx").run(None, photo) for folder in (bundle, target)
    )
    assert (before[0] == after[0]).all()
    assert after[1].item() >= recipe.answer.scope_threshold
    logo = {
        recipe.export.input: preprocess(encode(draw(NO_CLASS_DRAWING, 50), "PNG"), recipe.input, recipe.limits)[None]
    }
    assert onnxruntime.InferenceSession(target / "model.onnx").run(None, logo)[1].item() < recipe.answer.scope_threshold


def test_the_shipped_model_keeps_rooms_in_black_and_white_and_windows_without_a_camera_in_scope() -> None:
    recipe = read_recipe_of(SHIPPED)
    session = onnxruntime.InferenceSession(SHIPPED / "model.onnx")

    def in_scope(picture: Image.Image) -> bool:
        photo = preprocess(encode(picture, "JPEG", quality=90), recipe.input, recipe.limits)[None]
        (value,) = session.run([SCOPE_OUTPUT], {recipe.export.input: photo})
        return bool(value.item() >= (recipe.answer.scope_threshold or 1))

    grey = [draw("rooms", 1000 + seed).convert("L").convert("RGB") for seed in range(12)]
    empty = [draw("waiting", 1000 + seed) for seed in range(12)]
    others = [draw("pictures", 1000 + seed) for seed in range(24)]
    kept = [sum(map(in_scope, pictures)) for pictures in (grey, empty, others)]
    assert kept[0] >= 11 and kept[1] >= 11 and kept[2] <= 2, kept
