"""The program `keeper` of config/supervisord.conf: keeps served what must be served, and says whether it is.

    python -m deploy.supervision.keeper

looks every second and repairs (deploy/supervision/reconcile.py). On 127.0.0.1:8083 it answers GET /ready (200 when a
real prediction of every served name is right, else 503) and GET /metrics. When supervisord itself dies, the keeper of
`make up` starts another; `make serve` does that for its own.
"""

import contextlib
import os
import shutil
import signal
import socket
import sys
import threading
import time

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from common.cli import command
from common.errors import UserError
from deploy.host.log import log, one_line
from deploy.host.processes import follow_supervisor
from deploy.settings import HOST, Settings, read_settings
from deploy.supervision.metrics import CONTENT_TYPE, Metrics
from deploy.supervision.readiness import Readiness
from deploy.supervision.reconcile import Reconciler
from deploy.supervision.repair_plan import ModelState
from deploy.supervision.single import BACKGROUND
from deploy.supervision.supervisor import MODE, spawn

ROUND_S = 1.0
PROBE_EVERY_S = 5.0
NEARLY_FULL_MB = 50


class Orphaned(BaseException):
    """Our supervisord has died."""


@command(epilog="Example: python -m deploy.supervision.keeper")
def main() -> None:
    """Keep served what var/served.json says; /ready and /metrics on the keeper's port. Run by supervisord."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGUSR1, _orphaned)
    follow_supervisor(signal.SIGUSR1)
    os.umask(0o077)
    settings = read_settings()
    try:
        Keeper(settings).run()
    except Orphaned:
        if os.environ.get(MODE) == BACKGROUND.value:
            log("supervisord died: starting another")
            spawn(settings, BACKGROUND)


class Keeper:
    """The rounds in this thread, /ready and /metrics in another."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics(settings)
        self.reconciler = Reconciler(settings, self.metrics.keeper_action)
        self.readiness = Readiness(settings, self.reconciler)

    def run(self) -> None:
        """Until SIGTERM."""
        self.metrics.start()
        threading.Thread(target=self._answer, daemon=True).start()
        threading.Thread(target=self._probe, daemon=True).start()
        log("the keeper is at work", pid=os.getpid(), ready=self.settings.url("keeper") + "/ready")
        while True:
            self.once()
            time.sleep(ROUND_S)

    def once(self) -> None:
        """One round. A bug in it is logged, and the next round tries again: nothing may end the keeping."""
        try:
            self.reconciler.round()
            self.readiness.note("")
        except UserError as error:
            self.readiness.note(one_line(error.message) if self.reconciler.models else "TorchServe is starting")
        except Exception as error:
            log("error", text=repr(error))
            self.readiness.note(f"the keeper failed: {error!r}")
        self._measure()

    def _measure(self) -> None:
        for entry in self.reconciler.entries:
            model = self.reconciler.models.get(entry.name, ModelState())
            self.metrics.workers_ready(entry.name, entry.version, model.ready.get(entry.version, 0))
        with contextlib.suppress(OSError):
            free = shutil.disk_usage(self.settings.var).free // 1_000_000
            self.reconciler.warn(
                "disk", f"{self.settings.var} is nearly full: make room" if free < NEARLY_FULL_MB else ""
            )

    def _probe(self) -> None:
        """Know whether predictions are right, also while nobody asks /ready: a scrape must not wait for a probe."""
        while True:
            try:
                ready = bool(self.readiness.answer()["ready"])
            except Exception as error:  # as in `once`: a bug must not leave the last answer standing for ever
                log("error", text=f"the probe failed: {error!r}")
                ready = False
            self.metrics.ready(ready)
            time.sleep(PROBE_EVERY_S)

    def _answer(self) -> None:
        """Serve HTTP for ever."""
        routes = [Route("/ready", self._ready), Route("/metrics", self._metrics)]
        config = uvicorn.Config(Starlette(routes=routes), log_level="warning", access_log=False, lifespan="off")
        uvicorn.Server(config).run(sockets=[listen(self.settings.ports["keeper_port"])])

    def _ready(self, request: Request) -> Response:
        answer = self.readiness.answer()
        return JSONResponse(answer, status_code=200 if answer["ready"] else 503)

    def _metrics(self, request: Request) -> Response:
        return Response(self.metrics.text(), headers={"Content-Type": CONTENT_TYPE})


def listen(port: int) -> socket.socket:
    """Listen on the loopback; a taken port is waited for."""
    said = False
    while True:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
            return listener
        except OSError as error:
            listener.close()
            if not said:
                log("warning", text=f"port {port}: {error.strerror}: it is waited for")
            said = True
            time.sleep(0.2)


def _orphaned(*_: object) -> None:
    raise Orphaned


if __name__ == "__main__":
    main(prog_name="python -m deploy.supervision.keeper")
