"""Assign groups of photos to the parts of a split, with every class as close to its share as whole groups allow."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]
FEW = 2
"""Minimum number of sources of a class in a part. With one, the part would show the peculiarities of that source."""
_RESTARTS = 24
_MOVES = 400


def assign(groups: Counts, shares: Sequence[float], seed: int, fixed: Sequence[int | None] = ()) -> list[int]:
    """Choose a part for every group by local search.

    The search starts from a greedy assignment (largest group first) and from random ones. It moves single groups and
    swaps pairs as long as this brings the classes closer to their shares, and returns the best result. At least `FEW`
    groups of each class in each part have priority over the shares.

    Args:
        groups: number of photos of each class, shape (groups, classes).
        shares: of the parts, with sum 1; a part with share 0 stays empty.
        seed: of the random starts.
        fixed: for each group the part that it must stay in, or None.

    Returns:
        for each group the index of its part.
    """
    search = _Search(groups, np.asarray(shares, float), list(fixed) or [None] * len(groups))
    starts = _RESTARTS if len(groups) <= 512 else 2
    results = [search.run(np.random.default_rng([seed, start]), greedy=start == 0) for start in range(starts)]
    return [int(part) for part in min(results, key=search.cost)]


class _Search:
    def __init__(self, groups: Counts, shares: npt.NDArray[np.float64], fixed: list[int | None]) -> None:
        self.groups, self.shares = groups, shares
        self.free = np.array([part is None for part in fixed])
        self.fixed = np.array([0 if part is None else part for part in fixed])
        self.total = np.maximum(groups.sum(0), 1)
        self.target = shares[:, None] * groups.sum(0)

    def run(self, rng: np.random.Generator, greedy: bool) -> Counts:
        parts = self._greedy(rng) if greedy else self._random(rng)
        for _ in range(_MOVES):
            if not (self._move(parts) or self._swap(parts)):
                break
        return parts

    def cost(self, parts: Counts) -> float:
        return float(self._cost(*self._tables(parts)))

    def _cost(self, photos: Counts, sources: Counts) -> npt.NDArray[np.float64]:
        """Squared distances from the shares plus penalties for missing sources, summed over the last two axes."""
        distance = (((photos - self.target) / self.total) ** 2).sum((-1, -2))
        lacking = np.clip(FEW - sources, 0, None) * (self.shares > 0)[:, None]
        misplaced = photos * (self.shares == 0)[:, None]
        cost: npt.NDArray[np.float64] = distance + 10 * lacking.sum((-1, -2)) + 1000 * misplaced.sum((-1, -2))
        return cost

    def _tables(self, parts: Counts) -> tuple[Counts, Counts]:
        """Photos and groups by part and class, shape (parts, classes) each."""
        member = (parts == np.arange(len(self.shares))[:, None]).astype(np.int64)
        return member @ self.groups, member @ (self.groups > 0).astype(np.int64)

    def _greedy(self, rng: np.random.Generator) -> Counts:
        parts = self.fixed.copy()
        placed = np.zeros((len(self.shares), self.groups.shape[1]))
        np.add.at(placed, parts[~self.free], self.groups[~self.free])
        order = rng.permutation(np.flatnonzero(self.free))
        for group in order[np.argsort(-self.groups[order].sum(1), kind="stable")]:
            gain = ((self.target - placed) / self.total * self.groups[group]).sum(1)
            parts[group] = int(np.where(self.shares > 0, gain, -np.inf).argmax())
            placed[parts[group]] += self.groups[group]
        return parts

    def _random(self, rng: np.random.Generator) -> Counts:
        drawn = rng.choice(len(self.shares), len(self.groups), p=self.shares)
        return np.where(self.free, drawn, self.fixed)

    def _move(self, parts: Counts) -> bool:
        """Make the single move that reduces the cost most. Returns: whether there was one."""
        photos, sources = self._tables(parts)
        costs = self._moved_costs(parts, photos, sources)
        group, part = np.unravel_index(costs.argmin(), costs.shape)
        if costs[group, part] >= self._cost(photos, sources) - 1e-12:
            return False
        parts[group] = part
        return True

    def _moved_costs(self, parts: Counts, photos: Counts, sources: Counts) -> npt.NDArray[np.float64]:
        """Cost after moving each group to each part, shape (groups, parts)."""
        eye = np.eye(len(self.shares), dtype=np.int64)
        change = (eye[None, :, :] - eye[parts][:, None, :])[..., None]
        has = (self.groups > 0).astype(np.int64)[:, None, None, :]
        costs = self._cost(photos + change * self.groups[:, None, None, :], sources + change * has)
        return np.where(self.free[:, None], costs, np.inf)

    def _swap(self, parts: Counts) -> bool:
        """Swap the first two groups that reduce the cost; only if there are few groups, because these are large."""
        if len(parts) > 60:
            return False
        now = self.cost(parts)
        free = np.flatnonzero(self.free)
        for position, first in enumerate(free):
            for second in free[position + 1 :]:
                if parts[first] == parts[second]:
                    continue
                parts[[first, second]] = parts[[second, first]]
                if self.cost(parts) < now - 1e-12:
                    return True
                parts[[first, second]] = parts[[second, first]]
        return False
