"""A name server for one name, whose addresses a test changes: what Kubernetes does for a headless Service."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

ANSWERED, NO_SUCH_NAME = 0x8180, 0x8183
TTL_S = 1


class Names:
    """Answers every question with `addresses`.

    Attributes:
        place: HOST:PORT of the server.
    """

    def __init__(self, listener: socket.socket) -> None:
        self.addresses: list[str] = []
        self.place = "{}:{}".format(*listener.getsockname())
        self._listener = listener

    def serve(self) -> None:
        """Answer until an empty message comes."""
        while True:
            question, client = self._listener.recvfrom(512)
            if not question:
                return
            self._listener.sendto(self._answer(question), client)

    def _answer(self, question: bytes) -> bytes:
        """RFC 1035: the head, the question again, one record of type A for each address."""
        found = self.addresses
        head = struct.pack("!HHHHH", ANSWERED if found else NO_SUCH_NAME, 1, len(found), 0, 0)
        asked = question[12 : question.index(0, 12) + 5]
        record = struct.pack("!HHHIH", 0xC00C, 1, 1, TTL_S, 4)
        return question[:2] + head + asked + b"".join(record + socket.inet_aton(address) for address in found)


@contextmanager
def names() -> Iterator[Names]:
    """A running name server, without addresses at first."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        server = Names(listener)
        thread = threading.Thread(target=server.serve)
        thread.start()
        try:
            yield server
        finally:
            listener.sendto(b"", listener.getsockname())
            thread.join()
