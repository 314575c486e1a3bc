"""A process that decodes photos for a worker, one after another, within limits that the kernel enforces.

    python -m handler.decoder '{"input": {...}, "limits": {...}}'

`handler.decoders` starts it. Once it is ready it writes one byte to stdout. It then reads a question (QUESTION and the
bytes of a file) from stdin and writes an answer (ANSWER, and the pixels or the error as JSON), again and again. It ends
when stdin is closed, so it does not outlive its worker.

The limits also hold inside a decoder's C code: the kernel ends the process by SIGPROF when a photo has used its CPU
time, and refuses memory beyond the address space. Nothing here imports torch or pydantic, so a process starts fast and
is small.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from PIL import Image

from handler.decoding.costs import out_of_memory
from handler.errors import RequestError
from handler.image import preprocess

if TYPE_CHECKING:
    from handler.spec import Input, Limits

QUESTION = struct.Struct("=dI")
"""CPU seconds that the photo may use; length of its file in bytes."""

ANSWER = struct.Struct("=??dI")
"""Whether the photo is refused; whether the process ends now; CPU seconds used; length of the content in bytes."""

_LIBC = ctypes.CDLL(None)
_MOST_KEPT = 100 * 10**6  # bytes: a process whose address space has grown by more after its photos is replaced


def main(settings: str) -> None:
    """Answer questions until stdin is closed.

    Args:
        settings: JSON object with the sections `input` and `limits` of a recipe, which its worker has checked.
    """
    sections = json.loads(settings)
    size = cast("Input", SimpleNamespace(**sections["input"]))
    limits = cast("Limits", SimpleNamespace(**sections["limits"]))
    Image.init()
    own = address_space()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the end by SIGPROF is no reason to write a core file
    write(sys.stdout.fileno(), b"\n")
    while (question := read(sys.stdin.fileno(), QUESTION.size)) is not None:
        seconds, length = QUESTION.unpack(question)
        data = read(sys.stdin.fileno(), length) or b""
        begun = time.process_time()
        limit_memory(limits.photo_megabytes)
        with limited_time(seconds):
            refused, content = answer(data, size, limits)
        del data
        _return_memory()
        last = address_space() > own + _MOST_KEPT
        write(sys.stdout.fileno(), ANSWER.pack(refused, last, time.process_time() - begun, len(content)), content)
        if last:
            return


def answer(data: bytes, size: Input, limits: Limits) -> tuple[bool, bytes]:
    """Decode a photo.

    Returns:
        whether it is refused, and its pixels (CHW) or the error as JSON.
    """
    try:
        return False, preprocess(data, size, limits).tobytes()
    except MemoryError:
        error: RequestError = out_of_memory(limits)
    except RequestError as caught:
        error = out_of_memory(limits) if _lacked_memory(caught) else caught
    return True, json.dumps(error.as_json()).encode()


@contextmanager
def limited_time(seconds: float) -> Iterator[None]:
    """Have the kernel end this process (SIGPROF) if the block uses more CPU time, of all threads together."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def limit_memory(megabytes: int) -> None:
    """Limit the address space to what it is now plus `megabytes`."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (address_space() + megabytes * 10**6, hard))


def address_space() -> int:
    """The address space of this process, in bytes."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * resource.getpagesize()


def read(descriptor: int, length: int) -> bytes | None:
    """Read exactly `length` bytes; None if the other side closed its end before."""
    parts = []
    while length:
        part = os.read(descriptor, min(length, 2**20))
        if not part:
            return None
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def write(descriptor: int, *parts: bytes) -> None:
    """Write all bytes.

    Raises:
        BrokenPipeError: the other side closed its end.
    """
    for part in parts:
        left = memoryview(part)
        while left:
            left = left[os.write(descriptor, left) :]


def _return_memory() -> None:
    """Return freed memory to the system; only glibc needs to be asked."""
    if trim := getattr(_LIBC, "malloc_trim", None):
        trim(0)


def _lacked_memory(error: BaseException | None) -> bool:
    """Whether an allocation failed. Pillow raises MemoryError for it, or repeats the words of a C library."""
    while error is not None:
        if isinstance(error, MemoryError) or "memory" in str(error).lower():
            return True
        error = error.__cause__ or error.__context__
    return False


if __name__ == "__main__":
    main(sys.argv[1])
