"""The shadow's daemon: takes copies of requests from nginx, and asks both versions.

    python -m traffic.shadow.program

The front starts it while a canary has a shadow. It answers nginx with 204 at once, keeps at most QUEUE_BYTES of
requests, drops all others, and asks the serving version and the candidate one after the other, in random order, one
photo at a time. It writes counts, and one line per pair (labels, confidences, milliseconds) to var/logs/shadow.log:
neither photos nor their ids.
"""

import json
import os
import queue
import random
import signal
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import requests
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from common.cli import command
from common.errors import UserError
from deploy.host.log import log
from deploy.host.processes import signal_when_parent_dies
from deploy.settings import Settings, read_settings
from deploy.torchserve.management import PROBE, Client
from handler.requestlog import HEADER
from traffic.front import route
from traffic.front.folder import shadow_socket
from traffic.front.nodes import settings_of
from traffic.shadow import pairs
from traffic.shadow.pairs import Answer, Tally

QUEUE_BYTES = 64_000_000
KEPT_HEADERS = ("content-type", "content-encoding")
WRITE_S = 0.5
LOG_BYTES = 20_000_000


@command(epilog="Example: python -m traffic.shadow.program")
def main() -> None:
    """Take copies of requests from nginx. Started by the front."""
    signal_when_parent_dies(signal.SIGTERM)
    os.umask(0o077)
    settings = read_settings()
    with Shadow(settings) as shadow:
        app = Starlette(routes=[Route("/", shadow.take, methods=["POST"])])
        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off")
        uvicorn.Server(config).run(sockets=[listen(shadow_socket(settings.var))])


def listen(path: Path) -> socket.socket:
    """Listen, and only then say so to nginx, which gives up for a while on a socket that refuses it."""
    ready = path.with_name(f"{path.name}.ready")
    for old in (ready, path):
        old.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(1024)
    ready.touch()
    return listener


@dataclass(frozen=True)
class Copy:
    """One request: the model's name, and what the client sent."""

    name: str
    headers: Mapping[str, str]
    body: bytes


class Shadow:
    """A bounded queue, and a thread that asks both versions."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.queued_bytes, self.dropped = 0, 0
        self._queue: queue.SimpleQueue[Copy | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._tallies: dict[str, Tally] = {}
        self._written = 0.0

    def __enter__(self) -> "Shadow":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._queue.put(None)
        self._thread.join()

    async def take(self, request: Request) -> Response:
        """Queue a copy, or drop it; the answer is always the same."""
        body = await request.body()
        headers = {name: request.headers[name] for name in KEPT_HEADERS if name in request.headers}
        self.put(Copy(request.headers.get("x-shadow-model", ""), headers, body))
        return Response(status_code=204)

    def put(self, copy: Copy) -> bool:
        """Queue a copy; whether there was room."""
        with self._lock:
            if self.queued_bytes + len(copy.body) > QUEUE_BYTES:
                self.dropped += 1
                return False
            self.queued_bytes += len(copy.body)
        self._queue.put(copy)
        return True

    def _work(self) -> None:
        while (copy := self._queue.get()) is not None:
            with self._lock:
                self.queued_bytes -= len(copy.body)
            try:
                self._ask_both(copy)
            except Exception as error:  # a bug must not end the thread
                log("error", text=f"the shadow failed: {error!r}")

    def _ask_both(self, copy: Copy) -> None:
        found = route.read(self.settings.var, copy.name)
        if found is None or not route.shadowed(self.settings.var, found):
            return
        tally = self._tallies.get(copy.name)
        if tally is None or tally.salt != found.salt:
            tally = self._tallies[copy.name] = pairs.read(self.settings.var, copy.name, found.salt)
        order = ["control", "candidate"]
        random.shuffle(order)
        models = {"control": found.name, "candidate": f"{found.name}/{found.version}"}
        node = random.choice(settings_of(self.settings))  # both versions on the same node
        answers = {arm: ask(Client(node), models[arm], copy) for arm in order}
        tally.add(answers["control"], answers["candidate"])
        tally.dropped, tally.queue_bytes = tally.dropped + self._new_drops(), self.queued_bytes
        _log_pair(self.settings.var, copy.name, answers)
        if time.monotonic() - self._written > WRITE_S or self._queue.empty():
            pairs.write(self.settings.var, copy.name, tally)
            self._written = time.monotonic()

    def _new_drops(self) -> int:
        with self._lock:
            dropped, self.dropped = self.dropped, 0
            return dropped


def ask(client: Client, model: str, copy: Copy) -> Answer:
    """Ask one version; an error is an answer without a label."""
    begun = time.perf_counter()
    try:
        headers = {**copy.headers, "X-Detail": "true", HEADER: PROBE}
        answer = client.ask("inference", "POST", f"/predictions/{model}", data=copy.body, headers=headers)
        label, confidence = _read(answer)
    except UserError:
        label, confidence = None, None
    return Answer(label, confidence, round((time.perf_counter() - begun) * 1000, 2))


def _read(answer: requests.Response) -> tuple[str | None, float | None]:
    try:
        content = answer.json()
    except ValueError:
        return None, None
    if not answer.ok or not isinstance(content, dict):
        return None, None
    return content.get("result"), content.get("confidence")


def _log_pair(var: Path, name: str, answers: Mapping[str, Answer]) -> None:
    row = {"time": time.time(), "model": name, **dict(_flat(answers))}
    path = var / "logs" / "shadow.log"
    with suppress(OSError):
        if path.exists() and path.stat().st_size > LOG_BYTES:
            path.replace(path.with_suffix(".log.1"))
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def _flat(answers: Mapping[str, Answer]) -> Iterator[tuple[str, object]]:
    for arm, answer in answers.items():
        yield from ((f"{arm}_label", answer.label), (f"{arm}_confidence", answer.confidence), (f"{arm}_ms", answer.ms))


if __name__ == "__main__":
    main(prog_name="python -m traffic.shadow.program")
