"""The address of a served model, and what its server logged."""

import base64
import json
from pathlib import Path
from typing import Any

import requests

from deploy.torchserve.process import Server
from handler import goldens


class Endpoint:
    """One model's address, its golden photos and labels."""

    def __init__(self, server: Server, name: str, bundle: Path) -> None:
        self.client, self.name, self.bundle = server.client, name, bundle
        self.goldens = goldens.read(bundle)
        self.labels = json.loads((bundle / "recipe.json").read_text())["labels"]

    def bytes_of(self, index: int) -> bytes:
        return (self.bundle / self.goldens[index].photo).read_bytes()

    def text_of(self, index: int) -> str:
        return base64.b64encode(self.bytes_of(index)).decode()

    def post(self, model: str | None = None, **arguments: Any) -> requests.Response:
        return self.client.ask("inference", "POST", f"/predictions/{model or self.name}", **arguments)


def batches_logged(server: Server) -> int:
    """How many requests were in batches of more than one, as the handlers of this server have logged so far."""
    text = (server.logs / "requests.log").read_text()
    return sum(json.loads(line)["batch"] > 1 for line in text.splitlines())
