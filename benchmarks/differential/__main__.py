"""Compare our decoder with libvips, imagecodecs and what was written, on files of every kind that is taken.

    python -m benchmarks.differential --seeds 3

Every file must be decoded within the tolerance, or be refused with the right code. Exit status 1 if one is not.
"""

import json
import sys
from collections import Counter

import click
from rich.progress import track

from benchmarks.differential.judge import Judgement, corpus, judge
from common.cli import command
from common.console import err_console

_SHOWN = 40


@command(epilog="Example: python -m benchmarks.differential --seeds 3")
@click.option("--seeds", default=1, show_default=True, type=click.IntRange(1), help="Pictures of which files are made.")
@click.option("--only", default="", help="Only files whose name contains this text.")
def main(seeds: int, only: str) -> None:
    """Generate files of every kind, decode them here and elsewhere, and count agreements, refusals, disagreements."""
    cases = [case for seed in range(seeds) for case in corpus(seed) if only in case.name]
    judgements = [judge(case) for case in track(cases, "decoding", console=err_console, transient=True)]
    wrong = [found for found in judgements if not found.right]
    for found in wrong[:_SHOWN]:
        click.echo(f"{found.case.name}: {found.result}")
    print(json.dumps(summary(judgements)))
    sys.exit(1 if wrong else 0)


def summary(judgements: list[Judgement]) -> dict[str, object]:
    """Counts over all files, and for each format."""
    right = Counter(found.result for found in judgements if found.right)
    whom = Counter(name for found in judgements for name in found.with_whom)
    return {
        "files": len(judgements),
        "agree": right.pop("agrees", 0),
        "agree_with": dict(whom),
        "refused": dict(right),
        "disagree": sum(not found.right for found in judgements),
        "formats": dict(Counter(found.case.name.partition(" ")[0] for found in judgements)),
    }


if __name__ == "__main__":
    main()
