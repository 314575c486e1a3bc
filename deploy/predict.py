"""Send photos to the running server.

    python -m deploy predict room.jpg call.png

    python -m deploy predict --grpc room.jpg

prints one JSON line for each photo, in order: the answer as received, plus `photo` and the HTTP `status`. A bad photo
gets a line with its `error`; the others are still answered, and the exit code is 1. If the model is not served, the
command ends. With --grpc the photos are sent to TorchServe's gRPC port; the answers are the same.
"""

import json
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

import click

from common.cli import command
from common.console import say
from common.errors import NotFound, Unreachable
from common.words import did_you_mean
from deploy.settings import Settings, read_settings
from deploy.store import desired
from deploy.torchserve.management import Client, request_body


@command(epilog="Example: python -m deploy predict --detail models/classroom/goldens/1_0.jpg")
@click.argument("photos", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--model", help="NAME or NAME/VERSION.  [default: the served model]")
@click.option("--detail", is_flag=True, help="Print probabilities, confidence, unsure and the model's version as well.")
@click.option("--grpc", "by_grpc", is_flag=True, help="Use gRPC instead of HTTP.")
def predict(photos: tuple[Path, ...], model: str | None, detail: bool, by_grpc: bool) -> None:
    """Classify PHOTOS with the running server; prints one JSON line per photo."""
    settings = read_settings()
    name = model or default_model(settings)
    lines = _by_grpc(settings, name, photos, detail) if by_grpc else _by_http(settings, name, photos, detail)
    failed = 0
    for line in lines:
        if line.get("status") == HTTPStatus.NOT_FOUND:
            raise NotFound(f"{name} is not served", _served_instead(settings, name))
        say(json.dumps(line, ensure_ascii=False))
        failed += "error" in line
    if failed:
        raise SystemExit(1)


def _by_http(settings: Settings, model: str, photos: Sequence[Path], detail: bool) -> Iterator[dict[str, Any]]:
    client = Client(settings)
    return (classify(client, model, photo, detail) for photo in photos)


def _by_grpc(settings: Settings, model: str, photos: Sequence[Path], detail: bool) -> Iterator[dict[str, Any]]:
    from deploy.torchserve.grpc import GrpcClient

    with GrpcClient(settings) as client:
        for photo in photos:
            try:
                data = photo.read_bytes()
            except OSError as error:
                yield _unreadable(photo, error)
                continue
            answer = client.predict(model, data, photo.name[-256:], detail)
            status = answer.pop("status")
            yield {**answer, "photo": str(photo), "status": status}


def classify(client: Client, model: str, photo: Path, detail: bool = False) -> dict[str, Any]:
    """The answer to one photo, with `photo` and `status` (None if it was not sent)."""
    try:
        data = photo.read_bytes()
    except OSError as error:
        return _unreadable(photo, error)
    try:
        answer = client.predict(model, request_body(data, photo.name[-256:], detail))
    except Unreachable as error:
        return {"photo": str(photo), "status": None, "error": {"code": "unreachable", "message": error.message}}
    return {**_content(answer.text, answer.ok), "photo": str(photo), "status": answer.status_code}


def default_model(settings: Settings) -> str:
    """The name of the first model in var/served.json.

    Raises:
        NotFound: nothing is served.
    """
    entries = desired.read(settings.var)
    if not entries:
        raise NotFound("nothing is served", "start the server with make serve, or give --model NAME")
    return entries[0].name


def _served_instead(settings: Settings, name: str) -> str:
    served = {f"{entry.name}/{entry.version}": entry.name for entry in desired.read(settings.var)}
    if not served:
        return "nothing is served here; start the server with make serve"
    return f"{did_you_mean(name, [*served.values(), *served])}give --model with one of {', '.join(served)}"


def _unreadable(photo: Path, error: OSError) -> dict[str, Any]:
    message = f"the file cannot be read: {error.strerror}"
    return {"photo": str(photo), "status": None, "error": {"code": "unreadable_file", "message": message}}


def _content(text: str, ok: bool) -> dict[str, Any]:
    """The handler's JSON. Answers of TorchServe's front end have another shape: they become an `error`."""
    try:
        content = json.loads(text)
    except ValueError:
        content = {"message": text[:200]}
    if ok or "error" in content:
        return dict(content)
    return {"error": content}
