"""Send good requests between thousands of broken ones, and check every answer.

    python -m benchmarks.fuzz [--requests 20000] [--seed 1] [--start 0] [--model classroom]

Needs a running server (`make up`). Every fourth request is good: golden photos of the model in one of the documented
forms, whose labels and probabilities must be right. The others have mutated photos, JSON, forms, headers and request
lines. A request is made from the seed and its number alone, so `--start NUMBER --requests 1`
repeats it, and `--start` goes on after an interruption (Ctrl-C prints what was found until then).

Exits 1 if a good photo was answered wrongly, an answer was none that docs/api.md documents, the memory of the workers
grew by more than 64 MB after the first fifth, or a temporary file was left. Prints Markdown, and one JSON line last;
writes benchmarks/results/fuzz.json.
"""

import contextlib
import http.client
import json
import os
import socket
import time
import urllib.parse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import click
import psutil
from rich.console import Console
from rich.progress import Progress

from benchmarks.fuzz.findings import Findings, summary, table
from benchmarks.fuzz.generate import Generator, Sent
from benchmarks.harness.commands import RESULTS
from common.cli import command
from common.errors import CheckFailed, UserError
from common.files import write_json
from deploy.host.processes import group_of_server, java_of
from deploy.settings import ROOT, Settings, read_settings
from deploy.torchserve.keys import read_key

BUNDLE = ROOT / "models" / "classroom"
CLIENTS = 4
TIMEOUT_S = 90.0
SAMPLE_EVERY = 50


@command(epilog="Example: python -m benchmarks.fuzz --requests 1000 --seed 2")
@click.option("--requests", default=20_000, show_default=True, type=click.IntRange(1), help="Number of requests.")
@click.option("--seed", default=1, show_default=True, help="Other seeds give other requests.")
@click.option("--start", default=0, show_default=True, type=click.IntRange(0), help="Number of the first request.")
@click.option("--model", default="classroom", show_default=True, help="Name of the served model.")
@click.option(
    "--bundle",
    default=BUNDLE,
    show_default=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Bundle of that model, for its golden photos.",
)
@click.option("--out", default=RESULTS, type=click.Path(file_okay=False, path_type=Path), help="Folder of the results.")
def main(requests: int, seed: int, start: int, model: str, bundle: Path, out: Path) -> None:
    """Send good and broken requests to the running server, and check every answer."""
    fuzzer = Fuzzer(read_settings(os.environ), model, Generator(bundle, seed))
    with Progress(console=Console(stderr=True)) as progress:
        numbers = progress.track(range(start, start + requests), description="requests")
        report = {"benchmark": "fuzz", "seed": seed, "start": start, **fuzzer.run(iter(numbers))}
    write_json(out / "fuzz.json", report)
    click.echo(table(report))
    click.echo(json.dumps(report))
    if report["broken"]:
        raise CheckFailed("; ".join(report["broken"]))


class Fuzzer:
    """Sends requests to a running server on this machine.

    Raises:
        UserError: no server runs with these settings.
    """

    def __init__(self, settings: Settings, model: str, generator: Generator) -> None:
        parts = urllib.parse.urlsplit(settings.url("inference"))
        self.address = (parts.hostname or "127.0.0.1", parts.port or 80)
        self.path, self.generator = f"/predictions/{model}", generator
        group = group_of_server(settings.var)
        java = java_of(group) if group else None
        if java is None:
            raise UserError(f"no server runs with {settings.var}", "start one with make up")
        self.java, self.token = java, read_key(settings.var, "inference")
        words = [word.partition("=")[2] for word in java.cmdline() if word.startswith("-Djava.io.tmpdir=")]
        self.temporary = Path(words[0])

    def run(self, numbers: Iterator[int]) -> dict[str, Any]:
        """Send the requests with these numbers; an interruption ends it early.

        Returns:
            the report; `broken` lists what must not happen.
        """
        found, before, interrupted = Findings(), self._files(), False
        with ThreadPoolExecutor(CLIENTS) as pool:
            try:
                while batch := list(islice(numbers, SAMPLE_EVERY)):
                    for answer in pool.map(self._ask, batch):
                        found.add(*answer)
                    found.memory.append(self._worker_mb())
            except KeyboardInterrupt:
                interrupted = True
        return {"interrupted": interrupted, **summary(found, sorted(self._files() - before))}

    def _ask(self, number: int) -> tuple[int, Sent, int, bytes, float]:
        sent, began = self.generator.request(number), time.perf_counter()
        status, content = self._send(sent)
        return number, sent, status, content, time.perf_counter() - began

    def _send(self, sent: Sent) -> tuple[int, bytes]:
        """Status and body of the answer; status 0 and the reason if none came."""
        try:
            with socket.create_connection(self.address, timeout=TIMEOUT_S) as connection:
                with contextlib.suppress(ConnectionError):  # the server may have answered and hung up already
                    connection.sendall(self._head(sent) + _body(sent))
                answer = http.client.HTTPResponse(connection, method=sent.method)
                answer.begin()
                return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            return 0, f"{type(error).__name__}: {error}".encode()

    def _head(self, sent: Sent) -> bytes:
        length = ("Transfer-Encoding", "chunked") if sent.chunked else ("Content-Length", str(len(sent.body)))
        headers = [("Host", "localhost"), ("Authorization", f"Bearer {self.token}"), ("Connection", "close"), length]
        lines = [f"{name}: {value}\r\n" for name, value in (*headers, *sent.headers)]
        path = self.path if sent.path is None else sent.path
        return f"{sent.method} {path} HTTP/1.1\r\n{''.join(lines)}\r\n".encode()

    def _worker_mb(self) -> float:
        total = 0
        for process in self.java.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
        return total / 1e6

    def _files(self) -> set[str]:
        """Files in TorchServe's temporary folder, without those of unpacked archives."""
        return {path.name for path in self.temporary.iterdir()}


def _body(sent: Sent) -> bytes:
    if not sent.chunked:
        return sent.body
    pieces = [sent.body[at : at + 8192] for at in range(0, len(sent.body), 8192)]
    return b"".join(f"{len(piece):x}\r\n".encode() + piece + b"\r\n" for piece in pieces) + b"0\r\n\r\n"


if __name__ == "__main__":
    main()
