"""How soon a candidate that fails is stopped: after how many requests, and how many seconds after the alarm.

    python -m benchmarks.front.alarm [--rounds 3]

Serves the shipped model on two nodes behind nginx; four clients each send the next request when the last is answered. A
copy whose handler raises for every twentieth photo gets 5 % of them. The alarm is the answer after which the verdict is
`stop`, computed afterwards from all answers that clients got; the end is when the candidate's share is gone. Takes a
minute and a half a round. Exits 1 if a round took more than 2,500 requests, showed the candidate to more than 150, or
ended more than a second after the alarm. Prints Markdown, and one JSON line last.
"""

import json
import math
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from benchmarks.front.pair import Clients, Pair, running_pair
from benchmarks.harness.versions import copy_as, rewrite
from common.cli import command
from common.console import note
from common.errors import CheckFailed, UserError
from deploy.clients.load import Result
from deploy.settings import ROOT
from traffic.front import route
from traffic.front.route import Route
from traffic.verdict import Counts, Decision, Step, judge

NAME, PERCENT, CLIENTS, STEP_S, LOOK_S = "classroom", 5.0, 4, 240.0, 0.002
REQUESTS, SEEN, SECONDS = 2500, 150, 1.0
INFERENCE = b"rows = self.inference(self.preprocess(data))\n"
FAILS = b"""
        if any(str(p.item.image_id)[-2:] in ("00", "20", "40", "60", "80") for row in rows for p in row.photos):
            raise RuntimeError("one request in twenty fails")
"""


@dataclass(frozen=True)
class Stopped:
    """One candidate: requests from the first share to the end, those that it answered, seconds from alarm to end."""

    requests: int
    seen: int
    failed: int
    seconds: float


@command(epilog="Example: python -m benchmarks.front.alarm --rounds 1")
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1), help="Candidates, one after the other.")
def main(rounds: int) -> None:
    """Measure how soon a failing candidate is stopped."""
    with running_pair() as pair:
        found = [_stopped(pair, f"1.{number}") for number in range(1, rounds + 1)]
    click.echo("| requests at 5 % | answered by the candidate | failed | alarm to end, s |\n|---|---|---|---|")
    for one in found:
        click.echo(f"| {one.requests} | {one.seen} | {one.failed} | {one.seconds:.2f} |")
    click.echo(json.dumps({"benchmark": "front.alarm", "rounds": [asdict(one) for one in found]}))
    if any(one.requests > REQUESTS or one.seen > SEEN or not one.seconds <= SECONDS for one in found):
        raise CheckFailed(f"a candidate was stopped later: at most {REQUESTS} requests, {SEEN} seen, {SECONDS} s")


def _stopped(pair: Pair, version: str) -> Stopped:
    newer = copy_as(pair.mar, version, pair.mar.parent)
    rewrite(newer, {"handler/service.py": lambda text: text.replace(INFERENCE, INFERENCE + FAILS)})
    words = [sys.executable, "-m", "traffic", "canary", newer.name, "--steps", f"{PERCENT:g},100", "--shadow", "0"]
    words += ["--requests", "100000"]
    env = {**os.environ, **pair.environment}
    with (
        Clients(pair.settings, pair.mar).load(clients=CLIENTS) as load,
        subprocess.Popen(words, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as canary,
    ):
        try:
            begun, ended = _share_of(canary, pair.settings.var, Route(NAME, version, "", (PERCENT,)))
            result = load.stop()
            canary.wait(STEP_S)  # it retires the version
        finally:
            canary.kill()
    one = measured(result, version, begun - load.begun, ended - load.begun)
    note(f"{version}: {one}")
    return one


def _share_of(canary: subprocess.Popen[bytes], var: Path, candidate: Route) -> tuple[float, float]:
    """When the share begins and ends, of time.monotonic(). Raises UserError: it does not in time."""
    moments = []
    for going in (True, False):
        deadline = time.monotonic() + STEP_S
        while (route.share(var, candidate) == PERCENT) is not going:
            if time.monotonic() > deadline or (going and canary.poll() is not None):
                raise UserError("the canary did not come so far", f"see {var}/logs")
            time.sleep(LOOK_S)
        moments.append(time.monotonic())
    return moments[0], moments[1]


def measured(result: Result, version: str, begun: float, ended: float) -> Stopped:
    """What a load says of a candidate.

    Args:
        begun, ended: of its share, in seconds since the load began.

    Raises:
        UserError: other answers than 200 and 503, so the load itself was too much.
    """
    if set(result.statuses) - {200, 503}:
        raise UserError(f"answers: {result.statuses}", "run it on a machine with less other work")
    control, candidate, alarm = Counts(), Counts(), math.inf
    step = Step(PERCENT / 100, control, candidate)
    answers = sorted((s for s in result.samples if begun <= s.sent), key=lambda sample: sample.answered)
    for sample in answers:
        failed = sample.outcome != 200  # the serving version does not fail
        counts = candidate if failed or sample.version == version else control
        counts.server_errors += failed
        code = "http_503" if failed else "ok"
        counts.codes[code] = counts.codes.get(code, 0) + 1
        if failed and alarm == math.inf and judge([step]).decision is Decision.STOP:
            alarm = sample.answered
    sent = sum(sample.sent <= ended for sample in answers)
    return Stopped(sent, candidate.requests, candidate.server_errors, round(ended - alarm, 3))


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.front.alarm")
