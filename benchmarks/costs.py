"""Send small files that cost much to decode, and measure what they cost the server and its other clients.

    python -m benchmarks.costs                                    # all files, one at a time, and 16 in a list
    python -m benchmarks.costs --root ../before --out before.json # the same for the code of another folder
    python -m benchmarks.costs --search 500                       # also 500 random files of the same kinds

For each file another process sends golden photos at a constant rate, and meanwhile the file is sent again and again,
one request at a time, for some seconds. Printed are the longest answer, the peak of the memory that the worker and its
decoders took beyond what they had before, and the latencies that the other clients saw. The server's patience is not
restored between files (handler/budget.py), so the first file that is stopped takes longest. Prints Markdown, and one
JSON line last.
"""

import base64
import json
import random
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import psutil
from PIL import Image

from benchmarks.harness import costly
from benchmarks.harness.commands import run_command, sleep_until
from benchmarks.harness.server import ServedModel, question
from common.cli import command
from common.errors import UserError
from common.files import write_json
from deploy.clients.load import Load, Result
from deploy.settings import ROOT, separate_environment
from handler import goldens

BUNDLE = ROOT / "models" / "classroom"
NAME = "classroom"
LIST = 16
LARGEST_LIST = 700_000  # bytes of a file that is sent 16 times in a request
LARGEST = 10 * 2**20
POLL_S = 0.02
REPORTED = 10  # costliest files of the search


@dataclass(frozen=True)
class Cost:
    """What a file cost.

    Attributes:
        bytes: of one file.
        answer: status and error code of the last answer.
        seconds: longest answer; sent: number of requests.
        extra_mb: peak memory of worker and decoders beyond what they had before.
        worker_ended: whether the worker was another one afterwards.
    """

    file: str
    bytes: int
    answer: str
    seconds: float
    sent: int
    extra_mb: int
    worker_ended: bool
    others: int
    others_p50_ms: float
    others_p99_ms: float
    others_failed: int


@command(epilog="Example: python -m benchmarks.costs --only 'PNG|AVIF' --seconds 5")
@click.option(
    "--root", default=ROOT, type=click.Path(exists=True, file_okay=False, path_type=Path), help="Code to run."
)
@click.option("--only", default="", help="Only files whose name this regular expression finds.")
@click.option("--seconds", default=8.0, show_default=True, help="How long each file is sent.")
@click.option("--rate", default=20.0, show_default=True, help="Requests per second of the other clients.")
@click.option("--workers", default=1, show_default=True, help="Workers of the model; memory is that of the first.")
@click.option("--search", default=0, show_default=True, help="Number of random files.")
@click.option("--seed", default=1, show_default=True, help="Of the random files.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures here, too.")
def main(
    root: Path, only: str, seconds: float, rate: float, workers: int, search: int, seed: int, out: Path | None
) -> None:
    """Measure what costly files cost the server and its other clients."""
    with tempfile.TemporaryDirectory() as work, served(Path(work), root, workers) as server:
        alone = load_during(server, rate, lambda: time.sleep(seconds))
        click.echo(f"Others alone: p50 {alone.percentile(0.5):.0f} ms, p99 {alone.percentile(0.99):.0f} ms\n\n{HEAD}")
        rows = []
        for name, make in {**costly.FILES, "for comparison: a sound JPEG": sound}.items():
            data = make() if re.search(only, name) else b""
            for count in (1, LIST) if 0 < len(data) <= LARGEST_LIST else (1,) if data else ():
                rows.append(
                    measure(server, name if count == 1 else f"{name}; {count} in a list", data, count, seconds, rate)
                )
                click.echo(line(rows[-1]))
        found = costliest(server, search, seed) if search else []
    for seconds_, extra, name in found:
        click.echo(f"{seconds_:.2f} s, {extra} MB: {name}")
    report = {
        "benchmark": "costs",
        "workers": workers,
        "alone": {"p50_ms": round(alone.percentile(0.5), 1), "p99_ms": round(alone.percentile(0.99), 1)},
        "files": [asdict(row) for row in rows],
        "search": {"files": search, "seed": seed, "costliest": found},
    }
    if out:
        write_json(out, report)
    click.echo(json.dumps(report))


@contextmanager
def served(work: Path, root: Path, workers: int) -> Iterator[ServedModel]:
    """A supervised server with the code in `root`."""
    golden = goldens.read(BUNDLE)[0]
    environment = separate_environment(work / "var", work / "store")
    server = ServedModel(environment, NAME, question((BUNDLE / golden.photo).read_bytes()))
    run_command("deploy", "up", "--bundle", "models/classroom", environment=environment, root=root)
    try:
        server.client.scale(NAME, "1.0", workers)
        yield server
    finally:
        run_command("deploy", "down", "--now", environment=environment, root=root)


def measure(server: ServedModel, name: str, data: bytes, count: int, seconds: float, rate: float) -> Cost:
    """Send a file for some seconds, alone or several times in a list."""
    sent = Sender(server, data, count)
    before = worker(server)
    with memory_peak(before) as peak:
        others = load_during(server, rate, lambda: sent.send_for(seconds))
    return Cost(
        file=name,
        bytes=len(data),
        answer=sent.answer,
        seconds=round(max(sent.spent), 2),
        sent=len(sent.spent),
        extra_mb=peak[0],
        worker_ended=worker(server).pid != before.pid,
        others=others.sent,
        others_p50_ms=round(others.percentile(0.5), 1),
        others_p99_ms=round(others.percentile(0.99), 1),
        others_failed=others.failed + others.unanswered + others.lost + others.wrong,
    )


