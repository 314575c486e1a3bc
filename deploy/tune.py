"""Find the workers, threads and batch size that serve a version best on this machine.

    python -m deploy tune model_store/classroom-1.1.mar

starts a second TorchServe (on free ports, in a temporary folder) for each combination of options, in several rounds of
alternating order. It measures latency with one client and throughput with eight, and counts errors. The profiles are
written to `var/tuned.json` at the end, for SERVE_PROFILE=latency or throughput; if it is interrupted, nothing changes.
The precision stays as in the recipe, and each worker checks the golden photos when it starts.
"""

import json
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click
from rich.table import Table

from common.cli import command
from common.console import console, note, say
from common.errors import CheckFailed, InvalidInput
from deploy.host.locks import server_lock
from deploy.host.processes import interruptible
from deploy.host.var import claim
from deploy.settings import Settings, read_settings, separate_environment
from deploy.store import desired, profile
from deploy.store.desired import ServedVersion
from deploy.store.mar import find_archive, served_version
from deploy.store.profile import CLIENTS, Measurement, ServingOptions
from deploy.torchserve.load import Load, load_of
from deploy.torchserve.probes import WORKER_MB, example, free_mb
from deploy.torchserve.process import Server

BATCHES = ((1, 0), (4, 2), (8, 5))  # requests, milliseconds; tried with the best workers and threads
NEARLY = 0.03  # within this share of the best, the options with fewer workers win: each worker needs memory


@dataclass
class Candidate:
    """Options that are being measured, with the loads of one client and of several, one per round."""

    options: ServingOptions
    alone: list[Load]
    many: list[Load]

    @property
    def errors(self) -> int:
        """Wrong and missing answers of all loads."""
        return sum(load.errors for load in (*self.alone, *self.many))

    @property
    def p50(self) -> float:
        """Milliseconds with one client, median of the rounds."""
        return statistics.median(load.percentile(0.5) for load in self.alone)

    @property
    def rate(self) -> float:
        """Answers per second with several clients, median of the rounds."""
        return statistics.median(load.rate for load in self.many)

    def measurement(self) -> Measurement:
        """The row of the table and of tuned.json."""
        p99 = [statistics.median(load.percentile(0.99) for load in loads) for loads in (self.alone, self.many)]
        return Measurement(
            **asdict(self.options),
            p50_ms=round(self.p50, 2),
            p99_ms=round(p99[0], 2),
            requests_s_at_8=round(self.rate, 1),
            p99_ms_at_8=round(p99[1], 2),
            errors=self.errors,
        )


