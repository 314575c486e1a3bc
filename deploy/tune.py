"""Find how a version is served best on this machine: workers, threads, batches.

    python -m deploy tune model_store/classroom-1.1.mar

starts a TorchServe of its own (own ports, own folder) for each setting, several rounds in alternating order; asks by
one client for latency, by eight for throughput; counts errors. What it finds goes to `var/tuned.json` at the end, for
SERVE_PROFILE=latency or throughput; interrupted, it has changed nothing. Precision stays the recipe's, and each worker
checks its golden answers when it starts.
"""

import json
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from common.cli import command
from common.errors import UserError
from deploy.host.locks import server_lock
from deploy.host.processes import interruptible
from deploy.host.var import claim
from deploy.settings import Settings, own_environment, read_settings
from deploy.store import desired, profile
from deploy.store.desired import ServedVersion
from deploy.store.mar import find_archive, served_version
from deploy.store.profile import ServingOptions
from deploy.torchserve.load import Load, ask_for
from deploy.torchserve.probes import WORKER_MB, example, free_mb
from deploy.torchserve.process import Server

CLIENTS = 8
BATCHES = ((1, 0), (4, 2), (8, 5))  # requests, milliseconds; tried on the best of the rest
NEARLY = 0.03  # as good as the best: then the one with fewer workers, each of which holds its memory


@dataclass
class Tried:
    """One setting, and a load of one client and one of several for each round."""

    how: ServingOptions
    alone: list[Load]
    many: list[Load]

    @property
    def errors(self) -> int:
        return sum(load.errors for load in (*self.alone, *self.many))

    @property
    def p50(self) -> float:
        """Milliseconds at one client, median of the rounds."""
        return statistics.median(load.percentile(0.5) for load in self.alone)

    @property
    def rate(self) -> float:
        """Answers a second at several clients, median of the rounds."""
        return statistics.median(load.rate for load in self.many)

    def row(self) -> dict[str, Any]:
        """What the table and tuned.json say."""
        p99 = [statistics.median(load.percentile(0.99) for load in loads) for loads in (self.alone, self.many)]
        return {
            **asdict(self.how),
            "p50_ms": round(self.p50, 2),
            "p99_ms": round(p99[0], 2),
            f"requests_s_at_{CLIENTS}": round(self.rate, 1),
            f"p99_ms_at_{CLIENTS}": round(p99[1], 2),
            "errors": self.errors,
        }