class Sender:
    """Sends one file again and again."""

    def __init__(self, server: ServedModel, data: bytes, count: int) -> None:
        photo = {"image_base64": base64.b64encode(data).decode()}
        self._server, self._body = server, photo if count == 1 else [photo] * count
        self.spent: list[float] = []
        self.answer = ""

    def send_for(self, seconds: float) -> None:
        """Send at least once."""
        end = time.monotonic() + seconds
        while not self.spent or time.monotonic() < end:
            self.send()

    def send(self) -> None:
        """Send once; a connection that breaks is an answer, too."""
        begun = time.monotonic()
        try:
            answer = self._server.client.ask("inference", "POST", f"/predictions/{NAME}", json=self._body)
            self.answer = f"{answer.status_code} {_code(answer.json())}".strip()
        except (UserError, ValueError) as error:
            self.answer = type(error).__name__
        self.spent.append(time.monotonic() - begun)


def _code(content: Any) -> str:
    """The first error code of an answer."""
    entries = content if isinstance(content, list) else [content]
    return next((str(entry["error"]["code"]) for entry in entries if isinstance(entry.get("error"), dict)), "")


def load_during(server: ServedModel, rate: float, work: Callable[[], object]) -> Result:
    """Send golden photos at a constant rate while `work` runs."""
    url = f"{server.settings.url('inference')}/predictions/{NAME}"
    with Load(url, server.var, server.body, rate, expected=goldens.read(BUNDLE)[0].label) as load:
        sleep_until(load.begun + 0.5)
        work()
        return load.stop()


def worker(server: ServedModel) -> psutil.Process:
    """The worker; waits for the next one if it has just ended."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            if server.client.ready(NAME, "1.0"):
                return psutil.Process(int(server.client.manage("GET", f"/models/{NAME}")[0]["workers"][0]["pid"]))
        except (UserError, psutil.Error, ValueError):
            pass
        time.sleep(POLL_S)
    raise UserError("no worker is ready")


@contextmanager
def memory_peak(process: psutil.Process) -> Iterator[list[int]]:
    """In the list's only place: by how many megabytes a process and its children grew while the block ran, at most."""
    before, peak, done = _resident(process), [0], threading.Event()

    def watch() -> None:
        while not done.wait(POLL_S):
            peak[0] = max(peak[0], round((_resident(process) - before) / 1e6))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def _resident(process: psutil.Process) -> int:
    total = 0
    try:
        for each in (process, *process.children()):
            total += each.memory_info().rss
    except psutil.Error:  # it has just ended
        pass
    return total


def costliest(server: ServedModel, number: int, seed: int) -> list[tuple[float, int, str]]:
    """Send random files, each once; seconds, extra megabytes and name of those that cost most."""
    chance, found = random.Random(seed), []
    for _ in range(number):
        name, make = random_file(chance)
        data = make()
        if len(data) > LARGEST:
            continue
        sender = Sender(server, data, 1)
        with memory_peak(worker(server)) as peak:
            sender.send()
        found.append((round(sender.spent[0], 2), peak[0], f"{name}, {len(data)} bytes: {sender.answer}"))
    return sorted(found, reverse=True)[:REPORTED]


def sound() -> bytes:
    """A photo of 12 megapixels and 8 MB."""
    return costly.encoded(Image.effect_noise((4000, 3000), 60).convert("RGB"), "JPEG", quality=88)


def random_file(chance: random.Random) -> tuple[str, Callable[[], bytes]]:
    """One kind of `costly` with random sizes and counts."""

    def size(low: int, high: int) -> int:
        return int(low * (high / low) ** chance.random())

    width, height = size(8, 100_000), size(8, 100_000)
    width = min(width, 60_000_000 // height)
    side, count = min(16_000, size(8, 20_000)), size(10, 2_000_000)
    form, mode = chance.choice(["WEBP", "JPEG2000", "AVIF", "TIFF", "BMP"]), chance.choice(["RGB", "RGBA", "L"])
    return chance.choice(
        [
            (f"BMP of line ends {width} x {height}", lambda: costly.bmp_of_line_ends(width, height)),
            (f"TIFF {side} square, {count} strips", lambda: costly.tiff_of_one_strip(count, min(side, 3000))),
            (f"TIFF of tiles, {side} square", lambda: costly.tiff_of_tiny_tiles(min(side, 1100))),
            (f"TIFF in a tile, {side} square", lambda: costly.tiff_of_one_huge_tile(side)),
            (f"JPEG, {count} EXIF segments", lambda: costly.jpeg_of_exif(min(count, 500_000))),
            (f"JPEG, {count} comments", lambda: costly.jpeg_of_comments(count)),
            (
                f"JPEG {side} square, {count % 110} scans",
                lambda: costly.jpeg_of_scans(side, count % 110, count % 2 == 0),
            ),
            (f"PNG {width} x {height}, type {count % 4}", lambda: costly.png(width, height, (0, 2, 6, 2)[count % 4])),
            (f"PNG, {count} chunks", lambda: costly.png_of_chunks(min(count, 850_000))),
            (f"{form} {mode} {side} square", lambda: costly.flat(form, min(side, 7000), min(side, 7000), mode)),
        ]
    )


HEAD = (
    "| file | bytes | answer | seconds | sent | extra MB | worker ended | others, p50 ms | p99 ms | failed |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)


def line(row: Cost) -> str:
    """A row of Markdown."""
    ended = "yes" if row.worker_ended else "no"
    return (
        f"| {row.file} | {row.bytes:,} | {row.answer} | {row.seconds} | {row.sent} | {row.extra_mb:,} | {ended} "
        f"| {row.others_p50_ms} | {row.others_p99_ms} | {row.others_failed} of {row.others} |"
    )


if __name__ == "__main__":
    main()
