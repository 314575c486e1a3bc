"""Real awkward files, sent one by one and in batches with good photos: no 5xx, and every good photo is answered.

They lie outside the repository, in ../shared/data/odd (or $ODD_PICTURES).
"""

import base64
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deploy.settings import ROOT
from deploy.torchserve.process import Server
from handler import goldens
from tests.helpers.commands import SHIPPED
from tests.helpers.endpoint import batches_logged

FOLDER = Path(os.environ.get("ODD_PICTURES", ROOT.parent / "shared" / "data" / "odd"))
FILES = sorted(path for path in FOLDER.glob("[0-9]*")) if FOLDER.is_dir() else []
REFUSED = {
    "unsupported_format": (415, "01 02 04 05 40 43 49"),
    "animated_image": (415, "08 23 31"),
    "corrupt_image": (400, "28 29"),
}
EXPECTED = {number: (status, code) for code, (status, numbers) in REFUSED.items() for number in numbers.split()}

pytestmark = pytest.mark.skipif(
    not FILES, reason=f"{FOLDER} is not there: the real awkward files lie outside the project"
)


@pytest.mark.parametrize("model", ["classroom", "classroom_batched"])
def test_real_awkward_files(server: Server, model: str) -> None:
    golden = goldens.read(SHIPPED)[-1]
    good = (SHIPPED / golden.photo).read_bytes()
    sent = [(path.name, data) for path in FILES for data in (path.read_bytes(), good)]

    def ask(entry: tuple[str, bytes]) -> tuple[int, dict[str, object]]:
        body = {"image_id": entry[0], "image_base64": base64.b64encode(entry[1]).decode()}
        answer = server.client.predict(model, body)
        return answer.status_code, answer.json()

    batches = batches_logged(server)
    with ThreadPoolExecutor(1 if model == "classroom" else 8) as pool:
        answers = list(pool.map(ask, sent))
    for (name, data), (status, content) in zip(sent, answers, strict=True):
        expected, code = (200, None) if data is good else EXPECTED.get(name[:2], (200, None))
        error = content.get("error")
        assert (status, error["code"] if isinstance(error, dict) else None) == (expected, code), name
        assert content["image_id"] == name
        if data is good:
            assert content["result"] == golden.label
    if model.endswith("batched"):
        assert batches_logged(server) > batches
