"""How often the gate of a night passes equal, better and worse candidates: a simulation with a fixed seed.

    python -m benchmarks.gates --candidates 1000

Regressions and fixes of each candidate are drawn from the shares of its kind: on frozen photos, on a random sample, on
corrections that were held out, and on photos that were fixed once. Then the conditions of feedback/learning/gate.py
judge it. Calibration, latency and size are left out. Prints Markdown.
"""

from dataclasses import dataclass

import click
import numpy as np

from common.cli import command
from common.words import number_of
from feedback.learning.gate import Compared, Counts, decide, not_inferior

DRAWS = 20_000
ANCHOR_WRONG = 0.9
"""Share of the held-out corrections that the anchor gets wrong."""


@dataclass(frozen=True)
class Kind:
    """Shares of photos that a kind of candidate loses and wins, and of the anchor's wrong corrections that it fixes."""

    name: str
    lost: float
    won: float
    fixes: float


KINDS = (
    Kind("equal", 0.005, 0.005, 0.8),
    Kind("one point better", 0.0025, 0.0125, 0.8),
    Kind("one point worse", 0.0125, 0.0025, 0.8),
    Kind("two points worse", 0.0225, 0.0025, 0.8),
    Kind("trained on labels of which 30 % are flipped", 0.05, 0.0025, 0.7),
    Kind("equal, has learnt nothing", 0.005, 0.005, 0.02),
)


@command(epilog="Example: python -m benchmarks.gates --candidates 100")
@click.option("--candidates", default=100, show_default=True, type=click.IntRange(1), help="Of each kind.")
@click.option("--frozen", default=450, show_default=True, type=click.IntRange(1), help="Frozen photos.")
@click.option("--sample", default=100, show_default=True, type=click.IntRange(0), help="Photos of the random sample.")
@click.option("--held", default=20, show_default=True, type=click.IntRange(0), help="Held-out corrections.")
@click.option("--seed", default=0, show_default=True)
def main(candidates: int, frozen: int, sample: int, held: int, seed: int) -> None:
    """Simulate the gate."""
    click.echo(
        f"| {number_of(candidates, 'candidate')} each | pass the frozen set | pass all conditions |\n|---|---|---|"
    )
    for kind in KINDS:
        rng, alone, whole = np.random.default_rng(seed), 0, 0
        for _ in range(candidates):
            rows = [_drawn(rng, count, kind.lost, kind.won) for count in (frozen, sample, held)]
            corrections = _corrections(rng, held, kind)
            alone += not_inferior(Counts.of(rows[0]), draws=DRAWS).passed
            whole += decide(rows[0], rows[1], corrections, rows[2]).passed
        click.echo(f"| {kind.name} | {alone / candidates:.1%} | {whole / candidates:.1%} |")


def _drawn(rng: np.random.Generator, count: int, lost: float, won: float) -> list[Compared]:
    a, b, rest = rng.multinomial(count, (lost, won, 1 - lost - won))
    return [Compared(True, False)] * a + [Compared(False, True)] * b + [Compared(True, True)] * rest


def _corrections(rng: np.random.Generator, count: int, kind: Kind) -> list[Compared]:
    wrong = int(rng.binomial(count, ANCHOR_WRONG))
    fixed = int(rng.binomial(wrong, kind.fixes))
    right = count - wrong
    lost = int(rng.binomial(right, kind.lost))
    kept = [Compared(True, True)] * (right - lost) + [Compared(True, False)] * lost
    return [*kept, *[Compared(False, True)] * fixed, *[Compared(False, False)] * (wrong - fixed)]


if __name__ == "__main__":
    main()
