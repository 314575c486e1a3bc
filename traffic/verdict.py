"""The verdict on a candidate: counts in, `go`, `stop` or `wait` out, with a sentence. No clock, no file, no server.

`judge` compares the candidate with the version that serves, in the same minutes and by the same clients:

errors        answers with a 5xx, and separately each error code of the client's side (4xx)
slow          requests that took longer than nearly all did before the canary, a burst as one
labels        each label, given more often or less often
unsure        answers below the recipe's confidence
sample ratio  all requests: if the candidate did not get its share, routing is broken, and nothing can be said
pairs         photos that both versions were asked: how often their labels differ, which one was slower

An alarm needs an e-value of ALARM (traffic/evidence.py). Five kinds of alarm at 1/500 are together at most 1 % false
alarms in the whole life of a canary, however often one looks. `go` needs a minimum number of the candidate's requests
at each step, so that no traffic means `wait`, never `go`.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from common.words import number_of
from traffic import evidence
from traffic.shadow.pairs import Pairs

ALARM = 500.0
"""The e-value of an alarm: false in at most one canary in 500, for each kind of alarm."""
BROKEN = 1000.0
"""The e-value from which the shares are not those that were set."""
BAD = 3
"""An alarm needs so many bad requests of the candidate: at a small share two prove much, but may be one client."""
FEW = 300
"""Requests of the candidate at a step: after 300 without an error, fewer than 1 % fail (95 %)."""
MANY, MANY_FROM = 1000, 0.25
"""The same, from this share on."""
DISAGREE = 0.01
"""If more pairs than this share may get two labels (upper 95 % bound), a person decides."""
DISAGREE_STOP = 0.1
"""If more pairs than this share do (lower 95 % bound), it is another model than the one that serves."""
PAIRED_RATIO = 1.5
"""A candidate whose median request takes so much longer is refused, as by a rollout's step `latency`."""
SLOW_RATIO = 2.0
"""So much more often may the candidate's requests be slow. A copy of the serving version, in workers that get a fifth
of the requests, was slow 1.2 and 1.4 times as often (docs/log.md), and a long canary would find such a difference,
too."""


class Decision(StrEnum):
    """What to do."""

    GO = "go"
    STOP = "stop"
    WAIT = "wait"


@dataclass
class Counts:
    """Requests of one version in one step.

    Attributes:
        codes: code of the answer -> requests: "ok", an error code of the handler or of the front, or "http_STATUS".
        server_errors: those of them with a status of 500 or more.
        slow: those that took longer than the edge that was chosen before the canary; of a burst only the first.
        labels: label -> photos.
        unsure: photos whose confidence was below the recipe's `answer.unsure_below`.
    """

    codes: dict[str, int] = field(default_factory=dict)
    server_errors: int = 0
    slow: int = 0
    labels: dict[str, int] = field(default_factory=dict)
    unsure: int = 0

    @property
    def requests(self) -> int:
        """All of them."""
        return sum(self.codes.values())


@dataclass
class Step:
    """One share, and what was counted while it was set.

    Attributes:
        share: of the requests that the candidate got, between 0 and 1.
    """

    share: float
    control: Counts = field(default_factory=Counts)
    candidate: Counts = field(default_factory=Counts)


@dataclass(frozen=True)
class Finding:
    """One comparison.

    Attributes:
        candidate, of: bad requests of the candidate, and of both versions.
        e: the e-value, at most 1e300; an alarm from ALARM on.
    """

    name: str
    candidate: int
    of: int
    e: float
    alarm: bool = False


@dataclass(frozen=True)
class Verdict:
    """The decision, the sentence that says why, and every count that it rests on."""

    decision: Decision
    why: str
    findings: tuple[Finding, ...] = ()
    steps: tuple[Step, ...] = ()
    pairs: Pairs | None = None

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        return asdict(self)


def minimum(share: float) -> int:
    """How many requests of the candidate a step needs."""
    return MANY if share >= MANY_FROM else FEW


def judge(
    steps: Sequence[Step],
    pairs: Pairs | None = None,
    needed: Callable[[float], int] = minimum,
    client_codes: Iterable[str] = (),
) -> Verdict:
    """Judge a candidate by all steps so far; the last one is the present one.

    Args:
        steps: shares strictly between 0 and 1; the counts of former steps stay as evidence. None while only the shadow
            asks the candidate.
        pairs: of the shadow; None: there was none.
        needed: requests of the candidate that a share needs before `go`; for 0: pairs of the shadow.
        client_codes: all error codes of clients' mistakes that can occur, so that the evidence of each counts alike
            before it has occurred.
    """
    findings = _findings(steps, client_codes) + _of_pairs(pairs)

    def verdict(decision: Decision, why: str) -> Verdict:
        return Verdict(decision, why, tuple(findings), tuple(steps), pairs)

    ratio = _sample_ratio(steps)
    if ratio.alarm:  # before the others: with other shares than those that were set they mean nothing
        got = f"the candidate got {ratio.candidate} of {ratio.of} requests"
        return verdict(Decision.WAIT, f"{got}, which is not its share: the routing is broken, see var/logs/front.log")
    alarms = [finding for finding in findings if finding.alarm]
    if alarms:
        return verdict(Decision.STOP, "; ".join(_sentence(finding, steps) for finding in alarms))
    return verdict(*_enough(steps, pairs, needed))


