"""Give a new version a growing share of the requests, and stop it if it answers worse.

    python -m traffic canary model_store/classroom-1.2.mar --steps 1,5,25,100 --deadline 24h

The version is registered and proven as by a rollout. Then both versions are asked some photos of clients, who get the
answers of the serving one (traffic/shadow). Then each step gives it its share of the keys, until
traffic/verdict.py says go (the next step), or stop (the share is 0 at once, the version is retired, exit 1). At 100 it
becomes the default. At the deadline without a decision the version is retired and nothing has changed: exit 2. The same
command continues a canary that was killed.
"""

import contextlib
import re
import statistics
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from pathlib import Path

import click

from common.cli import command
from common.console import note, say
from common.errors import Busy, InvalidInput, NotFound
from deploy.change.session import Refused
from deploy.host.locks import LockHeld, OwnerKind
from deploy.retire import take_out
from deploy.rollout import add_candidate, promote_candidate
from deploy.settings import Settings, read_settings
from deploy.store import desired
from deploy.store.mar import Archive, find_archive
from handler.errors import CODES
from traffic import record
from traffic.front import route
from traffic.front.nginx import Nginx
from traffic.front.nodes import nodes
from traffic.front.route import Route
from traffic.observed import Observer
from traffic.record import ENDED, Record, State
from traffic.shadow import pairs
from traffic.shadow.pairs import Pairs
from traffic.verdict import PAIRED_RATIO, Decision, Verdict, judge, minimum

LOOK_S = 0.5
"""Seconds between two looks: the share of a candidate that must be stopped ends so much later, plus one look."""
MEASURED = 100
"""Requests before the first share, from which the edge of slow requests is taken."""
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_CLIENT_CODES = tuple(code for code, status in CODES.items() if status < HTTPStatus.INTERNAL_SERVER_ERROR)


class Expired(Refused):
    """The deadline came before a decision."""


@command(epilog="Example: python -m traffic canary classroom-1.2.mar --steps 1,5,25,100 --deadline 24h")
@click.argument("archive", type=click.Path(path_type=Path))
@click.option("--steps", default="1,5,25,100", show_default=True, help="Shares in percent; 100 makes it the default.")
@click.option(
    "--shadow",
    default=10,
    show_default=True,
    type=click.IntRange(0, 100),
    help="Percent of the requests that both versions are asked before the first share; 0: none.",
)
@click.option("--deadline", default="24h", show_default=True, help="When to give up without a decision: 30m, 24h, 7d.")
@click.option("--requests", type=click.IntRange(1), help="Requests of it that each step needs.  [default: 300, 1000]")
@click.option("--why", default="canary", help="The reason, for the history.")
@click.pass_context
def canary(
    ctx: click.Context, archive: Path, steps: str, shadow: int, deadline: str, requests: int | None, why: str
) -> None:
    """Give ARCHIVE of the store a growing share of the requests through the front."""
    settings = read_settings()
    new = find_archive(archive, settings.store)
    if Nginx(settings.var).master() is None:
        raise NotFound("the front does not run", "install nginx and run make up; the canary needs its routing")
    needed = (lambda share: requests) if requests else minimum
    try:
        with record.lock(settings.var, new.name).hold(OwnerKind.ROLLOUT, str(new)):
            Canary(settings, new, percentages(steps), seconds(deadline), needed, why, shadow).run()
    except LockHeld as error:
        raise Busy(error.problem, "see python -m traffic status") from error
    except Expired as error:
        say(error.message)
        ctx.exit(2)


