"""Photos that show the same, re-encoded, rescaled or a little cropped, form a chain."""

from collections.abc import Sequence

import numpy as np

from feedback.photos.hashing import THRESHOLD, nearest, packed


class Chains:
    """The hashes of all photos with their chains, in memory."""

    def __init__(self, hashes: Sequence[str], chains: Sequence[int]) -> None:
        self._hashes, self._chains = packed(hashes), list(chains)

    def chain_of(self, value: str) -> int:
        """The chain of the nearest photo; 0 if none is near enough."""
        index, bits = nearest(value, self._hashes)
        return self._chains[index] if bits <= THRESHOLD else 0

    def add(self, value: str, chain: int) -> None:
        if value:
            self._hashes, self._chains = np.vstack([self._hashes, packed([value])]), [*self._chains, chain]
