"""Evidence from counts that may be looked at as often as one likes.

The front gives each request to the candidate with a known probability, its share, that does not depend on what the
request will show. So if the candidate is like the serving version, each bad request is the candidate's with exactly
that probability, however many bad requests there are, and at night as during the day. The likelihood ratio of a
mixture of larger probabilities against the share is then a non-negative martingale that starts at 1, an e-process. By
Ville's inequality it ever reaches 1/alpha with a probability of at most alpha: a look each second raises no more false
alarms than one.

Sources: H. Robbins, Statistical methods related to the law of the iterated logarithm, Ann. Math. Statist. 41 (1970);
M. Lindon and A. Malek, Anytime-valid inference for multinomial count data, NeurIPS 2022 (arXiv 2011.03567).
"""

import math
from collections.abc import Sequence

Trials = Sequence[tuple[int, int, float]]
"""(the candidate's, all, the candidate's share) of each step: shares differ from step to step, so each has its own."""


def more_than_its_share(trials: Trials) -> float:
    """The logarithm of the evidence that more of the requests are the candidate's than its share.

    It raises no more false alarms if the candidate's true share of them is smaller.

    Args:
        trials: of requests of one kind, for example those that failed; shares between 0 and 1, both excluded.

    Returns:
        log of the e-value; 0 without requests.
    """
    return sum(_log_e(count, of, share) for count, of, share in trials)


def other_than_its_share(trials: Trials) -> float:
    """The same, for more or fewer: the mean of both e-values."""
    fewer = [(of - count, of, 1 - share) for count, of, share in trials]
    return log_mean([more_than_its_share(trials), more_than_its_share(fewer)])


def slower_of_pairs(slower: int, pairs: int) -> float:
    """Evidence that the candidate is the slower one of a pair more often than not; ties are left out."""
    return _log_e(slower, pairs, 0.5)


def log_mean(logs: Sequence[float]) -> float:
    """The logarithm of the mean of e-values, which is an e-value, from their logarithms."""
    largest = max(logs)
    return largest + math.log(sum(math.exp(value - largest) for value in logs) / len(logs))


def upper_bound(count: int, of: int, confidence: float = 0.95) -> float:
    """The largest share that `count` of `of` allow: the upper bound of Clopper and Pearson; 1 for 0 of 0."""
    if count >= of:
        return 1.0
    low, high = count / of, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if math.exp(_log_at_most(count, of, middle)) < 1 - confidence else (middle, high)
    return high


def _log_e(count: int, of: int, share: float) -> float:
    """log of  integral of p^count (1-p)^(of-count) over (share, 1), divided by (1-share)  over the same at p = share.

    The integral is a Beta function times the probability that a Binomial(of + 1, share) is at most `count`.
    """
    if not of:
        return 0.0
    log_beta = math.lgamma(count + 1) + math.lgamma(of - count + 1) - math.lgamma(of + 2)
    above = log_beta + _log_at_most(count, of + 1, share) - math.log1p(-share)
    return above - count * math.log(share) - (of - count) * math.log1p(-share)


def _log_at_most(count: int, of: int, share: float) -> float:
    """log of the probability that a Binomial(of, share) is at most `count`: the shorter side is summed from its end."""
    if count >= of:
        return 0.0
    if count > of * share:
        rest = math.exp(_log_tail(of - count - 1, of, 1 - share))
        return math.log1p(-min(rest, 1 - 1e-16))
    return _log_tail(count, of, share)


def _log_tail(count: int, of: int, share: float) -> float:
    """log P(Binomial <= count) for a count not above the mean: terms fall towards 0 from `count` downwards."""
    total, term, k = 1.0, 1.0, count
    while k > 0 and term > total * 1e-17:
        term *= k * (1 - share) / ((of - k + 1) * share)
        total += term
        k -= 1
    log_choose = math.lgamma(of + 1) - math.lgamma(count + 1) - math.lgamma(of - count + 1)
    return log_choose + count * math.log(share) + (of - count) * math.log1p(-share) + math.log(total)
