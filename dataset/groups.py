"""Propose which photos show the same room or call, where nothing says where they come from.

    python -m dataset groups PHOTOS              # writes runs/groups/PHOTOS/groups.tsv and groups.html: look at them
    python -m dataset groups PHOTOS --accept     # writes the proposed sources into PHOTOS/SOURCES.tsv

Photos of one source must be in the same part of a split, or the accuracy looks too high. Photos are near if a network
sees the same in them (`dataset.auditing.features`), and if they are the same image (perceptual hashes). The proposal is
a guess: look at the page, change the column `source` of groups.tsv where it is wrong (the same word joins photos,
another one separates them, an empty cell means alone), then accept it. A source that PHOTOS/SOURCES.tsv names already
is never changed.
"""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click

from common.cli import command
from common.commands import next_step, pasteable
from common.console import note
from common.errors import InvalidInput, NotFound
from common.words import number_of
from config.recipe import read_recipe
from dataset.auditing.duplicates import similar_groups
from dataset.auditing.features import describe
from dataset.auditing.group_page import write_page
from dataset.auditing.grouping import DISTANCE, propose
from dataset.listing import composed, files_of
from dataset.photos import TABLE
from dataset.tables import Row, read_rows, write_rows

MODELS = Path(__file__).parents[1] / "models"
MODEL = MODELS / "classroom"
"""The shipped bundle. What its network sees helps for photos of other classes too."""
MOST = 20_000
"""Photos: the distances of all pairs need 8 bytes each, 1.6 GB for so many."""


@command(epilog="Example: python -m dataset groups runs/drawn --recipe shapes --from hashes")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--recipe", "name", default="classroom", show_default=True, help="Recipe with the limits.")
@click.option(
    "--from",
    "method",
    default="features",
    show_default=True,
    type=click.Choice(["features", "hashes"]),
    help="features: same room or call; hashes: only the same image.",
)
@click.option("--model", type=click.Path(path_type=Path), default=MODEL, help="Bundle.  [default: models/classroom]")
@click.option(
    "--distance",
    default=DISTANCE,
    show_default=True,
    type=click.FloatRange(0, 2),
    help="Mean distance within a group: less gives fewer and surer groups.",
)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="[default: runs/groups/FOLDER]")
@click.option("--accept", is_flag=True, help=f"Write the sources of OUT/groups.tsv into FOLDER/{TABLE}.")
def groups(folder: Path, name: str, method: str, model: Path, distance: float, out: Path | None, accept: bool) -> None:
    """Propose which photos of FOLDER show the same room or call."""
    recipe = read_recipe(name)
    out = out or Path("runs") / "groups" / folder.resolve().name
    table = out / "groups.tsv"
    if accept:
        _accept(folder, table)
        next_step("dataset", "split", folder, "--recipe", name)
        return
    paths = files_of(folder, links=True)
    if not 2 <= len(paths) <= MOST:
        raise InvalidInput(f"{folder} has {number_of(len(paths), 'photo')}", f"give a folder with 2 to {MOST}")
    features = describe(paths, model) if method == "features" else None
    alike = similar_groups(paths, recipe.limits)
    found = alike if features is None else propose(features, alike, distance)
    members = _members(found)
    _write(out, folder, paths, members)
    inside = sum(len(places) for places in members)
    click.echo(
        f"{table}: {number_of(len(members), 'group')} of {number_of(inside, 'photo')}, "
        f"{number_of(len(paths) - inside, 'photo')} alone"
    )
    click.echo(f"look at {out / 'groups.html'}, correct the column source, then: {_accepting(folder, out, name)}")


def _members(found: Sequence[int]) -> list[list[int]]:
    """The photos of each group of at least two, largest first."""
    groups: dict[int, list[int]] = {}
    for index, group in enumerate(found):
        groups.setdefault(group, []).append(index)
    return sorted((places for places in groups.values() if len(places) > 1), key=len, reverse=True)


def _write(out: Path, folder: Path, paths: Sequence[Path], members: Sequence[Sequence[int]]) -> None:
    names = [path.relative_to(folder).as_posix() for path in paths]
    sources = {place: f"group-{number:04d}" for number, places in enumerate(members, 1) for place in places}
    rows = [
        {"path": Path(os.path.relpath(path, out)).as_posix(), "source": sources.get(place, "")}
        for place, path in enumerate(paths)
    ]
    rows.sort(key=lambda row: (not row["source"], row["source"]))  # the photos of a group stand together
    write_rows(out / "groups.tsv", ("path", "source"), rows)
    shown = [(sources[places[0]], [(names[place], paths[place]) for place in places]) for places in members]
    lines = [
        f"{number_of(len(members), 'group')} in {folder}. Photos of one group will be in the same part of a split.",
        "Where a group is wrong, change the column source of groups.tsv: the same word joins photos, another one "
        "separates them, an empty cell means alone. Then run the command that the terminal shows.",
    ]
    write_page(out / "groups.html", shown, lines)


def _accepting(folder: Path, out: Path, name: str) -> str:
    return pasteable("dataset", "groups", folder, "--recipe", name, "--out", out, "--accept")


def _accept(folder: Path, table: Path) -> None:
    """Write the proposed sources into the folder's table; sources and columns that it has stay."""
    if not table.is_file():
        raise NotFound(f"{table} does not exist", f"make the proposal first: {pasteable('dataset', 'groups', folder)}")
    place = folder / TABLE
    rows: list[Row] = read_rows(place, ("path",)) if place.is_file() else []
    columns = list(dict.fromkeys(["path", "source", *(key for row in rows for key in row if key)]))
    known = {composed(row["path"]): row for row in rows}
    kept = 0
    for proposed in read_rows(table, ("path", "source")):
        name = Path(os.path.relpath((table.parent / proposed["path"]).absolute(), folder.absolute())).as_posix()
        if not proposed["source"]:
            continue
        if composed(name) not in known:
            known[composed(name)] = {"path": name}
            rows.append(known[composed(name)])
        row = known[composed(name)]
        kept += bool(row.get("source"))
        row["source"] = row.get("source") or proposed["source"]
    write_rows(place, columns, rows, "make the folder writable")
    sizes = Counter(row.get("source", "") for row in rows)
    sizes.pop("", None)
    click.echo(f"{place}: {number_of(sum(sizes.values()), 'photo')} of {number_of(len(sizes), 'source')}")
    if kept:
        note(f"{number_of(kept, 'photo')} had a source already, which was kept")
