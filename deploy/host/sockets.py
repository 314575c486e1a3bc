"""Close connections of another process of this user that have been silent for too long. Linux 5.6 or newer.

TorchServe has no read timeout: a request whose body never ends would hold its memory and its connection for ever. A
duplicate of the socket is enough to shut it down (pidfd_getfd, https://man7.org/linux/man-pages/man2/pidfd_getfd.2.html).
The kernel allows this to a parent of the process; to other processes of its user only without Yama's ptrace_scope.
"""

import contextlib
import ctypes
import os
import socket
import struct
from collections.abc import Collection

import psutil

_PIDFD_GETFD = 438  # the same number on every architecture (asm-generic/unistd.h)
_INFO = struct.Struct("44xI4xI64xQQ")
"""Of `struct tcp_info` in linux/tcp.h: milliseconds since data was sent and received; bytes acknowledged, received."""
_libc = ctypes.CDLL(None, use_errno=True)


def close_unfinished(process: psutil.Process, ports: Collection[int], silent_s: float) -> int:
    """Shut down the connections to some ports of a process whose last byte came in `silent_s` seconds ago.

    A connection that waits for the next request is left alone: the last byte on it went out, with the answer.

    Returns:
        how many were closed.

    Raises:
        PermissionError: the kernel does not allow it.
        OSError: the process has ended, or the kernel is too old.
        psutil.Error: the process has ended.
    """
    connections = [
        connection
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_ESTABLISHED and connection.laddr.port in ports
    ]
    if not connections:
        return 0
    pidfd = os.pidfd_open(process.pid)
    try:
        return sum(_close(pidfd, connection.fd, connection.raddr, silent_s) for connection in connections)
    finally:
        os.close(pidfd)


def _close(pidfd: int, number: int, peer: tuple[str, int], silent_s: float) -> bool:
    copy = _libc.syscall(_PIDFD_GETFD, pidfd, number, 0)
    if copy < 0:
        code = ctypes.get_errno()
        if code == 9:  # EBADF: closed since it was listed
            return False
        raise OSError(code, os.strerror(code))
    with socket.socket(fileno=copy) as connection, contextlib.suppress(OSError):  # it may be closed at any moment
        if connection.getpeername()[1] != peer[1] or not _unfinished(connection, silent_s):
            return False
        connection.shutdown(socket.SHUT_RDWR)
        return True
    return False


def _unfinished(connection: socket.socket, silent_s: float) -> bool:
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)
    sent_ms, received_ms, acknowledged, received = _INFO.unpack(info)
    answered = (
        acknowledged > 1 and sent_ms <= received_ms
    )  # the first byte is the SYN; the clock has steps of 1 to 4 ms
    return bool(received and not answered and received_ms > silent_s * 1000)
