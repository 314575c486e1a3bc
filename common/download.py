"""Read a file from a folder, a web server or object storage, and never more of it than a limit."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

from common.errors import InvalidInput, NotFound, Unreachable, UserError

BLOCK = 2**20
MOST_S = 1800
"""The longest download."""

Open = Callable[[str], AbstractContextManager[Iterable[bytes]]]


@contextmanager
def by_fsspec(url: str) -> Iterator[Iterable[bytes]]:
    """The blocks of a file; `url` is a path, or what fsspec understands (s3://..., with AWS_... of the environment)."""
    import fsspec

    with fsspec.open(url, "rb") as source:
        yield iter(partial(source.read, BLOCK), b"")


def blocks(url: str, most_bytes: int, open_url: Open = by_fsspec) -> Iterator[bytes]:
    """The content of a file, in blocks.

    Raises:
        NotFound: there is no such file.
        InvalidInput: it has more than `most_bytes`, or takes longer than half an hour.
        Unreachable: it cannot be read for any other reason; each file system has its own errors.
        UserError: what `open_url` raises.
    """
    started, size = time.monotonic(), 0
    try:
        with open_url(url) as source:
            for block in source:
                size += len(block)
                if size > most_bytes:
                    raise InvalidInput(f"{url} has more than {most_bytes} bytes")
                if time.monotonic() - started > MOST_S:
                    raise InvalidInput(f"{url} took more than {MOST_S} seconds")
                yield block
    except UserError:
        raise
    except FileNotFoundError as error:
        raise NotFound(f"{url} does not exist") from error
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        fix = "check the address and the access keys, and try again"
        raise Unreachable(f"{url} cannot be downloaded: {reason}", fix) from error
