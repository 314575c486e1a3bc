"""The sockets that nginx listens on, held by the front's program, so that a killed nginx costs nobody a connection.

Clients that connect while nginx starts again wait at these sockets instead of being refused. nginx takes them over as
it does when its program is replaced: the variable NGINX lists their numbers, and an address of its configuration that
one of them has is not opened again (ngx_add_inherited_sockets in nginx's src/core/nginx.c).
"""

import contextlib
import re
import socket
from pathlib import Path

VARIABLE = "NGINX"
_LISTEN = re.compile(r"^\s*listen ([^\s;]+)", re.MULTILINE)
_UNIX = "unix:"


class Listening:
    """Sockets by their address, as `listen` in nginx.conf names it."""

    def __init__(self) -> None:
        self._sockets: dict[str, socket.socket] = {}

    def open(self, text: str) -> None:
        """Listen on the addresses of a configuration, and on no others. No process of nginx may listen on new ones.

        Raises:
            OSError: an address is in use; those that were opened stay open.
        """
        wanted = _LISTEN.findall(text)
        for address in [*self._sockets]:
            if address not in wanted:
                self._sockets.pop(address).close()
        for address in wanted:
            if address not in self._sockets:
                self._sockets[address] = _opened(address)

    def close(self) -> None:
        """Close them here; an nginx that has them goes on."""
        for held in self._sockets.values():
            held.close()
        self._sockets.clear()

    @property
    def numbers(self) -> list[int]:
        """The file descriptors; empty: none is held."""
        return [held.fileno() for held in self._sockets.values()]

    @property
    def environment(self) -> dict[str, str]:
        """What tells nginx to take them over."""
        return {VARIABLE: "".join(f"{number};" for number in self.numbers)} if self._sockets else {}


def _opened(address: str) -> socket.socket:
    with contextlib.ExitStack() as stack:
        if address.startswith(_UNIX):
            path = Path(address.removeprefix(_UNIX))
            path.unlink(missing_ok=True)  # of a former nginx
            made = stack.enter_context(socket.socket(socket.AF_UNIX))
            made.bind(str(path))
        else:
            host, _, port = address.rpartition(":")
            made = stack.enter_context(socket.socket())
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                made.bind((host, int(port)))
            except OSError as error:
                raise OSError(error.errno, f"port {port}: {error.strerror}: waiting for it") from error
        made.setblocking(False)  # nginx takes it as it is
        made.listen(socket.SOMAXCONN)
        stack.pop_all()
        return made
