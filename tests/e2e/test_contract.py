"""Every form of request to a running server, and its answer; for two recipes that are served together."""

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deploy.torchserve.process import Server
from tests.helpers import pictures
from tests.helpers.commands import SHIPPED
from tests.helpers.endpoint import Endpoint, batches_logged

MODELS = ("classroom", "shapes")


@pytest.fixture(scope="module", params=MODELS)
def door(request: pytest.FixtureRequest, server: Server, bundle: Path) -> Endpoint:
    return Endpoint(server, request.param, SHIPPED if request.param == "classroom" else bundle)


def test_the_request_of_the_source_document_gets_its_answer(door: Endpoint) -> None:
    for index, golden in enumerate(door.goldens):
        answer = door.post(json={"image_id": "12345", "image_base64": door.text_of(index)})
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.json() == {"image_id": "12345", "result": golden.label}


def test_base64_in_python_bytes_notation_is_accepted(door: Endpoint) -> None:
    answer = door.post(json={"image_id": 7, "image_base64": str(base64.b64encode(door.bytes_of(0)))})
    assert answer.json() == {"image_id": 7, "result": door.goldens[0].label}


def test_detail(door: Endpoint) -> None:
    answer = door.post(json={"image_base64": door.text_of(0), "detail": True}).json()
    assert set(answer) == {"image_id", "result", "probabilities", "confidence", "unsure", "model_version"}
    assert list(answer["probabilities"]) == door.labels
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    assert list(answer["probabilities"].values()) == pytest.approx(door.goldens[0].probabilities, abs=0.02)
    assert answer["confidence"] == max(answer["probabilities"].values())
    assert answer["model_version"] == "1.0"
    assert answer["unsure"] is (
        answer["confidence"] < json.loads((door.bundle / "recipe.json").read_text())["answer"]["unsure_below"]
    )


def test_a_list_answers_each_in_order(door: Endpoint) -> None:
    data = [
        {"content_type": "image/jpeg", "data": door.text_of(0), "shape": [3, 1, 1]},
        {"data": "!"},
        {"data": door.text_of(-1)},
    ]
    answer = door.post(json={"data": data})
    assert answer.status_code == 200
    first, second, third = answer.json()
    assert first == {"image_id": None, "result": door.goldens[0].label}
    assert second["error"]["code"] == "invalid_base64"
    assert third["result"] == door.goldens[-1].label


def test_a_list_in_which_all_fail_is_a_400(door: Endpoint) -> None:
    answer = door.post(json={"data": [{"data": "!"}, {"data": base64.b64encode(b"GIF89a").decode()}]})
    assert answer.status_code == 400
    assert [entry["error"]["code"] for entry in answer.json()] == ["invalid_base64", "unsupported_format"]


@pytest.mark.parametrize("kind", ["image/jpeg", "application/octet-stream"])
def test_raw_bytes_with_their_id_in_the_header(door: Endpoint, kind: str) -> None:
    headers = {"Content-Type": kind, "X-Image-Id": "a b"}
    assert door.post(data=door.bytes_of(0), headers=headers).json() == {
        "image_id": "a b",
        "result": door.goldens[0].label,
    }
    assert door.post(data=door.bytes_of(0), headers={"Content-Type": kind}).json()["image_id"] is None


@pytest.mark.parametrize("field", ["images", "data", "photo"])
def test_a_form_with_a_file(door: Endpoint, field: str) -> None:
    answer = door.post(files={field: ("x.jpg", door.bytes_of(0))}, data={"image_id": "9"})
    assert answer.json() == {"image_id": "9", "result": door.goldens[0].label}


def test_a_form_with_two_files_is_a_list(door: Endpoint) -> None:
    files = [("a", ("a.jpg", door.bytes_of(0))), ("b", ("b.jpg", door.bytes_of(-1)))]
    assert [entry["result"] for entry in door.post(files=files).json()] == [
        door.goldens[0].label,
        door.goldens[-1].label,
    ]


def test_two_files_with_one_field_name_are_refused(door: Endpoint) -> None:
    files = [("images", ("a.jpg", door.bytes_of(0))), ("images", ("b.jpg", door.bytes_of(-1)))]
    answer = door.post(files=files)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")
    assert "give each file a different field name" in answer.json()["error"]["message"]


def test_other_fields_of_a_form_are_ignored(door: Endpoint) -> None:
    answer = door.post(
        files={"images": ("x.jpg", door.bytes_of(0), "image/jpeg")}, data={"user": "bob", "image_id": "9"}
    )
    assert answer.json() == {"image_id": "9", "result": door.goldens[0].label}


def test_an_image_id_of_another_script_in_the_header(door: Endpoint) -> None:
    headers = {"Content-Type": "image/jpeg", "X-Image-Id": "\u8bfe1".encode()}
    assert door.post(data=door.bytes_of(0), headers=headers).json()["image_id"] == "\u8bfe1"


def test_detail_of_raw_bytes_by_header(door: Endpoint) -> None:
    answer = door.post(data=door.bytes_of(0), headers={"Content-Type": "image/jpeg", "x-detail": "true"})
    assert "probabilities" in answer.json()