class Canary:
    """The canary of one version."""

    def __init__(
        self,
        settings: Settings,
        new: Archive,
        steps: tuple[float, ...],
        deadline_s: float,
        needed: Callable[[float], int],
        why: str,
        shadow: int = 0,
    ) -> None:
        self.settings, self.new, self.steps, self.needed, self.why = settings, new, steps, needed, why
        self.var, self.shadow = settings.var, shadow
        found = record.read(self.var, new.name)
        if found and found.state not in ENDED and found.version != new.version:
            raise Busy(f"a canary of {found.name} {found.version} has not ended", "python -m traffic stop --why ...")
        fresh = Record(new.name, new.version, new.mar.name, ends=time.time() + deadline_s)
        self.record = fresh if found is None or found.state in ENDED else found

    def run(self) -> None:
        """All states, from the one in which it is.

        Raises:
            Refused: the candidate was stopped, and retired.
            Expired: the deadline came first, and it was retired.
        """
        if self.record.state is State.PROMOTING:
            self._promote()
            return
        if self.record.state is State.STOPPING:
            self._end(self.record.why)
        self._prove()
        following = self._route()
        observer = Observer(
            self.settings.var / "logs",
            [node.var / "logs" for node in nodes(self.settings)],
            following,
            self.record.steps,
        )
        with contextlib.closing(observer):
            self._measure(observer)
            self._compare(observer, following)
            for percent in (step for step in following.steps if max(self.record.percent, 0.1) <= step < 100):
                self._share(observer, following, percent)
        if following.steps[-1] == 100 and self.record.state is not State.PROMOTED:
            self._promote()
        else:
            say(f"{self.new} keeps {self.record.percent:g} %: python -m traffic promote, or stop")

    def _prove(self) -> None:
        listed = desired.find(desired.read(self.var), self.new.name, self.new.version)
        if listed and self.record.state is State.PROVING and listed.default:
            raise Refused(f"{self.new} is the default already", "pack a higher version")
        if listed is None:
            self._set(state=State.PROVING)
            add_candidate(self.settings, self.new.mar, why=self.why)

    def _route(self) -> Route:
        found = route.read(self.var, self.new.name)
        if found is None or found.version != self.new.version:
            if self.record.state not in (State.PROVING, State.MEASURING, State.SHADOWING):
                self._end("it was stopped")
            found = route.begin(self.var, self.new.name, self.new.version, self.steps)
        return found

    def _measure(self, observer: Observer) -> None:
        """Take the edge of slow requests from those before the first share."""
        if not self.record.edge:
            self._set(state=State.MEASURING, why=f"waiting for {MEASURED} requests without a candidate")
            note(self.record.why)
        while not self.record.edge:
            self._look(observer)
            if len(observer.seconds) >= MEASURED:
                self._set(edge=edge_of(observer.seconds))
        observer.edge = self.record.edge

    def _compare(self, observer: Observer, following: Route) -> None:
        """Ask both versions some photos of clients, before the first client sees the candidate's answers."""
        if not self.shadow or self.record.percent:
            return None
        route.set_share(self.var, following, 0, self.shadow)
        self._set(state=State.SHADOWING)
        note(f"shadow of {self.shadow} % of the requests")
        while True:
            self._look(observer)
            verdict = judge((), self._pairs(following) or Pairs(), self.needed, _CLIENT_CODES)
            if self._goes_on(verdict):
                route.set_share(self.var, following, 0)
                return note(f"  {verdict.why}")

    def _pairs(self, following: Route) -> Pairs | None:
        """What the shadow counted; None: nothing."""
        tally = pairs.read(self.var, self.new.name, following.salt)
        self.record = self.record.changed(shadow=tally.figures())
        return tally.pairs() if tally.answered else None

    def _share(self, observer: Observer, following: Route, percent: float) -> None:
        route.set_share(self.var, following, percent)
        self._set(state=State.SHARING, percent=percent)
        note(f"{percent:g} %")
        while True:
            self._look(observer)
            steps = sorted((s for s in observer.steps if s.share <= percent / 100), key=lambda step: step.share)
            if not any(step.share == percent / 100 for step in steps):
                continue  # no request yet
            verdict = judge(steps, self._pairs(following), self.needed, _CLIENT_CODES)
            if self._goes_on(verdict):
                return note(f"  {verdict.why}")

    def _look(self, observer: Observer) -> None:
        """Wait, read what was logged, and notice the end: by `traffic stop`, or by the deadline."""
        time.sleep(LOOK_S)
        observer.read()
        if route.read(self.var, self.new.name) is None:
            stopped = record.read(self.var, self.new.name)
            self._end(stopped.why if stopped else "it was stopped")
        if time.time() > self.record.ends:
            self._end(f"no decision before the deadline: {self.record.why}", State.EXPIRED)

    def _goes_on(self, verdict: Verdict) -> bool:
        """Do what the verdict says: whether it is `go`.

        Raises:
            Refused: it is `stop`.
        """
        if verdict.decision is Decision.STOP:
            route.end(self.var, self.new.name)  # before anything is written: the next request goes to the serving one
        if verdict.why != self.record.why:
            findings = tuple(verdict.as_json()["findings"])
            self._set(why=verdict.why, steps=tuple(verdict.steps), findings=findings)
        if verdict.decision is Decision.STOP:
            self._end(verdict.why)
        return verdict.decision is Decision.GO

    def _promote(self) -> None:
        self._set(state=State.PROMOTING)
        promote_now(self.settings, self.record, self.why)

    def _end(self, why: str, state: State = State.STOPPED) -> None:
        """No more requests, at once; then the version is retired.

        Raises:
            Refused, Expired: always.
        """
        stop_now(self.settings, self.record, why, state)
        kind = Expired if state is State.EXPIRED else Refused
        raise kind(f"{self.new} was stopped: {why}", "nothing else has changed")

    def _set(self, **values: object) -> None:
        self.record = self.record.changed(**values)
        record.write(self.var, self.record)


def stop_now(settings: Settings, found: Record, why: str, state: State = State.STOPPED) -> None:
    """Give the candidate no more requests, then retire it; can be repeated."""
    end_share(settings, found, why)
    if desired.find(desired.read(settings.var), found.name, found.version):
        take_out(settings, found.name, found.version, why=why, force=True)
    record.write(settings.var, found.changed(state=state, percent=0.0, why=why))


def end_share(settings: Settings, found: Record, why: str) -> None:
    """Give the candidate no more requests, from the next one on."""
    route.end(settings.var, found.name)
    record.write(settings.var, found.changed(state=State.STOPPING, percent=0.0, why=why))


def promote_now(settings: Settings, found: Record, why: str) -> None:
    """Make the candidate the default, then end its share, which nobody notices; can be repeated."""
    promote_candidate(settings, settings.store / found.archive, why=why)
    route.end(settings.var, found.name)
    record.write(settings.var, found.changed(state=State.PROMOTED, percent=100.0, why=f"promoted: {found.why}"))
    say(f"{found.name} {found.version} is the default")


def edge_of(durations: Sequence[float]) -> float:
    """Seconds from which a request is slow: nearly all (95 %) were faster, and it takes longer than may be accepted."""
    return max(statistics.quantiles(durations, n=20)[-1], PAIRED_RATIO * statistics.median(durations))


def percentages(text: str) -> tuple[float, ...]:
    """ "1,5,25,100" -> percentages. Raises: InvalidInput: not numbers."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise InvalidInput(f"--steps {text!r}: not percentages", "give for example 1,5,25,100") from error


def seconds(text: str) -> float:
    """ "30m" -> 1800. Raises: InvalidInput: not a duration."""
    match = re.fullmatch(r"(\d+)([smhd])", text)
    if not match:
        raise InvalidInput(f"--deadline {text!r} is not a duration", "give for example 30m, 24h or 7d")
    return int(match[1]) * _UNITS[match[2]]