@command(epilog="Example: python -m deploy tune classroom-1.1.mar --quick")
@click.argument("archive", required=False, type=click.Path(path_type=Path))
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1), help="Of all settings, in turn.")
@click.option("--seconds", default=6.0, show_default=True, type=click.FloatRange(0, min_open=True), help="Of one load.")
@click.option("--quick", is_flag=True, help="One round of one second, two settings: to see that it works.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def tune(archive: Path | None, rounds: int, seconds: float, quick: bool, as_json: bool) -> None:
    """Measure how ARCHIVE (default: what is served) is served best here, for SERVE_PROFILE."""
    settings = read_settings()
    claim(settings.var)
    mar = choose(settings, archive)
    entry = served_version(mar)
    if server_lock(settings.var).owner():
        click.echo("note: a server is running and shares the cores: make down first for honest figures", err=True)
    tuner = Tuner(mar, entry, 1 if quick else rounds, 1.0 if quick else seconds)
    plain = list(_plain(profile.cores()))
    first = tuner.measure([plain[0], plain[-1]] if quick else plain)
    busiest = most(first).how
    batched = [replace(busiest, batch_size=size, max_batch_delay=ms) for size, ms in BATCHES[: 1 if quick else None]]
    second = tuner.measure([busiest, *(how for how in batched if how != busiest)])
    profiles = chosen(first, second)
    rows = [tried.row() for tried in (*first, *second)]
    profile.write(settings, entry, profiles, rows)
    if as_json:
        click.echo(json.dumps({"profiles": {name: asdict(how) for name, how in profiles.items()}, "tried": rows}))
    else:
        Console().print(_table(rows))
        for name, how in profiles.items():
            click.echo(f"{name}: {how}")
        click.echo(
            f"{settings.var / profile.FILE} is written: make down; make up SERVE_PROFILE=latency (or throughput)"
        )


def choose(settings: Settings, archive: Path | None) -> Path:
    """The archive that was named, or the default that is served.

    Raises:
        UserError: it is not in the store, or nothing is served.
    """
    if archive is not None:
        return find_archive(archive, settings.store).mar
    defaults = [entry for entry in desired.read(settings.var) if entry.default]
    if len(defaults) != 1:
        raise UserError("nothing, or more than one name, is served here: name the archive, NAME-VERSION.mar")
    return find_archive(Path(defaults[0].archive), settings.store).mar


def _plain(cores: int) -> Iterator[ServingOptions]:
    """Workers and threads worth trying, without waiting for batches: no more threads in all than cores, or two workers
    that share all cores (one decodes while the other computes); of large machines at least half must be used."""
    counts = sorted({1 << power for power in range(cores.bit_length()) if 1 << power <= cores} | {cores})
    for workers in counts:
        for threads in counts:
            fits = workers * threads <= cores or (workers == 2 and threads == cores)
            if fits and (cores <= 4 or 2 * workers * threads >= cores):
                yield ServingOptions(workers, threads, min(threads, 2))


def chosen(first: Sequence[Tried], second: Sequence[Tried]) -> dict[str, ServingOptions]:
    """The profiles. Only what was measured in the same rounds is compared: the machine's speed drifts.

    Args:
        first: workers and threads.
        second: the busiest of them in batches of several sizes, alone too: where it is also the fastest, one of these
            may be faster yet.
    """
    best = fastest(first)
    latency = fastest(second) if best.how == most(first).how else best
    return {"latency": latency.how, "throughput": most(second).how}


def fastest(tried: Sequence[Tried]) -> Tried:
    """The lowest latency at one client; of nearly equal ones that with the fewest workers."""
    sound = _sound(tried)
    limit = min(each.p50 for each in sound) * (1 + NEARLY)
    return min((each for each in sound if each.p50 <= limit), key=lambda each: (each.how.workers, each.p50))


def most(tried: Sequence[Tried]) -> Tried:
    """The highest throughput; of nearly equal ones that with the fewest workers and the smallest batch."""
    sound = _sound(tried)
    limit = max(each.rate for each in sound) * (1 - NEARLY)
    able = (each for each in sound if each.rate >= limit)
    return min(able, key=lambda each: (each.how.workers, each.how.batch_size, -each.rate))


def _sound(tried: Sequence[Tried]) -> list[Tried]:
    sound = [each for each in tried if not each.errors]
    if not sound:
        raise UserError("every setting had wrong or missing answers: python -m deploy rollout says why")
    return sound


class Tuner:
    """Measures settings of one version."""

    def __init__(self, mar: Path, entry: ServedVersion, rounds: int, seconds: float) -> None:
        self.mar, self.entry, self.rounds, self.seconds = mar, entry, rounds, seconds
        question = example(mar)
        self.ask = ask_for(f"{entry.name}/{entry.version}", question.body, question.golden.label)

    def measure(self, settings: Sequence[ServingOptions]) -> list[Tried]:
        """Every setting in each round, forwards and backwards in turn."""
        able = [how for how in settings if how.workers == 1 or how.workers * WORKER_MB < free_mb()]
        found = [Tried(how, [], []) for how in able]
        for number in range(self.rounds):
            for tried in found if number % 2 == 0 else reversed(found):
                click.echo(f"round {number + 1} of {self.rounds}: {tried.how} ...", err=True)
                self._once(tried)
        return found

    def _once(self, tried: Tried) -> None:
        with tempfile.TemporaryDirectory(prefix="tune-") as folder:
            environment = own_environment(Path(folder) / "var", self.mar.parent)
            settings = read_settings({**environment, "SERVE_PROFILE": "latency"})
            claim(settings.var)
            profile.write(settings, self.entry, {"latency": tried.how})
            with interruptible(), Server(settings) as server:
                server.client.register(self.entry.archive, self.entry.name, tried.how)
                self.ask(settings, CLIENTS, min(self.seconds, 1.0))  # every worker has answered before
                tried.alone.append(self.ask(settings, 1, self.seconds))
                tried.many.append(self.ask(settings, CLIENTS, self.seconds))


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    several = f"{CLIENTS} clients:"
    alone = ("1 client: p50 ms", "p99 ms")
    table = Table("workers", "threads", "batch", "wait ms", *alone, f"{several} req/s", "p99 ms", "errors")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    return table
