"""The program `keeper` of config/supervisord.conf: keeps the desired versions served and reports readiness.

    python -m deploy.supervision.keeper

compares and repairs every second (deploy/supervision/reconcile.py). On 127.0.0.1:8083 it answers GET /ready (200 if a
golden photo of every served name is answered correctly, else 503; deploy/supervision/readiness.py) and GET /metrics.
If supervisord itself dies, the keeper of `make up` starts another; `make serve` does this for its own.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

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
from deploy.supervision.supervisor import BACKGROUND, MODE, spawn

ROUND_S = 1.0
PROBE_EVERY_S = 5.0
PORT_RETRY_S = 0.2
NEARLY_FULL_MB = 50


class Orphaned(BaseException):
    """Our supervisord has died."""


@command(epilog="Example: python -m deploy.supervision.keeper")
def main() -> None:
    """Keep the versions of var/served.json served; /ready and /metrics on the keeper's port. Run by supervisord."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # at once, even during a repair: the next start repeats it
    signal.signal(signal.SIGUSR1, _orphaned)
    follow_supervisor(signal.SIGUSR1)
    os.umask(0o077)
    settings = read_settings()
    try:
        Keeper(settings).run()
    except Orphaned:
        if os.environ.get(MODE) == BACKGROUND:
            log("supervisord died: starting another")
            spawn(settings, BACKGROUND)


class Keeper:
    """Reconciles in the thread that calls `run`; /ready, /metrics and the probes have their own threads."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics(settings)
        self.reconciler = Reconciler(settings, self.metrics.keeper_action)
        self.readiness = Readiness(settings, self.reconciler)
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=work, daemon=True) for work in (self._answer, self._probe)]
        self._scrapes = ThreadPoolExecutor(1, "metrics")
        self._http = self._http_server()

    def run(self) -> None:
        """Work until `stop` is called, or a signal raises an exception in this thread."""
        self.metrics.start()
        for thread in self.threads:
            thread.start()
        log("the keeper is running", pid=os.getpid(), ready=self.settings.url("keeper") + "/ready")
        try:
            self.once()
            while not self.stopping.wait(ROUND_S):
                self.once()
        finally:
            self.stop()

    def stop(self) -> None:
        """End the loops of all threads; does not wait for them."""
        self.stopping.set()
        self._http.should_exit = True

    def once(self) -> None:
        """One round. A bug in it is logged and does not end the keeper: the next round tries again."""
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
            free_mb = shutil.disk_usage(self.settings.var).free // 1_000_000
            text = f"the disk of {self.settings.var} is nearly full (less than {NEARLY_FULL_MB} MB): free some space"
            self.reconciler.warn("disk", text if free_mb < NEARLY_FULL_MB else "")

    def _probe(self) -> None:
        """Keep the metric `classifier_ready` up to date even if no client requests /ready."""
        while True:
            try:
                ready = bool(self.readiness.answer()["ready"])
            except Exception as error:  # a bug must not leave the last value standing
                log("error", text=f"the probe failed: {error!r}")
                ready = False
            self.metrics.ready(ready)
            if self.stopping.wait(PROBE_EVERY_S):
                return

    def _answer(self) -> None:
        listener = listen(self.settings.ports["keeper_port"], self.stopping, self.settings.metrics_host)
        if listener:
            self._http.run(sockets=[listener])

    def _http_server(self) -> uvicorn.Server:
        routes = [Route("/ready", self._ready), Route("/metrics", self._metrics)]
        app = Starlette(routes=routes)
        # Without log_config=None uvicorn closes and replaces the logging handlers of the whole process.
        return uvicorn.Server(
            uvicorn.Config(app, log_config=None, log_level="warning", access_log=False, lifespan="off")
        )

    def _ready(self, request: Request) -> Response:
        answer = self.readiness.answer()
        return JSONResponse(answer, status_code=200 if answer["ready"] else 503)

    async def _metrics(self, request: Request) -> Response:
        """In a thread of its own: all others may be waiting for a golden photo to be answered."""
        text = await asyncio.get_running_loop().run_in_executor(self._scrapes, self.metrics.text)
        return Response(text, headers={"Content-Type": CONTENT_TYPE})


def listen(port: int, stopping: threading.Event, host: str = HOST) -> socket.socket | None:
    """Listen on a port; waits while it is taken. None if `stopping` was set first."""
    warned = False
    while not stopping.is_set():
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            return listener
        except OSError as error:
            listener.close()
            if not warned:
                log("warning", text=f"port {port}: {error.strerror}: waiting for it")
            warned = True
            stopping.wait(PORT_RETRY_S)
    return None


def _orphaned(*_: object) -> None:
    raise Orphaned


if __name__ == "__main__":
    main(prog_name="python -m deploy.supervision.keeper")
