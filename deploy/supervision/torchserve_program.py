"""The program `torchserve` of config/supervisord.conf.

    python -m deploy.supervision.torchserve_program

attaches to the TorchServe of `var` if one is alive, else starts one, and ends as soon as that has ended:
supervisord then starts it anew. When supervisord itself dies, TorchServe goes on and the next one adopts it.
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
from deploy.torchserve.process import WATCH_S, Server

NOT_STARTED = "not started"  # the event that `up` looks for
RETRY_S = 1
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@command(epilog="Example: python -m deploy.supervision.torchserve_program")
def main() -> None:
    """Attach to the TorchServe of this var, or start one; exit 1 as soon as it has ended."""
    follow_supervisor(signal.SIGKILL)  # no other signal: it would stop TorchServe with us
    for number in STOPPING:
        signal.signal(number, _stop)
    os.umask(0o077)
    server = Server(read_settings())
    try:
        attach_or_start(server)
        while not server.ended():
            time.sleep(WATCH_S)
        log("TorchServe has ended by itself", console=one_line(server.last_words()))
    finally:
        server.stop()
    sys.exit(1)


def attach_or_start(server: Server) -> None:
    """Return when TorchServe answers; what is in the way (a taken port, a full disk) is waited out."""
    if server.adopt():
        return log("attached to the TorchServe that is running", group=server.group)
    said = ""
    while True:
        try:
            server.start()
            return log("TorchServe answers", group=server.group)
        except (UserError, OSError) as error:
            why = one_line(error.message if isinstance(error, UserError) else str(error))
            if why != said:
                log(NOT_STARTED, why=why)
            said = why
            time.sleep(RETRY_S)


def _stop(*_: object) -> None:
    """Stop TorchServe, whatever we are at; a second signal must not interrupt the stopping."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
    sys.exit(0)


if __name__ == "__main__":
    main(prog_name="python -m deploy.supervision.torchserve_program")
