"""A running `traffic canary`, and what it printed."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, NamedTuple

from deploy.settings import ROOT
from tests.helpers.running.forked import Forked, start_forked


class Canary(NamedTuple):
    """The process, and the file of its output."""

    process: Forked
    file: IO[str]

    def end(self, seconds: float = 240) -> tuple[int, str]:
        """Wait for its end; its exit code and its output."""
        code = self.process.wait(seconds)
        self.file.seek(0)
        return code, self.file.read()


@contextmanager
def running_canary(environment: Mapping[str, str], archive: str, *options: str) -> Iterator[Canary]:
    """Start it; it is killed at the end of the block."""
    words = ["traffic", "canary", archive, *options]
    with (
        tempfile.TemporaryFile("w+") as file,
        start_forked(words, ROOT, environment, file.fileno(), file.fileno()) as process,
    ):
        try:
            yield Canary(process, file)
        finally:
            process.kill()
