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
def endpoint(request: pytest.FixtureRequest, server: Server, bundle: Path) -> Endpoint:
    return Endpoint(server, request.param, SHIPPED if request.param == "classroom" else bundle)


def test_the_request_of_the_classroom_document_is_answered(endpoint: Endpoint) -> None:
    for index, golden in enumerate(endpoint.goldens):
        answer = endpoint.post(json={"image_id": "12345", "image_base64": endpoint.text_of(index)})
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.json() == {"image_id": "12345", "result": golden.label}


def test_base64_in_python_bytes_notation_is_accepted(endpoint: Endpoint) -> None:
    answer = endpoint.post(json={"image_id": 7, "image_base64": str(base64.b64encode(endpoint.bytes_of(0)))})
    assert answer.json() == {"image_id": 7, "result": endpoint.goldens[0].label}


def test_detail(endpoint: Endpoint) -> None:
    answer = endpoint.post(json={"image_base64": endpoint.text_of(0), "detail": True}).json()
    scope = {"in_scope", "out_of_scope"} if endpoint.goldens[0].in_scope is not None else set()
    assert set(answer) == {"image_id", "result", "probabilities", "confidence", "unsure", "model_version"} | scope
    assert list(answer["probabilities"]) == endpoint.labels
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    assert list(answer["probabilities"].values()) == pytest.approx(endpoint.goldens[0].probabilities, abs=0.02)
    assert answer["confidence"] == max(answer["probabilities"].values())
    assert answer["model_version"] == "1.0"
    assert answer["unsure"] is (
        answer["confidence"] < json.loads((endpoint.bundle / "recipe.json").read_text())["answer"]["unsure_below"]
    )


def test_items_of_a_list_are_answered_in_order(endpoint: Endpoint) -> None:
    data = [
        {"content_type": "image/jpeg", "data": endpoint.text_of(0), "shape": [3, 1, 1]},
        {"data": "!"},
        {"data": endpoint.text_of(-1)},
    ]
    answer = endpoint.post(json={"data": data})
    assert answer.status_code == 200
    first, second, third = answer.json()
    assert first == {"image_id": None, "result": endpoint.goldens[0].label}
    assert second["error"]["code"] == "invalid_base64"
    assert third["result"] == endpoint.goldens[-1].label


def test_a_list_in_which_all_fail_is_a_400(endpoint: Endpoint) -> None:
    answer = endpoint.post(json={"data": [{"data": "!"}, {"data": base64.b64encode(b"GIF89a").decode()}]})
    assert answer.status_code == 400
    assert [entry["error"]["code"] for entry in answer.json()] == ["invalid_base64", "unsupported_format"]


@pytest.mark.parametrize("kind", ["image/jpeg", "application/octet-stream"])
def test_raw_bytes_with_their_id_in_the_header(endpoint: Endpoint, kind: str) -> None:
    headers = {"Content-Type": kind, "X-Image-Id": "a b"}
    assert endpoint.post(data=endpoint.bytes_of(0), headers=headers).json() == {
        "image_id": "a b",
        "result": endpoint.goldens[0].label,
    }
    assert endpoint.post(data=endpoint.bytes_of(0), headers={"Content-Type": kind}).json()["image_id"] is None


@pytest.mark.parametrize("field", ["images", "data", "photo"])
def test_a_form_with_a_file(endpoint: Endpoint, field: str) -> None:
    answer = endpoint.post(files={field: ("x.jpg", endpoint.bytes_of(0))}, data={"image_id": "9"})
    assert answer.json() == {"image_id": "9", "result": endpoint.goldens[0].label}


def test_a_form_with_two_files_is_a_list(endpoint: Endpoint) -> None:
    files = [("a", ("a.jpg", endpoint.bytes_of(0))), ("b", ("b.jpg", endpoint.bytes_of(-1)))]
    assert [entry["result"] for entry in endpoint.post(files=files).json()] == [
        endpoint.goldens[0].label,
        endpoint.goldens[-1].label,
    ]


def test_two_files_with_one_field_name_are_refused(endpoint: Endpoint) -> None:
    files = [("images", ("a.jpg", endpoint.bytes_of(0))), ("images", ("b.jpg", endpoint.bytes_of(-1)))]
    answer = endpoint.post(files=files)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")
    assert "give each file a different field name" in answer.json()["error"]["message"]


