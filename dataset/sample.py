"""Draw sample photos, to try every command without a data set.

    python -m dataset sample runs/drawn --recipe classroom --count 40

writes runs/drawn/LABEL/0000.jpg ... and SOURCES.tsv, in which every drawn photo is a separate source with an open
licence. Other rows of SOURCES.tsv stay. If the recipe has a drawing for `no_class`, photos of none of its labels are
drawn too. If it is interrupted, run it again to continue. `--photos PHOTOS` draws every second photo with photos of one
source of PHOTOS: their rooms get laptops or bars, and cameras of calls show parts of them. Of a split, only the
training part is used. `--draw online=waiting` draws that label as another kind; `dataset/draw.py` tells what each kind
shows.
"""

import random
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import click
from PIL import Image
from rich.progress import track

from common.cli import command
from common.commands import next_step
from common.errors import InvalidInput
from common.files import write_whole, writing
from common.words import number_of
from config.recipe import NO_CLASS, Recipe, read_recipe
from dataset.draw import DRAWINGS, WITH_PHOTOS, draw
from dataset.listing import composed
from dataset.photos import PARTS, Photo, read_photos
from dataset.splitting.records import record, recorded
from handler.image import open_photo

MOST_PHOTOS = 6
SIDE = 1280
"""The longest side of a photo that is drawn with, pixels."""


class Drawing(NamedTuple):
    """A photo to draw: its path in the folder, the kind of drawing, its number, its source, the photos in it."""

    name: str
    kind: str
    number: int
    source: str
    photos: Sequence[Photo]


@command(epilog="Example: python -m dataset sample runs/drawn --recipe shapes --count 30")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--recipe", "name", default="classroom", show_default=True, help="Recipe with the labels and drawings.")
@click.option("--count", default=40, show_default=True, type=click.IntRange(1), help="Photos per label.")
@click.option("--seed", default=0, show_default=True, help="The same seed gives the same photos.")
@click.option(
    "--photos",
    type=click.Path(exists=True, path_type=Path),
    help="Label folders, a split or a table: every second drawing is made with photos of rooms from here.",
)
@click.option(
    "--draw",
    "chosen",
    multiple=True,
    metavar="LABEL=KIND",
    callback=lambda context, option, pairs: _kinds(pairs),
    help=f"Draw this label as one of: {', '.join(DRAWINGS)}.  [repeatable]",
)
def sample(folder: Path, name: str, count: int, seed: int, photos: Path | None, chosen: Mapping[str, str]) -> None:
    """Draw sample photos into FOLDER, one folder per label."""
    recipe = read_recipe(name)
    unknown = [label for label in chosen if label not in (*recipe.labels, NO_CLASS)]
    if unknown:
        known = ", ".join((*recipe.labels, NO_CLASS))
        raise InvalidInput(f"--draw {unknown[0]}: recipe {recipe.name} has no such label", f"give one of {known}")
    recipe = recipe.model_copy(update={"drawn": {**recipe.drawn, **chosen}})
    draw_set(folder, recipe, count, seed, read_photos(photos, recipe.labels) if photos else ())
    click.echo(f"{folder}: {number_of(count, 'drawn photo')} for each of {', '.join(_labels(recipe))}")
    next_step("dataset", "audit", folder, "--recipe", name)


def _kinds(pairs: Sequence[str]) -> dict[str, str]:
    """LABEL=KIND of --draw, by label."""
    for pair in pairs:
        if pair.partition("=")[2] not in DRAWINGS:
            raise click.BadParameter(f"{pair}: write LABEL=KIND with a kind of {', '.join(DRAWINGS)}")
    return dict(pair.split("=", 1) for pair in pairs)


def draw_set(folder: Path, recipe: Recipe, count: int, seed: int, photos: Sequence[Photo] = ()) -> None:
    """Draw `count` photos of each label: three JPEGs of different qualities, then a PNG, and so on.

    Args:
        photos: those of the label that is drawn as `rooms` are used for every second drawing.

    Raises:
        InvalidInput: a label has no drawing, or a photo that was not drawn has the name of a drawing.
        CannotWrite: the folder cannot be written.
    """
    missing = [label for label in recipe.labels if label not in recipe.drawn]
    if missing:
        raise InvalidInput(
            f"recipe {recipe.name} has no drawing for {', '.join(missing)}", "add it to the recipe's drawn section"
        )
    rooms = _rooms(recipe, photos)
    plan = [_plan_one(recipe, label, index, seed, rooms) for label in _labels(recipe) for index in range(count)]
    with writing(folder):
        _record(folder, plan)
        for drawing in track(plan, "drawing", transient=True):
            _draw_one(folder, recipe, drawing, seed)


def _labels(recipe: Recipe) -> list[str]:
    """The labels to draw: the recipe's, and `no_class` if the recipe has a drawing for it."""
    return [*recipe.labels, *(label for label in recipe.drawn if label == NO_CLASS)]


def _rooms(recipe: Recipe, photos: Sequence[Photo]) -> dict[str, list[Photo]]:
    """The photos of rooms by source; of a split, those to train on."""
    by_source: dict[str, list[Photo]] = {}
    for photo in photos:
        if recipe.drawn.get(recipe.labels[photo.label]) == "rooms" and photo.part in ("", PARTS[0]):
            by_source.setdefault(photo.source, []).append(photo)
    return by_source


def _plan_one(recipe: Recipe, label: str, index: int, seed: int, rooms: Mapping[str, Sequence[Photo]]) -> Drawing:
    kind, source = recipe.drawn[label], f"drawn/{label}/{index}"
    photos: Sequence[Photo] = ()
    if rooms and index % 2 and kind in WITH_PHOTOS:
        source, photos = _some(rooms, random.Random(f"{seed} {source}"))
    return Drawing(f"{label}/{index:04d}.{'png' if index % 4 == 3 else 'jpg'}", kind, index, source, photos)


def _record(folder: Path, plan: Sequence[Drawing]) -> None:
    """Record the drawings before the first is drawn: after an interruption, a photo without a row is not a drawing."""
    rows = recorded(folder)
    for drawing in plan:
        row = rows.get(composed(drawing.name), {})
        if (row or (folder / drawing.name).exists()) and row.get("source") != drawing.source:
            raise InvalidInput(f"{folder / drawing.name} was not drawn by this command", "give another FOLDER")
    new = [drawing for drawing in plan if composed(drawing.name) not in rows]
    record(folder, [{"path": drawing.name, "source": drawing.source, "open_licence": "yes"} for drawing in new])


def _draw_one(folder: Path, recipe: Recipe, drawing: Drawing, seed: int) -> None:
    path = folder / drawing.name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        buffer = BytesIO()
        photos = [_opened(photo.path, recipe) for photo in drawing.photos]
        picture = draw(drawing.kind, seed * 1_000_003 + drawing.number, photos)
        picture.save(buffer, "PNG" if path.suffix == ".png" else "JPEG", quality=60 + drawing.number * 7 % 36)
        write_whole(path, buffer.getvalue())


def _some(rooms: Mapping[str, Sequence[Photo]], rng: random.Random) -> tuple[str, list[Photo]]:
    """A source, as likely as it has photos, and up to `MOST_PHOTOS` of its photos."""
    source = rng.choices(list(rooms), [len(photos) for photos in rooms.values()])[0]
    return source, rng.sample(rooms[source], min(MOST_PHOTOS, len(rooms[source])))


def _opened(path: Path, recipe: Recipe) -> Image.Image:
    photo = open_photo(path.read_bytes(), recipe.limits)
    photo.thumbnail((SIDE, SIDE))
    return photo
