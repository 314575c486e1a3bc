"""The program `torchserve` of config/supervisord.conf.

    python -m deploy.supervision.torchserve_program

attaches to the TorchServe of `var` if one is running, else starts one, and ends as soon as TorchServe has ended, so
that supervisord restarts it. If supervisord itself dies, TorchServe continues and the next program attaches to it.
"""

import os
import signal
import sys
import time

from common.cli import command
from common.errors import UserError
from deploy.host.log import log, one_line
from deploy.host.processes import follow_supervisor
from deploy.settings import read_settings
from deploy.supervision.front_end import Unfinished
from deploy.torchserve.process import POLL_S, Server

NOT_STARTED = "not started"  # the log event that `up` looks for
RETRY_S = 1
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@command(epilog="Example: python -m deploy.supervision.torchserve_program")
def main() -> None:
    """Attach to the TorchServe of this var, or start one; exit 1 as soon as it has ended."""
    follow_supervisor(signal.SIGKILL)  # another signal would stop TorchServe together with this process
    for number in STOPPING:
        signal.signal(number, _stop)
    os.umask(0o077)
    settings = read_settings()
    server, unfinished = Server(settings), Unfinished(settings)
    try:
        attach_or_start(server)
        while not server.ended():
            time.sleep(POLL_S)
            if server.java:
                unfinished.close(server.java)
        log("TorchServe ended unexpectedly", console=one_line(server.console_tail()))
    finally:
        server.stop()
    sys.exit(1)


def attach_or_start(server: Server) -> None:
    """Return when TorchServe answers; retries while a port is taken or the disk is full."""
    if server.adopt():
        return log("attached to the TorchServe that is running", group=server.group)
    logged = ""
    while True:
        try:
            server.start()
            return log("TorchServe answers", group=server.group)
        except (UserError, OSError) as error:
            why = one_line(str(error))
            if why != logged:
                log(NOT_STARTED, why=why)
            logged = why
            time.sleep(RETRY_S)


def _stop(*_: object) -> None:
    """Stop TorchServe in the `finally` of `main`; a second signal must not interrupt that."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
    sys.exit(0)


if __name__ == "__main__":
    main(prog_name="python -m deploy.supervision.torchserve_program")