def test_other_fields_of_a_form_are_ignored(endpoint: Endpoint) -> None:
    answer = endpoint.post(
        files={"images": ("x.jpg", endpoint.bytes_of(0), "image/jpeg")}, data={"user": "bob", "image_id": "9"}
    )
    assert answer.json() == {"image_id": "9", "result": endpoint.goldens[0].label}


def test_an_image_id_of_another_script_in_the_header(endpoint: Endpoint) -> None:
    headers = {"Content-Type": "image/jpeg", "X-Image-Id": "\u8bfe1".encode()}
    assert endpoint.post(data=endpoint.bytes_of(0), headers=headers).json()["image_id"] == "\u8bfe1"


def test_detail_of_raw_bytes_by_header(endpoint: Endpoint) -> None:
    answer = endpoint.post(data=endpoint.bytes_of(0), headers={"Content-Type": "image/jpeg", "x-detail": "true"})
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
def test_a_bad_request_is_answered_with_its_error_code(endpoint: Endpoint, body: bytes, kind: str, code: str) -> None:
    answer = endpoint.post(data=body, headers={"Content-Type": kind})
    assert answer.headers["Content-Type"] == "application/json"
    assert (answer.json()["error"]["code"], answer.status_code // 100) == (code, 4)
    assert set(answer.json()) == {"image_id", "error"}


def test_bad_json_leaves_no_stack_trace(server: Server) -> None:
    server.client.ask(
        "inference", "POST", "/predictions/shapes", data=b"{", headers={"Content-Type": "application/json"}
    )
    assert "Traceback" not in (server.logs / "model_log.log").read_text()


def test_an_image_id_that_is_a_path_is_only_echoed(endpoint: Endpoint, tmp_path: Path) -> None:
    path = str(tmp_path / "../../etc/passwd")
    assert endpoint.post(json={"image_id": path, "image_base64": endpoint.text_of(0)}).json()["image_id"] == path
    assert not list(tmp_path.iterdir())


def test_a_photo_above_the_limit_gets_the_413_of_the_handler(endpoint: Endpoint) -> None:
    answer = endpoint.post(data=bytes(10 * 2**20 + 1), headers={"Content-Type": "image/jpeg"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "image_too_large")


def test_a_photo_of_10_mb_in_base64_is_accepted(endpoint: Endpoint) -> None:
    padded = endpoint.bytes_of(0) + bytes(10 * 2**20 - len(endpoint.bytes_of(0)))
    answer = endpoint.post(json={"image_base64": base64.b64encode(padded).decode()})
    assert answer.json()["result"] == endpoint.goldens[0].label


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


def all_pictures(endpoint: Endpoint) -> list[tuple[str, bytes, int, str | None]]:
    """Good photos between awkward ones: (name, bytes, status, error code)."""
    mixed: list[tuple[str, bytes, int, str | None]] = []
    for name, make in pictures.TAKEN.items():
        mixed.append((name, make(), 200, None))
    for index, (name, (make, status, code)) in enumerate(pictures.REFUSED.items()):
        mixed.append((name, make(), status, code))
        mixed.append((f"golden {index}", endpoint.bytes_of(index % len(endpoint.goldens)), 200, None))
    return mixed


@pytest.mark.parametrize("clients", [1, 8], ids=["one by one", "batched"])
def test_bad_pictures_do_not_affect_others_in_their_batch(endpoint: Endpoint, server: Server, clients: int) -> None:
    model = endpoint.name if clients == 1 else f"{endpoint.name}_batched"
    sent = all_pictures(endpoint)
    batches = batches_logged(server)
    with ThreadPoolExecutor(clients) as pool:
        kind = {"Content-Type": "application/octet-stream"}
        answers = list(pool.map(lambda entry: endpoint.post(model, data=entry[1], headers=kind), sent))
    for (name, _, status, code), answer in zip(sent, answers, strict=True):
        assert answer.status_code == status, (name, answer.text)
        assert answer.json().get("error", {}).get("code") == code, name
        if name.startswith("golden"):
            assert answer.json()["result"] == endpoint.goldens[int(name.split()[1]) % len(endpoint.goldens)].label
    if clients > 1:
        assert batches_logged(server) > batches
