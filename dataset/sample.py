"""Draw a set of photos, so that every command can be tried with no photos at hand.

    python -m dataset sample runs/drawn --recipe classroom --count 40

writes runs/drawn/LABEL/0000.jpg ... and SOURCES.tsv, in which every drawn photo is its own
source and openly licensed. Run again, it goes on where it was interrupted.
"""

from io import BytesIO
from pathlib import Path

import click
from rich.progress import track

from common.cli import command
from common.errors import UserError
from common.files import write_whole
from config.recipe import Recipe, read_recipe
from dataset.draw import draw
from dataset.photos import TABLE
from dataset.tables import Row, write_rows


@command(epilog="Example: python -m dataset sample runs/drawn --recipe shapes --count 30")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--recipe", "name", default="classroom", show_default=True, help="Whose labels and drawings.")
@click.option("--count", default=40, show_default=True, type=click.IntRange(1), help="Photos of each label.")
@click.option("--seed", default=0, show_default=True, help="Same seed, same photos.")
def sample(folder: Path, name: str, count: int, seed: int) -> None:
    """Draw a set of photos into FOLDER, one folder for each label."""
    recipe = read_recipe(name)
    draw_set(folder, recipe, count, seed)
    click.echo(f"{folder}: {count} drawn photos of each of {', '.join(recipe.labels)}")


def draw_set(folder: Path, recipe: Recipe, count: int, seed: int) -> None:
    """Draw `count` photos of each label, JPEG at mixed qualities and PNG in turn.

    Raises:
        UserError: a label has no drawing, or the folder cannot be written.
    """
    without = [label for label in recipe.labels if label not in recipe.drawn]
    if without:
        raise UserError(f"recipe {recipe.name} has no drawing for {', '.join(without)}: add it under drawn")
    try:
        plan = [(label, index) for label in recipe.labels for index in range(count)]
        rows = [_draw_one(folder, recipe, *pair, seed) for pair in track(plan, "drawing", transient=True)]
        write_rows(folder / TABLE, ("path", "source", "open_licence"), rows)
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}") from error


def _draw_one(folder: Path, recipe: Recipe, label: str, index: int, seed: int) -> Row:
    path = folder / label / (f"{index:04d}.png" if index % 4 == 3 else f"{index:04d}.jpg")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        buffer = BytesIO()
        picture = draw(recipe.drawn[label], seed * 1_000_003 + index)
        picture.save(buffer, "PNG" if path.suffix == ".png" else "JPEG", quality=60 + index * 7 % 36)
        write_whole(path, buffer.getvalue())
    return {"path": path.relative_to(folder).as_posix(), "source": f"drawn/{label}/{index}", "open_licence": "yes"}
