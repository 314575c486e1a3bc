"""The sibling recipes together on one TorchServe: the client of every document, and the answers that it gets."""

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.archive import pack
from tests.helpers.endpoint import Endpoint
from tests.helpers.light import pack_without_torch
from tests.helpers.nodes import running_node
from tests.helpers.siblings import NAMES, bundle_of


@pytest.fixture(scope="module")
def endpoints(
    sibling: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Endpoint]]:
    """One server with the archives of all sibling recipes, by recipe."""
    folder = tmp_path_factory.mktemp("siblings")
    bundles = {name: bundle_of(sibling(name), name) for name in NAMES}
    with running_node(bundles["cifar10"], folder) as node:
        for name, bundle in bundles.items():
            if name == "cifar10":
                pack(bundle, "1.0", node.store)  # its worker uses torch, to stretch photos
            else:
                pack_without_torch(bundle, "1.0", node.store, folder / name)
            node.deploy("rollout", f"{name}-1.0.mar")
        yield {name: Endpoint(node.server, name, bundle) for name, bundle in bundles.items()}


def likeliest(endpoint: Endpoint, index: int) -> str:
    """The label that the graph gave a golden photo when it was exported."""
    scores = endpoint.goldens[index].probabilities
    return str(endpoint.labels[scores.index(max(scores))])


@pytest.mark.parametrize(("name", "shape"), [("cifar10", [3, 32, 32]), ("mnist", [1, 28, 28])])
def test_the_client_of_the_cifar_document_is_answered(
    endpoints: dict[str, Endpoint], name: str, shape: list[int]
) -> None:
    endpoint = endpoints[name]
    good = [{"content_type": "image/jpeg", "data": endpoint.text_of(index), "shape": shape} for index in (0, -1)]
    answer = endpoint.post(headers={"Content-Type": "application/json"}, data=json.dumps({"data": good}))
    assert answer.status_code == 200
    assert answer.json() == [{"image_id": None, "result": likeliest(endpoint, index)} for index in (0, -1)]
    bad = [{**good[0], "shape": [3, 224, 224]}, {**good[0], "data": "?"}, {**good[0], "content_type": "text/html"}]
    mixed = endpoint.post(json={"data": [bad[0], good[1], *bad[1:]]})
    assert mixed.status_code == 200
    codes = [item.get("error", {}).get("code") for item in mixed.json()]
    assert codes == ["invalid_request", None, "invalid_base64", "unsupported_format"]
    assert mixed.json()[1]["result"] == likeliest(endpoint, -1)
    assert endpoint.post(json={"data": bad}).status_code == 400


def test_pets_answer_the_three_likeliest(endpoints: dict[str, Endpoint]) -> None:
    endpoint = endpoints["pets"]
    answer = endpoint.post(json={"image_id": "cat", "image_base64": endpoint.text_of(0)}).json()
    assert set(answer) == {"image_id", "result", "top"}
    scores = [entry["score"] for entry in answer["top"]]
    assert answer["result"] == answer["top"][0]["label"] == likeliest(endpoint, 0)
    assert scores == sorted(scores, reverse=True)
    assert scores == pytest.approx(sorted(endpoint.goldens[0].probabilities, reverse=True)[:3], abs=0.02)


def test_a_form_is_answered_by_flowers(endpoints: dict[str, Endpoint]) -> None:
    endpoint = endpoints["flowers"]
    answer = endpoint.post(files={"images": ("rose.jpg", endpoint.bytes_of(0), "image/jpeg")})
    assert (answer.status_code, answer.json()) == (200, {"image_id": None, "result": likeliest(endpoint, 0)})


def test_scenes_get_the_answer_of_their_graph(endpoints: dict[str, Endpoint]) -> None:
    endpoint = endpoints["scenes11"]
    for index, golden in enumerate(endpoint.goldens[:3]):
        answer = endpoint.post(json={"image_base64": endpoint.text_of(index), "detail": True}).json()
        assert answer["result"] == likeliest(endpoint, index)
        assert list(answer["probabilities"].values()) == pytest.approx(golden.probabilities, abs=0.02)


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_accepts_str_of_bytes_and_answers_bad_requests_with_error_codes(
    endpoints: dict[str, Endpoint], name: str
) -> None:
    endpoint = endpoints[name]

    def error(**arguments: Any) -> tuple[int, str]:
        answer = endpoint.post(**arguments)
        return answer.status_code, answer.json()["error"]["code"]

    of_bytes = endpoint.post(json={"image_id": 7, "image_base64": str(base64.b64encode(endpoint.bytes_of(0)))})
    assert (of_bytes.status_code, of_bytes.json()["result"]) == (200, likeliest(endpoint, 0))
    assert error(json={"image_id": "1"}) == (400, "missing_image")
    assert error(data=b"{", headers={"Content-Type": "application/json"}) == (400, "invalid_json")
    assert error(files={"images": ("x.gif", b"GIF89a")}) == (415, "unsupported_format")
    assert error(data=endpoint.bytes_of(0)[:-40], headers={"Content-Type": "image/jpeg"}) == (400, "corrupt_image")
