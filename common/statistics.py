"""Intervals of proportions: of one, and of the difference between two models on the same photos.

Here and not from scipy, because a host that only serves has no scipy, and scipy has no interval for paired proportions.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

from common.words import number_of

_Z = NormalDist().inv_cdf(0.975)

Interval = tuple[float, float]


def wilson(hits: int, trials: int) -> Interval:
    """95 % score interval of a proportion (E. B. Wilson, 1927); 0 to 1 without trials."""
    if not trials:
        return 0.0, 1.0
    share, square = hits / trials, _Z * _Z / trials
    middle = share + square / 2
    reach = _Z * math.sqrt((share * (1 - share) + square / 4) / trials)
    return max(0.0, (middle - reach) / (1 + square)), min(1.0, (middle + reach) / (1 + square))


@dataclass(frozen=True)
class Paired:
    """Two models on the same photos, counted by whether each was right.

    Attributes:
        both, neither: photos that both models, or neither, answered rightly.
        regressions: only the former model was right.
        fixes: only the new model was right.
    """

    both: int
    regressions: int
    fixes: int
    neither: int

    @property
    def photos(self) -> int:
        return self.both + self.regressions + self.fixes + self.neither

    @property
    def accuracies(self) -> tuple[float, float]:
        """Accuracy of the former and of the new model, 0 to 1; 0 without photos."""
        count = max(1, self.photos)
        return (self.both + self.regressions) / count, (self.both + self.fixes) / count

    @property
    def difference(self) -> float:
        """Accuracy of the new model minus that of the former, -1 to 1."""
        return self.accuracies[1] - self.accuracies[0]

    @property
    def interval(self) -> Interval:
        """95 % interval of `difference`, -1 to 1.

        Source: R. G. Newcombe, "Improved confidence intervals for the difference between binomial proportions based on
        paired data", Statistics in Medicine 17 (1998), method 10: the Wilson intervals of both proportions, combined by
        their squares with the correlation of the pairs. It has a width even where no answer differs.
        """
        if not self.photos:
            return -1.0, 1.0
        former, new = self.accuracies
        (low_f, high_f), (low_n, high_n) = (wilson(round(p * self.photos), self.photos) for p in (former, new))
        return (
            max(-1.0, self.difference - self._reach(new - low_n, high_f - former)),
            min(1.0, self.difference + self._reach(high_n - new, former - low_f)),
        )

    def as_json(self) -> dict[str, object]:
        former, new = (round(value, 5) for value in self.accuracies)
        return {
            "photos": self.photos,
            "former_accuracy": former,
            "new_accuracy": new,
            "regressions": self.regressions,
            "fixes": self.fixes,
            "difference": round(self.difference, 5),
            "difference_95": [round(value, 5) for value in self.interval],
        }

    def __str__(self) -> str:
        former, new = self.accuracies
        low, high = (100 * value for value in self.interval)
        regressions, fixes = number_of(self.regressions, "regression"), number_of(self.fixes, "fix", "fixes")
        return (
            f"{former:.1%} -> {new:.1%} of {number_of(self.photos, 'photo')}: {regressions}, {fixes}, "
            f"difference {100 * self.difference:+.1f} points (95 %: {low:+.1f} to {high:+.1f})"
        )

    def _reach(self, one: float, other: float) -> float:
        return math.sqrt(max(0.0, one**2 - 2 * self._correlation() * one * other + other**2))

    def _correlation(self) -> float:
        """phi of the 2 x 2 table, corrected for continuity as Newcombe does; 0 where a margin is empty."""
        right_f, right_n = self.both + self.regressions, self.both + self.fixes
        margins = right_f * (self.photos - right_f) * right_n * (self.photos - right_n)
        if not margins:
            return 0.0
        product: float = self.both * self.neither - self.regressions * self.fixes
        if product > 0:
            product = max(0.0, product - self.photos / 2)
        return product / math.sqrt(margins)