@command(epilog="Example: python -m deploy tune classroom-1.1.mar --quick")
@click.argument("archive", required=False, type=click.Path(path_type=Path))
@click.option(
    "--rounds", default=5, show_default=True, type=click.IntRange(1), help="Measurements of each combination."
)
@click.option(
    "--seconds",
    default=6.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="Duration of each measurement.",
)
@click.option("--quick", is_flag=True, help="Only check that it works: one round of one second, few combinations.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def tune(archive: Path | None, rounds: int, seconds: float, quick: bool, as_json: bool) -> None:
    """Measure the best options for ARCHIVE (default: the served one) on this machine, for SERVE_PROFILE."""
    settings = read_settings()
    claim(settings.var)
    mar = choose(settings, archive)
    entry = served_version(mar)
    if server_lock(settings.var).owner():
        note("note: a server is running and uses the same cores: for reliable figures, run make down first")
    tuner = Tuner(mar, entry, 1 if quick else rounds, 1.0 if quick else seconds)
    first, second = _measure_all(tuner, quick)
    profiles = choose_profiles(first, second)
    rows = [candidate.measurement() for candidate in (*first, *(one for one in second if one not in first))]
    profile.write(settings, entry, profiles, rows)
    if as_json:
        options = {name: asdict(options) for name, options in profiles.items()}
        say(json.dumps({"profiles": options, "tried": [asdict(row) for row in rows]}))
        return
    console.print(measurements_table(rows))
    for name, chosen in profiles.items():
        say(f"{name}: {chosen}")
    say(f"{settings.var / profile.FILE} is written: make down; make up SERVE_PROFILE=latency (or throughput)")


def choose(settings: Settings, archive: Path | None) -> Path:
    """The given archive, or that of the served default version.

    Raises:
        UserError: it is not in the store, or not exactly one version is the default.
    """
    if archive is not None:
        return find_archive(archive, settings.store).mar
    defaults = [entry for entry in desired.read(settings.var) if entry.default]
    if len(defaults) != 1:
        count = len(defaults) or "no"
        raise InvalidInput(f"{count} models are served here", "name the archive, NAME-VERSION.mar")
    return find_archive(Path(defaults[0].archive), settings.store).mar


def _measure_all(tuner: "Tuner", quick: bool) -> tuple[list[Candidate], list[Candidate]]:
    """Workers and threads first; then batch sizes with those that had the highest throughput."""
    combinations = list(worker_options(profile.cores()))
    first = tuner.measure([combinations[0], combinations[-1]] if quick else combinations)
    busiest = highest_throughput(first)
    if quick:
        return first, [busiest]
    batched = [replace(busiest.options, batch_size=size, max_batch_delay=ms) for size, ms in BATCHES]
    return first, tuner.measure([busiest.options, *(options for options in batched if options != busiest.options)])


def worker_options(cores: int) -> Iterator[ServingOptions]:
    """Workers and threads worth measuring, with no wait for batches.

    At most one thread per core in all, or two workers that share all cores (one decodes while the other computes). On
    a machine with more than four cores, at least half of them must be used.
    """
    counts = sorted({1 << power for power in range(cores.bit_length()) if 1 << power <= cores} | {cores})
    for workers in counts:
        for threads in counts:
            fits = workers * threads <= cores or (workers == 2 and threads == cores)
            if fits and (cores <= 4 or 2 * workers * threads >= cores):
                yield ServingOptions(workers, threads, min(threads, 2))


def choose_profiles(first: Sequence[Candidate], second: Sequence[Candidate]) -> dict[str, ServingOptions]:
    """Choose the profiles. Only candidates of the same rounds are compared, because the machine's speed drifts.

    Args:
        first: workers and threads.
        second: those of them with the highest throughput, with several batch sizes. If they have the lowest latency as
            well, one of the batch sizes may have a lower one.
    """
    best = lowest_latency(first)
    latency = lowest_latency(second) if best.options == highest_throughput(first).options else best
    return {"latency": latency.options, "throughput": highest_throughput(second).options}


def lowest_latency(candidates: Sequence[Candidate]) -> Candidate:
    """The lowest latency with one client; among nearly equal ones, the fewest workers."""
    valid = _without_errors(candidates)
    limit = min(candidate.p50 for candidate in valid) * (1 + NEARLY)
    nearly = (candidate for candidate in valid if candidate.p50 <= limit)
    return min(nearly, key=lambda candidate: (candidate.options.workers, candidate.p50))


def highest_throughput(candidates: Sequence[Candidate]) -> Candidate:
    """The highest throughput; among nearly equal ones, the fewest workers and the smallest batch."""
    valid = _without_errors(candidates)
    limit = max(candidate.rate for candidate in valid) * (1 - NEARLY)
    nearly = (candidate for candidate in valid if candidate.rate >= limit)
    return min(nearly, key=lambda candidate: (candidate.options.workers, candidate.options.batch_size, -candidate.rate))


def _without_errors(candidates: Sequence[Candidate]) -> list[Candidate]:
    valid = [candidate for candidate in candidates if not candidate.errors]
    if not valid:
        raise CheckFailed("all options had wrong or missing answers", "see why with python -m deploy rollout")
    return valid


class Tuner:
    """Measures options of one version.

    Args:
        seconds: the duration of each measurement.
    """

    def __init__(self, mar: Path, entry: ServedVersion, rounds: int, seconds: float) -> None:
        self.mar, self.entry, self.rounds, self.seconds = mar, entry, rounds, seconds
        question = example(mar)
        self.load = load_of(f"{entry.name}/{entry.version}", question.body, question.golden.label)

    def measure(self, options: Sequence[ServingOptions]) -> list[Candidate]:
        """Measure all options that fit into memory in every round, in alternating order."""
        fitting = [option for option in options if option.workers == 1 or option.workers * WORKER_MB < free_mb()]
        candidates = [Candidate(option, [], []) for option in fitting]
        for number in range(self.rounds):
            for candidate in candidates if number % 2 == 0 else reversed(candidates):
                note(f"round {number + 1} of {self.rounds}: {candidate.options} ...")
                self._measure_once(candidate)
        return candidates

    def _measure_once(self, candidate: Candidate) -> None:
        with tempfile.TemporaryDirectory(prefix="tune-") as folder:
            environment = separate_environment(Path(folder) / "var", self.mar.parent)
            settings = read_settings({**environment, "SERVE_PROFILE": "latency"})
            claim(settings.var)
            profile.write(settings, self.entry, {"latency": candidate.options})
            with interruptible(), Server(settings) as server:
                server.client.register(self.entry.archive, self.entry.name, candidate.options)
                self.load(settings, CLIENTS, min(self.seconds, 1.0))  # so that every worker has answered once
                candidate.alone.append(self.load(settings, 1, self.seconds))
                candidate.many.append(self.load(settings, CLIENTS, self.seconds))


def measurements_table(rows: Sequence[Measurement]) -> Table:
    """One row per combination of options; headers wrap, so that nothing is cut in 80 columns."""
    alone, many = "1 client", f"{CLIENTS} clients"
    headers = ["workers", "threads", "batch", "delay\nms", f"{alone}\np50 ms", f"{alone}\np99 ms"]
    table = Table(box=None, padding=(0, 1), pad_edge=False, collapse_padding=False)
    for header in (*headers, f"{many}\nreq/s", f"{many}\np99 ms", "errors"):
        table.add_column(header, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*(str(value) for value in asdict(row).values()))
    return table
