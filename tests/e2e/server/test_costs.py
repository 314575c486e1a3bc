"""Small files that cost much, sent to a real server: refused or answered, while the worker lives on."""

import base64
from typing import Any

import psutil
import pytest

from benchmarks.harness import costly
from deploy.host.processes import alive
from deploy.torchserve.process import Server
from handler import goldens
from handler.errors import CODES
from tests.helpers.commands import SHIPPED
from tests.helpers.waiting import eventually

SLOW = "BMP of line ends, 5,000,000 x 10"
SENT = [
    SLOW,
    "JPEG, Huffman, 100 scans, 7000 x 7000",
    "PNG 2 x 2,000,000",
    "PNG RGBA 7000 x 7000",
    "PNG, 850,000 chunks",
]


def slow() -> dict[str, str]:
    """No header rule knows this file, so that the decoder process is what stops it."""
    return encoded(costly.tiff_of_one_strip(8000, 2000))


def encoded(data: bytes) -> dict[str, str]:
    return {"image_base64": base64.b64encode(data).decode()}


@pytest.fixture
def good() -> tuple[dict[str, str], str]:
    golden = goldens.read(SHIPPED)[0]
    return encoded((SHIPPED / golden.photo).read_bytes()), golden.label


def worker(server: Server) -> psutil.Process:
    return psutil.Process(int(server.client.manage("GET", "/models/classroom")[0]["workers"][0]["pid"]))


def test_costly_files_leave_the_worker_and_other_photos_alone(server: Server, good: tuple[dict[str, str], str]) -> None:
    before = worker(server)
    photo, label = good
    for name, costs in [("unknown", slow()), *((name, encoded(costly.FILES[name]())) for name in SENT)]:
        answer = server.client.predict("classroom", costs)
        refusal = answer.json().get("error")
        assert answer.status_code == (CODES[refusal["code"]] if refusal else 200) < 500, name
        assert server.client.predict("classroom", photo).json()["result"] == label, name
    assert worker(server) == before
    assert not any(child.status() == psutil.STATUS_ZOMBIE for child in before.children())


def test_the_photos_of_a_list_share_two_seconds(server: Server, good: tuple[dict[str, str], str]) -> None:
    photo, label = good
    entries: list[Any] = [photo, *[slow()] * 3, photo]
    answer = server.client.ask("inference", "POST", "/predictions/shapes", json=entries)
    assert answer.status_code == 200
    messages = [entry.get("error", {"message": ""})["message"] for entry in answer.json()]
    assert "decoding the photo takes more than" in messages[1]
    assert "the photos before this one took 2 s" in messages[3]
    assert server.client.predict("classroom", photo).json()["result"] == label


def test_decoders_end_with_a_worker_that_is_killed(server: Server) -> None:
    former = worker(server)
    decoders = former.children()
    assert len(decoders) == 2
    former.kill()
    eventually(lambda: not any(alive(process) for process in decoders))
    eventually(lambda: server.client.ready("classroom", "1.0") and worker(server) != former)
