"""Photos to label, and a running `python -m dataset label`."""

import json
import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import requests
from PIL import Image

from dataset.tables import read_rows
from deploy.settings import ROOT
from tests.helpers.commands import SHAPES
from tests.helpers.running.forked import Forked, start_forked

ANN, BEN = "ann-0000", "ben-0000"


def photos(folder: Path, *names: str) -> Path:
    for place, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 48), (40 * place % 256, 90, 160)).save(folder / name)
    return folder


def numbered(folder: Path, count: int) -> Path:
    return photos(folder, *(f"{place:03d}.png" for place in range(count)))


def table(folder: Path) -> dict[str, str]:
    return {row["path"]: row["label"] or row["set_aside"] for row in read_rows(folder / "labels.tsv")}


class Serving:
    """A running `python -m dataset label`."""

    def __init__(self, process: Forked, output: TextIO, url: str, lines: list[str]) -> None:
        self.process, self.output, self.url, self.lines = process, output, url, lines
        self.state: dict[str, Any] = requests.get(f"{url}/api/state", timeout=20).json()

    def post(self, step: str, client: str = ANN, headers: dict[str, str] | None = None, **body: object) -> Any:
        sent = {"X-Labelling": self.state["session"], "Content-Type": "application/json", **(headers or {})}
        data = json.dumps({"client": client, **body})
        return requests.post(f"{self.url}/api/{step}", data=data, headers=sent, timeout=20)

    def decide(self, photo: dict[str, Any], client: str = ANN, **decision: Any) -> Any:
        return self.post("decide", client, id=photo["id"], revision=photo["revision"], **decision)

    def stop(self, number: int = signal.SIGINT) -> str:
        """Stop the server; returns what it printed after its address."""
        self.process.send_signal(number)
        rest = self.output.read()
        self.process.wait(timeout=60)
        return rest


@contextmanager
def serving(folder: Path, *options: object, recipe: object = SHAPES, port: int = 0) -> Iterator[Serving]:
    words = ["dataset", "label", folder, "--recipe", recipe, "--port", port, *options]
    reading, writing = os.pipe()
    with (
        os.fdopen(reading, encoding="utf-8") as output,
        start_forked([str(word) for word in words], ROOT, os.environ, writing, writing) as process,
    ):
        os.close(writing)
        try:
            lines = []
            for line in output:
                lines.append(line)
                match = re.match(r"http://127\.0\.0\.1:\d+", line)
                if match:
                    break
            assert match, "".join(lines)
            yield Serving(process, output, match[0], lines)
        finally:
            process.kill()
