"""The systems of the comparison, and the commands that start each of them."""

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.peers import install, work
from benchmarks.peers.apps import floor
from deploy.clients.generator import NUMBER as NUMBERED
from deploy.settings import HOST, ROOT

Command = Sequence[object]


@dataclass(frozen=True)
class Place:
    """Where a system runs: a temporary folder, the first of five free ports, the models."""

    folder: Path
    port: int
    models: Path
    bundle: Path

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"


@dataclass(frozen=True)
class System:
    """A system, serving the classroom document's model or ours.

    Args:
        name: `PEER` or `PEER:FORM`, as `--systems` takes it.
        text: its name in the table.
        commands: its processes; the last one takes the requests.
        path: path of the URL.
        environment: name of its environment in .venv-bench; empty: the project's own environment.
        request: makes the body of a request from a photo in base64.
        variables: additional environment variables of its processes.
        prints_address: it prints url and key itself, as ours does.
        bare: a script without a server (benchmarks/peers/apps/floor.py).
    """

    name: str
    form: str
    text: str
    commands: Callable[["System", Place], Sequence[Command]]
    path: str = "/predict"
    environment: str = ""
    request: Callable[[str], dict[str, Any]] = field(
        default=lambda photo: {"image_id": NUMBERED, "image_base64": photo}
    )
    variables: Callable[[Place], dict[str, str]] = field(default=lambda place: {})
    prints_address: bool = False
    bare: bool = False

    @property
    def peer(self) -> str:
        return self.name.partition(":")[0]

    @property
    def python(self) -> str:
        return str(install.python(self.environment)) if self.environment else sys.executable

    def absent(self) -> str | None:
        """Why it cannot run here; None if it can."""
        return install.absent(self.environment) if self.environment else None


def systems() -> list[System]:
    """All systems, ours first."""
    both = (work.DOCUMENT, work.OURS)
    return [
        System("ours", work.OURS, "this project: TorchServe, the shipped archive", _ours, prints_address=True),
        *_chains(),
        System("torchserve", work.DOCUMENT, "TorchServe, stock handler", _torchserve, "/predictions/document"),
        *(_peer("fastapi", form, "FastAPI, ONNX Runtime", "FastAPI", _fastapi) for form in both),
        *(_peer("litserve", form, "LitServe, torch", "LitServe", _module) for form in both),
        *(_peer("bentoml", form, "BentoML, torch", "BentoML", _bentoml) for form in both),
        *(_peer("ray", form, "Ray Serve, torch", "Ray Serve", _module) for form in both),
        *(_peer("mlserver", form, "MLServer, torch", "MLServer", _mlserver, V2, _v2) for form in both),
        *(_peer("pytriton", form, "PyTriton, torch", "PyTriton", _module, V2, _v2) for form in both),
        *(
            System(f"floor-{kind}:{form}", form, f"bare script: {kind}", _floor, environment="floor", bare=True)
            for form in both
            for kind in floor.KINDS
        ),
    ]


V2 = "/v2/models/classroom/infer"


def _peer(peer: str, form: str, stock: str, ours: str, commands: Any, *more: Any) -> System:
    text = stock if form == work.DOCUMENT else f"{ours}, our model and decoder"
    path, request = more if more else ("/predict", System.__dataclass_fields__["request"].default)
    return System(f"{peer}:{form}", form, text, commands, path, peer, request)


def _chains() -> list[System]:
    def chain(name: str, text: str, workers: int, variables: dict[str, str]) -> System:
        def commands(system: System, place: Place) -> Sequence[Command]:
            start = (system.python, "-m", "gunicorn", "--log-level", "warning", "--timeout", 200)
            inner = (
                *start,
                "-w",
                workers,
                "-b",
                f"{HOST}:{place.port + 1}",
                "benchmarks.peers.apps.document_model:app",
            )
            front = (*start, "-w", 4, "-b", f"{HOST}:{place.port}", "benchmarks.peers.apps.document_front:application")
            return inner, front

        def more(place: Place) -> dict[str, str]:
            (place.folder / "photos").mkdir(exist_ok=True)
            inner = f"http://{HOST}:{place.port + 1}/v1/is_online/"
            return {"BENCH_PHOTOS": str(place.folder / "photos"), "BENCH_INNER": inner, **variables}

        path = "/api/v1/get_pm/"
        return System(name, work.DOCUMENT, text, commands, path, "document", _as_bytes, more)

    cores = os.cpu_count() or 1
    return [
        chain("document", "the classroom document's chain as printed (gunicorn -w 4, twice)", 4, {}),
        chain(
            "document-tuned",
            "the same with one worker per core and one torch thread each",
            cores,
            {"BENCH_TORCH_THREADS": "1"},
        ),
    ]


def _as_bytes(photo: str) -> dict[str, Any]:
    """What the client of the classroom document sends: Python's str(bytes)."""
    return {"image_id": NUMBERED, "image_base64": f"b'{photo}'"}


def _v2(photo: str) -> dict[str, Any]:
    """The V2 inference protocol: https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol"""
    tensor = {"name": "image_base64", "shape": [1, 1], "datatype": "BYTES", "data": [photo]}
    return {"id": NUMBERED, "inputs": [tensor]}


def _ours(system: System, place: Place) -> Sequence[Command]:
    return [(system.python, "-m", "benchmarks.peers.apps.ours_app", place.bundle, place.folder)]


def _torchserve(system: System, place: Place) -> Sequence[Command]:
    return [(system.python, "-m", "benchmarks.peers.apps.torchserve_app", place.port, place.folder)]


def _fastapi(system: System, place: Place) -> Sequence[Command]:
    words = ("benchmarks.peers.apps.fastapi_app:app", "--host", HOST, "--port", place.port, "--log-level", "warning")
    return [(system.python, "-m", "uvicorn", *words)]


def _module(system: System, place: Place) -> Sequence[Command]:
    return [(system.python, "-m", f"benchmarks.peers.apps.{system.peer}_app", place.port)]


def _bentoml(system: System, place: Place) -> Sequence[Command]:
    words = ("serve", "benchmarks.peers.apps.bentoml_app:Classifier", "--host", HOST, "--port", place.port)
    return [(system.python, "-m", "bentoml", *words, "--working-dir", ROOT)]


def _mlserver(system: System, place: Place) -> Sequence[Command]:
    ports = {"http_port": place.port, "grpc_port": place.port + 1, "metrics_port": place.port + 2}
    (place.folder / "settings.json").write_text(json.dumps({"host": HOST, **ports}))
    model = {"name": "classroom", "implementation": "benchmarks.peers.apps.mlserver_app.Classifier"}
    (place.folder / "model-settings.json").write_text(json.dumps(model))
    return [(Path(system.python).with_name("mlserver"), "start", place.folder)]


def _floor(system: System, place: Place) -> Sequence[Command]:
    return [(system.python, "-m", "benchmarks.peers.apps.floor", system.peer.removeprefix("floor-"))]
