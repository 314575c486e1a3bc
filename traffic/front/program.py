"""The program `front` of config/supervisord.conf: nginx, its configuration and the keys of the nodes.

    python -m traffic.front.program

writes var/front/nginx.conf and starts nginx with it, or attaches to the one that is running. It follows the nodes' keys
(traffic/front/gate.py), runs the shadow (traffic/shadow/program.py), reloads nginx when the clients' tokens or the
settings have changed, starts it again when it has ended, and rotates its logs. Clients that connect while nginx starts
wait at the sockets that this program holds (traffic/front/listening.py). If supervisord itself dies, nginx
continues and the next program attaches to it.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from types import TracebackType

from common.cli import command
from common.errors import UserError
from deploy.host.log import log, one_line
from deploy.host.nodes import environment
from deploy.host.processes import follow_supervisor
from deploy.settings import ROOT, Settings, read_settings
from deploy.supervision.torchserve_program import STOPPING
from traffic.front import route, tokens
from traffic.front.config import render
from traffic.front.gate import Gate, is_ready
from traffic.front.nginx import Nginx
from traffic.front.nodes import Node, nodes

ROUND_S = 0.5
GATE_S = 0.1


@command(epilog="Example: python -m traffic.front.program")
def main() -> None:
    """Run nginx in front of the nodes, on ports 8086 and 8087. Run by supervisord."""
    follow_supervisor(signal.SIGKILL)  # another signal would stop nginx together with this process
    for number in STOPPING:
        signal.signal(number, _stop)
    os.umask(0o077)
    with Front(read_settings()) as front:
        front.run()


class Front:
    """nginx and what it needs; stops it at the end of its block.

    Args:
        ready: whether a node may get requests; None: its keeper says so.
        behind: the nodes; none: those of the settings.
    """

    def __init__(
        self, settings: Settings, ready: Callable[[Node], bool] | None = None, behind: tuple[Node, ...] = ()
    ) -> None:
        self.settings = settings
        self.nginx = Nginx(settings.var)
        self.nodes = behind or nodes(settings)
        self._ready = ready or self._may_open
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._logged = ""
        self._shadow: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Front":
        self.nginx.prepare()
        for node in self.nodes:
            gate = Gate(self.settings.var, node, self._ready)
            self._threads.append(threading.Thread(target=self._follow, args=(gate,), daemon=True))
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._stopping.set()
        self.nginx.stop()
        self._end_shadow()
        for thread in self._threads:
            thread.join()

    def run(self) -> None:
        """Work until a signal raises an exception in this thread."""
        self.once()
        while not self._stopping.wait(ROUND_S):
            self.once()

    def once(self) -> None:
        """One round. An error is logged once, and the next round tries again."""
        try:
            self._round()
            self._logged = ""
        except (UserError, OSError) as error:
            why = one_line(str(error))
            if why != self._logged:
                log("warning", text=why)
            self._logged = why

    def _round(self) -> None:
        changed = self.nginx.write(render(self.settings, self.nodes, tokens.of(self.settings)))
        if not self.nginx.running():
            self.nginx.start()
            log("nginx is started", ports=[self.settings.ports[key] for key in ("front_port", "front_second_port")])
        elif changed:
            self.nginx.reload()
            log("nginx reads its new configuration")
        self._follow_shadow()
        self.nginx.rotate_logs()

    def _follow_shadow(self) -> None:
        """Run the shadow's daemon while a canary has a shadow; it is not needed to serve."""
        wanted = any(route.shadowed(self.settings.var, found) for found in route.read_all(self.settings.var))
        running = self._shadow is not None and self._shadow.poll() is None
        if wanted and not running:
            self._shadow = subprocess.Popen(
                [sys.executable, "-m", "traffic.shadow.program"],
                cwd=ROOT,
                env={**os.environ, **environment(self.settings, further=False)},
                stdin=subprocess.DEVNULL,
            )
            log("the shadow is started")
        elif running and not wanted:
            self._end_shadow()

    def _end_shadow(self) -> None:
        if self._shadow is not None:
            self._shadow.kill()  # it has nothing to finish
            self._shadow.wait()
            self._shadow = None

    def _may_open(self, node: Node) -> bool:
        """While a canary is in progress, a restarted node that has others beside it waits until it has the candidate.

        Its keeper registers the default first. Until then it would answer 503 to the candidate's requests only, and the
        verdict would count them.
        """
        canary = len(self.nodes) > 1 and bool(route.read_all(self.settings.var))
        return is_ready(node, repaired=canary)

    def _follow(self, gate: Gate) -> None:
        """Follow the key of one node. A bug in a round is logged and does not end the thread."""
        while not self._stopping.wait(GATE_S):
            try:
                gate.round()
            except Exception as error:
                log("error", text=f"the gate of {gate.node.name} failed: {error!r}")
                self._stopping.wait(ROUND_S)


def _stop(*_: object) -> None:
    """Stop nginx in the `with` of `main`; a second signal must not interrupt that."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
    sys.exit(0)


if __name__ == "__main__":
    main(prog_name="python -m traffic.front.program")
