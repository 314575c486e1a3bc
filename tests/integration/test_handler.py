"""The handler on a real unpacked archive with a mock context: batches, statuses, and refusals to start.

The first part runs over every recipe of config/recipes, with random weights, so a new recipe is tested here
automatically.
"""

import base64
import gc
import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

import handler.image
from config.recipe import names, read_recipe
from deploy.archive import pack
from handler import goldens
from handler.image import preprocess
from handler.service import ClassifierService, Photo
from tests.helpers import pictures
from tests.helpers.handler import ask, context, encoded, started
from tests.helpers.small import random_bundle
from tests.helpers.small import unpacked as unpack
from tests.helpers.waiting import Once


@pytest.fixture(scope="module")
def service(unpacked: Path) -> ClassifierService:
    return started(unpacked)


@pytest.fixture(scope="module", params=names())
def every(request: pytest.FixtureRequest, once: Once, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked archives of all recipes in turn."""
    name = str(request.param)
    bundle = once(f"random-{name}", lambda folder: random_bundle(read_recipe(name), folder))
    mar = pack(bundle, "1.0", tmp_path_factory.mktemp(f"store-{name}"))
    return unpack(mar, tmp_path_factory.mktemp(f"unpacked-{name}"))


@pytest.fixture(scope="module")
def any_service(every: Path) -> ClassifierService:
    return started(every)


def test_every_recipe_answers_its_goldens_as_packed(any_service: ClassifierService, every: Path) -> None:
    spec = any_service.spec
    rows = goldens.read(every)
    assert len(rows) >= spec.goldens.count
    bodies = [encoded((every / row.photo).read_bytes(), row.photo, detail=True) for row in rows[:4]]
    answers, now = ask(any_service, every, *bodies)
    for index, (row, answer) in enumerate(zip(rows, answers, strict=False)):
        assert now.get_response_status(index)[0] == 200
        assert (answer["image_id"], answer["result"]) == (row.photo, row.label)
        assert list(answer["probabilities"]) == list(spec.labels)
        assert list(answer["probabilities"].values()) == pytest.approx(row.probabilities, abs=spec.goldens.tolerance)
        assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-4)
        assert answer["model_version"] == "1.0"


def test_photos_of_a_batch_are_decoded_at_the_same_time(
    any_service: ClassifierService, every: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = threading.Barrier(min(2, any_service.spec.runtime.threads))

    def waiting(*arguments: Any) -> Any:
        together.wait(20)  # breaks if one photo waits for the other
        return preprocess(*arguments)

    monkeypatch.setattr("handler.service.preprocess", waiting)
    rows = goldens.read(every)[:2]
    answers, _ = ask(any_service, every, *(encoded((every / row.photo).read_bytes()) for row in rows))
    assert [answer["result"] for answer in answers] == [row.label for row in rows]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "invalid_json"),
        (b"{}", 400, "missing_image"),
        (b'{"image_base64": "%%%"}', 400, "invalid_base64"),
    ],
)
def test_every_recipe_refuses_bad_requests_with_their_status(
    any_service: ClassifierService, every: Path, body: bytes, status: int, code: str
) -> None:
    answers, now = ask(any_service, every, body)
    assert (now.get_response_status(0)[0], answers[0]["error"]["code"]) == (status, code)


def test_every_recipe_distinguishes_unsupported_from_too_large_files(
    any_service: ClassifierService, every: Path
) -> None:
    gif = pictures.encode(pictures.photo(), "GIF")
    bodies = [encoded(gif), encoded(pictures.bomb()), encoded(pictures.encode(pictures.photo(), "PNG"))]
    _, now = ask(any_service, every, *bodies)
    assert [now.get_response_status(index)[0] for index in range(3)] == [415, 413, 200]


def test_every_recipe_accepts_a_list_and_answers_in_order(any_service: ClassifierService, every: Path) -> None:
    photo = base64.b64encode(pictures.encode(pictures.photo(), "PNG")).decode()
    items = [{"image_id": 1, "image_base64": photo}, {"image_id": 2, "image_base64": "%%%"}]
    answers, now = ask(any_service, every, json.dumps({"data": items}).encode())
    assert now.get_response_status(0)[0] == 200
    assert [entry["image_id"] for entry in answers[0]] == [1, 2]
    assert answers[0][0]["result"] in any_service.spec.labels
    assert answers[0][1]["error"]["code"] == "invalid_base64"
    answers, now = ask(any_service, every, json.dumps({"data": items[1:]}).encode())
    assert now.get_response_status(0)[0] == 400


def test_no_recipe_starts_with_goldens_of_another_graph(every: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(every, tmp_path / "edited"))
    rows = json.loads((folder / "goldens.json").read_text())
    tolerance = json.loads((folder / "recipe.json").read_text())["goldens"]["tolerance"]
    rows[-1]["probabilities"][0] += 2 * tolerance
    (folder / "goldens.json").write_text(json.dumps(rows))
    with pytest.raises(goldens.GoldenMismatch):
        started(folder)


def test_each_request_of_a_batch_gets_its_own_status(service: ClassifierService, unpacked: Path) -> None:
    golden = goldens.read(unpacked)[0]
    good = (unpacked / golden.photo).read_bytes()
    bodies = [
        encoded(good),
        b"{",
        encoded(pictures.bomb()),
        encoded(pictures.encode(pictures.photo(), "GIF")),
        encoded(good),
    ]
    answers, now = ask(service, unpacked, *bodies)
    statuses = [now.get_response_status(index) for index in range(5)]
    assert [status for status, _ in statuses] == [200, 400, 413, 415, 200]
    assert all(phrase for _, phrase in statuses)
    assert all(now.get_response_content_type(index) == "application/json" for index in range(5))
    assert answers[0] == answers[4] == {"image_id": "1", "result": golden.label}


def test_an_answer_does_not_depend_on_the_rest_of_its_batch(service: ClassifierService, unpacked: Path) -> None:
    bodies = [
        json.dumps(
            {"image_base64": base64.b64encode((unpacked / g.photo).read_bytes()).decode(), "detail": True}
        ).encode()
        for g in goldens.read(unpacked)
    ]
    together, _ = ask(service, unpacked, *bodies)
    alone = [ask(service, unpacked, body)[0][0] for body in bodies]
    assert together == alone


def test_a_bug_with_one_photo_is_a_500_for_that_photo_only(
    service: ClassifierService, unpacked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, bug = handler.image.preprocess, pictures.encode(pictures.photo(), "PNG")

    def buggy(data: bytes, *rest: Any) -> Any:
        if data == bug:
            raise ZeroDivisionError
        return real(data, *rest)

    monkeypatch.setattr("handler.service.preprocess", buggy)
    good = (unpacked / goldens.read(unpacked)[0].photo).read_bytes()
    answers, now = ask(service, unpacked, encoded(bug), encoded(good))
    assert [now.get_response_status(index)[0] for index in range(2)] == [500, 200]
    assert answers[0]["error"]["code"] == "internal_error"


def test_a_refused_photo_is_gone_when_it_is_answered(service: ClassifierService, unpacked: Path) -> None:
    """Not only when the collector of cycles comes: until then such photos would keep megabytes."""
    half = pictures.half(pictures.encode(pictures.photo(), "JPEG"))
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        answers, _ = ask(service, unpacked, encoded(half))
        gc.collect()
        assert answers[0]["error"]["code"] == "corrupt_image"
        assert not [found for found in gc.garbage if type(found) is Photo]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


def test_handler_time_is_measured(service: ClassifierService, unpacked: Path) -> None:
    _, now = ask(service, unpacked, b"{}")
    assert now.metrics.times == ["HandlerTime"]


@pytest.mark.parametrize("label", [True, False])
def test_it_refuses_to_start_with_a_wrong_golden_answer(unpacked: Path, tmp_path: Path, label: bool) -> None:
    folder = Path(shutil.copytree(unpacked, tmp_path / "edited"))
    rows = json.loads((folder / "goldens.json").read_text())
    was = rows[0]["probabilities"]
    if label:
        rows[0]["label"] = "cross"
    else:
        rows[0]["probabilities"] = [was[0] - 0.03, was[1] + 0.03, was[2]]
    (folder / "goldens.json").write_text(json.dumps(rows))
    with pytest.raises(goldens.GoldenMismatch) as caught:
        ClassifierService().initialize(context(folder))
    assert str(rows[0]["probabilities"]) in str(caught.value)
    assert str(round(was[0], 4))[:5] in str(caught.value)


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_both_runtimes_give_the_goldens(unpacked: Path, tmp_path: Path, engine: str) -> None:
    folder = Path(shutil.copytree(unpacked, tmp_path / "other"))
    recipe = json.loads((folder / "recipe.json").read_text())
    recipe["runtime"] |= {"engine": engine}
    (folder / "recipe.json").write_text(json.dumps(recipe))
    ClassifierService().initialize(context(folder))