@pytest.mark.parametrize(
    ("body", "kind", "code"),
    [
        (b'{"image_id": "1"', "application/json", "invalid_json"),
        (b"not json at all", "application/json", "invalid_json"),
        (b"not json at all", "application/json; charset=utf-8", "invalid_json"),
        (b"not a picture", "image/jpeg", "unsupported_format"),
        (b'{"image_id": "1"}', "application/json", "missing_image"),
        (b'{"image_id": {}, "image_base64": "AAAA"}', "application/json", "invalid_image_id"),
        (b'{"image_id": "1", "image_base64": "%%"}', "application/json", "invalid_base64"),
        (b'{"image_id": "1", "image_path": "/etc/passwd"}', "application/json", "missing_image"),
        (b"[" * 50_000, "application/json", "invalid_json"),
        (b"", "application/json", "invalid_json"),
        (b"", "image/jpeg", "empty_image"),
        (b'{"image_id": "1", "image_base64": "AAAA"}', "application/x-www-form-urlencoded", "invalid_request"),
        (b'{"image_id": "1", "image_base64": "AAA="}', "application/x-www-form-urlencoded", "invalid_request"),
    ],
)
def test_bad_requests_say_why(door: Endpoint, body: bytes, kind: str, code: str) -> None:
    answer = door.post(data=body, headers={"Content-Type": kind})
    assert answer.headers["Content-Type"] == "application/json"
    assert (answer.json()["error"]["code"], answer.status_code // 100) == (code, 4)
    assert set(answer.json()) == {"image_id", "error"}


def test_bad_json_leaves_no_stack_trace(server: Server) -> None:
    server.client.ask(
        "inference", "POST", "/predictions/shapes", data=b"{", headers={"Content-Type": "application/json"}
    )
    assert "Traceback" not in (server.logs / "model_log.log").read_text()


def test_an_image_id_that_is_a_path_is_only_echoed(door: Endpoint, tmp_path: Path) -> None:
    path = str(tmp_path / "../../etc/passwd")
    assert door.post(json={"image_id": path, "image_base64": door.text_of(0)}).json()["image_id"] == path
    assert not list(tmp_path.iterdir())


def test_a_photo_above_the_limit_gets_the_413_of_the_handler(door: Endpoint) -> None:
    answer = door.post(data=bytes(10 * 2**20 + 1), headers={"Content-Type": "image/jpeg"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "image_too_large")


def test_a_photo_of_10_mb_in_base64_is_accepted(door: Endpoint) -> None:
    padded = door.bytes_of(0) + bytes(10 * 2**20 - len(door.bytes_of(0)))
    answer = door.post(json={"image_base64": base64.b64encode(padded).decode()})
    assert answer.json()["result"] == door.goldens[0].label


class TestWhatTheFrontEndAnswersItself:
    def test_unknown_model(self, server: Server) -> None:
        assert server.client.ask("inference", "POST", "/predictions/nobody", data=b"x").status_code == 404

    def test_unknown_version(self, server: Server) -> None:
        assert server.client.ask("inference", "POST", "/predictions/shapes/9.9", data=b"x").status_code == 404

    def test_body_too_large(self, server: Server) -> None:
        body = bytes(16_000_001)
        kind = {"Content-Type": "image/jpeg"}
        assert server.client.ask("inference", "POST", "/predictions/shapes", data=body, headers=kind).status_code == 413

    @pytest.mark.parametrize("address", ["inference", "management"])
    def test_wrong_token(self, server: Server, address: str) -> None:
        path = "/predictions/shapes" if address == "inference" else "/models"
        answer = server.client.ask(address, "GET", path, headers={"Authorization": "Bearer wrong"})
        assert answer.status_code == 400

    def test_an_archive_cannot_be_registered_by_url(self, server: Server) -> None:
        answer = server.client.ask("management", "POST", "/models?url=http://127.0.0.1:9/x.mar")
        assert answer.status_code in (403, 404)


def all_pictures(door: Endpoint) -> list[tuple[str, bytes, int, str | None]]:
    """Good photos between awkward ones: (name, bytes, status, error code)."""
    mixed: list[tuple[str, bytes, int, str | None]] = []
    for name, make in pictures.TAKEN.items():
        mixed.append((name, make(), 200, None))
    for index, (name, (make, status, code)) in enumerate(pictures.REFUSED.items()):
        mixed.append((name, make(), status, code))
        mixed.append((f"golden {index}", door.bytes_of(index % len(door.goldens)), 200, None))
    return mixed


@pytest.mark.parametrize("clients", [1, 8], ids=["one by one", "batched"])
def test_bad_pictures_do_not_affect_others_in_their_batch(door: Endpoint, server: Server, clients: int) -> None:
    model = door.name if clients == 1 else f"{door.name}_batched"
    asked = all_pictures(door)
    batches = batches_logged(server)
    with ThreadPoolExecutor(clients) as pool:
        kind = {"Content-Type": "application/octet-stream"}
        answers = list(pool.map(lambda entry: door.post(model, data=entry[1], headers=kind), asked))
    for (name, _, status, code), answer in zip(asked, answers, strict=True):
        assert answer.status_code == status, (name, answer.text)
        assert answer.json().get("error", {}).get("code") == code, name
        if name.startswith("golden"):
            assert answer.json()["result"] == door.goldens[int(name.split()[1]) % len(door.goldens)].label
    if clients > 1:
        assert batches_logged(server) > batches
