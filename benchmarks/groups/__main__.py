"""How well `dataset groups` finds photos of one source: hashes alone, and features at several distances.

    python -m benchmarks.groups PHOTOS        # a folder whose SOURCES.tsv names the true source of each photo

A pair of photos is right if both are in one proposed group and of one source. Precision is the share of the proposed
pairs that is right, recall the share of all pairs of one source that is proposed. A source may be a whole web site with
many rooms, so recall is at most the share of its pairs that show one room, which nobody has counted.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click

from common.cli import command
from common.console import compact_table, console
from common.errors import InvalidInput
from common.words import number_of
from config.recipe import read_recipe
from dataset.auditing.duplicates import similar_groups
from dataset.auditing.features import describe
from dataset.auditing.grouping import propose
from dataset.groups import MODEL
from dataset.photos import TABLE
from dataset.tables import read_rows

DISTANCES = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4)


@command(epilog="Example: python -m benchmarks.groups PHOTOS")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--model", type=click.Path(path_type=Path), default=MODEL, help="Bundle.  [default: models/classroom]")
def main(folder: Path, model: Path) -> None:
    """Compare the proposed groups with the column source of FOLDER/SOURCES.tsv."""
    rows = [row for row in read_rows(folder / TABLE, ("path", "source")) if (folder / row["path"]).is_file()]
    if len(rows) < 2:
        raise InvalidInput(
            f"{folder / TABLE} names {number_of(len(rows), 'photo')}", "give a folder of photos with their sources"
        )
    paths, sources = [folder / row["path"] for row in rows], [row["source"] for row in rows]
    alike = similar_groups(paths, read_recipe("classroom").limits)
    features = describe(paths, model)
    table = compact_table("proposal", "groups", "of one source", "photos", "pairs", "precision", "recall")
    table.add_row("hashes", *measured(alike, sources))
    for distance in DISTANCES:
        table.add_row(f"features, {distance:.2f}", *measured(propose(features, alike, distance), sources))
    console.print(f"{len(paths)} photos of {len(set(sources))} sources, {pairs(Counter(sources))} pairs of one source")
    console.print(table)


def measured(groups: Sequence[int], sources: Sequence[str]) -> list[str]:
    """Groups of at least two photos, those of one source, their photos, the pairs, precision and recall."""
    sizes = Counter(groups)
    both = Counter(zip(groups, sources, strict=True))
    right, proposed = pairs(both), pairs(sizes)
    large = [group for group, size in sizes.items() if size > 1]
    pure = sum(sizes[group] == max(count for (other, _), count in both.items() if other == group) for group in large)
    precision = f"{right / proposed:.1%}" if proposed else "-"
    inside = sum(sizes[group] for group in large)
    recall = f"{right / pairs(Counter(sources)):.1%}"
    return [str(len(large)), str(pure), str(inside), str(proposed), precision, recall]


def pairs(counts: Counter[str] | Counter[int] | Counter[tuple[int, str]]) -> int:
    """The number of pairs within groups of these sizes."""
    return sum(count * (count - 1) // 2 for count in counts.values())


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.groups")