def _enough(steps: Sequence[Step], pairs: Pairs | None, needed: Callable[[float], int]) -> tuple[Decision, str]:
    if pairs and not steps and pairs.answered < needed(0):
        return Decision.WAIT, f"{pairs.answered} of {needed(0)} photos were answered by both versions"
    if pairs and pairs.answered and (bound := evidence.upper_bound(pairs.disagreements, pairs.answered)) > DISAGREE:
        return Decision.WAIT, (
            f"{pairs.disagreements} of {pairs.answered} photos got two labels, so up to {bound:.2%} may: "
            "look at them, then promote or stop"
        )
    if not steps and pairs:
        return (
            Decision.GO,
            f"{number_of(pairs.answered, 'photo was', 'photos were')} answered by both versions, "
            f"{pairs.disagreements} differently",
        )
    if not steps:
        return Decision.WAIT, "no request was counted yet"
    last, count = steps[-1], steps[-1].candidate.requests
    if count < (least := needed(last.share)):
        return Decision.WAIT, (
            f"{count} of {least} requests of the candidate at {last.share:.0%}: "
            f"{number_of(least - count, 'is', 'are')} missing"
        )
    return Decision.GO, f"{number_of(count, 'request')} of the candidate at {last.share:.0%}, and no alarm"


def _findings(steps: Sequence[Step], client_codes: Iterable[str]) -> list[Finding]:
    codes = sorted({*client_codes, *(code for step in steps for code in _client_codes(step))})
    labels = sorted({label for step in steps for counts in _both(step) for label in counts.labels})
    return [
        _one_sided("server errors", steps, lambda counts: counts.server_errors),
        _worst("requests refused as", steps, codes, _with_code, evidence.more_than_its_share, BAD),
        _one_sided("slow requests", steps, lambda counts: counts.slow, SLOW_RATIO),
        _worst("photos labelled", steps, labels, _with_label, evidence.other_than_its_share, 0),
        _one_sided("unsure answers", steps, lambda counts: counts.unsure),
    ]


def _client_codes(step: Step) -> set[str]:
    """Codes of answers that are neither correct nor the server's fault."""
    return {code for counts in _both(step) for code in counts.codes if code != "ok" and not _is_server_error(code)}


def _is_server_error(code: str) -> bool:
    return code == "internal_error" or code.startswith("http_5") or code in ("unavailable", "no_answer_in_time")


Of = Callable[[Counts], int]
Test = Callable[[evidence.Trials], float]


def _with_code(code: str) -> Of:
    return lambda counts: counts.codes.get(code, 0)


def _with_label(label: str) -> Of:
    return lambda counts: counts.labels.get(label, 0)


def _one_sided(name: str, steps: Sequence[Step], of: Of, ratio: float = 1.0) -> Finding:
    """The candidate's requests may be bad `ratio` times as often as the control's."""
    trials = _trials(steps, of, ratio)
    return _finding(name, trials, evidence.more_than_its_share(trials), BAD)


def _worst(
    name: str, steps: Sequence[Step], kinds: Sequence[str], of: Callable[[str], Of], test: Test, least: int
) -> Finding:
    """One test for several kinds: the mean of their e-values; the finding names the kind with the largest."""
    if not kinds:
        return Finding(name, 0, 0, 1.0)
    trials = {kind: _trials(steps, of(kind)) for kind in kinds}
    logs = {kind: test(trials[kind]) for kind in kinds}
    worst = max(logs, key=logs.__getitem__)
    return _finding(f"{name} {worst}", trials[worst], evidence.log_mean(list(logs.values())), least)


def _trials(steps: Sequence[Step], of: Of, ratio: float = 1.0) -> list[tuple[int, int, float]]:
    def share(step: Step) -> float:
        return ratio * step.share / (ratio * step.share + 1 - step.share)

    return [(of(step.candidate), of(step.candidate) + of(step.control), share(step)) for step in steps]


def _finding(name: str, trials: evidence.Trials, log_e: float, least: int, limit: float = ALARM) -> Finding:
    """A finding is an alarm if its evidence suffices and the candidate has at least so many of the requests."""
    candidate, both = sum(count for count, _, _ in trials), sum(of for _, of, _ in trials)
    return Finding(name, candidate, both, _exp(log_e), alarm=log_e >= math.log(limit) and candidate >= least)


def _sample_ratio(steps: Sequence[Step]) -> Finding:
    trials = _trials(steps, lambda counts: counts.requests)
    return _finding("sample ratio", trials, evidence.other_than_its_share(trials), 0, BROKEN)


def _of_pairs(pairs: Pairs | None) -> list[Finding]:
    if pairs is None or not pairs.answered:
        return []
    log_e = evidence.slower_of_pairs(pairs.slower, pairs.answered)
    slower = log_e >= math.log(ALARM) and pairs.ratio > PAIRED_RATIO
    agree = evidence.upper_bound(pairs.answered - pairs.disagreements, pairs.answered)
    return [
        Finding("pairs in which the candidate is slower", pairs.slower, pairs.answered, _exp(log_e), slower),
        Finding("pairs with two labels", pairs.disagreements, pairs.answered, 0.0, 1 - agree > DISAGREE_STOP),
    ]


def _sentence(finding: Finding, steps: Sequence[Step]) -> str:
    text = f"{finding.name}: {finding.candidate} of {finding.of}"
    if finding.name.startswith("pairs"):
        return text
    return f"{text} were the candidate's, at {' and '.join(f'{step.share:.0%}' for step in steps)} of the requests"


def _both(step: Step) -> tuple[Counts, Counts]:
    return step.control, step.candidate


def _exp(log_e: float) -> float:
    return math.exp(min(log_e, 690.0))


def from_json(row: Mapping[str, Any]) -> Step:
    """A step of `Verdict.as_json`."""
    return Step(row["share"], Counts(**row["control"]), Counts(**row["candidate"]))
