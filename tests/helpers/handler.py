"""The handler without a server: a context and batches like those that TorchServe passes to it."""

import base64
import json
from pathlib import Path
from typing import Any

from ts.context import Context
from ts.service import Service

from handler.service import ClassifierService


class Metrics:
    def __init__(self) -> None:
        self.times: list[str] = []

    def add_time(self, name: str, *_: Any) -> None:
        self.times.append(name)


def context(folder: Path) -> Context:
    manifest = json.loads((folder / "MAR-INF" / "MANIFEST.json").read_text())
    return Context("shapes", str(folder), manifest, 8, None, "0.12.0", metrics=Metrics())


def started(folder: Path) -> ClassifierService:
    service = ClassifierService()
    service.initialize(context(folder))
    return service


def ask(service: ClassifierService, folder: Path, *bodies: bytes) -> tuple[list[Any], Context]:
    """Pass a batch to the handler as TorchServe does."""
    parameters = [{"name": "body", "contentType": "application/json", "value": body} for body in bodies]
    batch = [{"requestId": str(i).encode(), "headers": [], "parameters": [p]} for i, p in enumerate(parameters)]
    now = context(folder)
    now.request_processor, data, _ = Service.retrieve_data_for_inference(batch)
    return [json.loads(answer) for answer in service.handle(data, now)], now


def encoded(data: bytes, image_id: object = "1", **more: object) -> bytes:
    return json.dumps({"image_id": image_id, "image_base64": base64.b64encode(data).decode(), **more}).encode()
