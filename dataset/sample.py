"""Draw sample photos, to try every command without a data set.

    python -m dataset sample runs/drawn --recipe classroom --count 40

writes runs/drawn/LABEL/0000.jpg ... and SOURCES.tsv, in which every drawn photo is a separate source with an open
licence. If the recipe has a drawing for `no_class`, photos of none of its labels are drawn too. If it is interrupted,
run it again to continue.
"""

from io import BytesIO
from pathlib import Path

import click
from rich.progress import track

from common.cli import command
from common.commands import next_step
from common.errors import InvalidInput
from common.files import write_whole, writing
from config.recipe import NO_CLASS, Recipe, read_recipe
from dataset.draw import draw
from dataset.photos import TABLE
from dataset.tables import Row, write_rows


@command(epilog="Example: python -m dataset sample runs/drawn --recipe shapes --count 30")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--recipe", "name", default="classroom", show_default=True, help="Recipe with the labels and drawings.")
@click.option("--count", default=40, show_default=True, type=click.IntRange(1), help="Photos per label.")
@click.option("--seed", default=0, show_default=True, help="The same seed gives the same photos.")
def sample(folder: Path, name: str, count: int, seed: int) -> None:
    """Draw sample photos into FOLDER, one folder per label."""
    recipe = read_recipe(name)
    draw_set(folder, recipe, count, seed)
    click.echo(f"{folder}: {count} drawn photos for each of {', '.join(_labels(recipe))}")
    next_step("dataset", "audit", folder, "--recipe", name)


def draw_set(folder: Path, recipe: Recipe, count: int, seed: int) -> None:
    """Draw `count` photos of each label: three JPEGs of different qualities, then a PNG, and so on.

    Raises:
        InvalidInput: a label has no drawing.
        CannotWrite: the folder cannot be written.
    """
    missing = [label for label in recipe.labels if label not in recipe.drawn]
    if missing:
        raise InvalidInput(
            f"recipe {recipe.name} has no drawing for {', '.join(missing)}", "add it to the recipe's drawn section"
        )
    with writing(folder):
        plan = [(label, index) for label in _labels(recipe) for index in range(count)]
        rows = [_draw_one(folder, recipe, *pair, seed) for pair in track(plan, "drawing", transient=True)]
        write_rows(folder / TABLE, ("path", "source", "open_licence"), rows)


def _labels(recipe: Recipe) -> list[str]:
    """The labels to draw: the recipe's, and `no_class` if the recipe has a drawing for it."""
    return [*recipe.labels, *(label for label in recipe.drawn if label == NO_CLASS)]


def _draw_one(folder: Path, recipe: Recipe, label: str, index: int, seed: int) -> Row:
    path = folder / label / (f"{index:04d}.png" if index % 4 == 3 else f"{index:04d}.jpg")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        buffer = BytesIO()
        picture = draw(recipe.drawn[label], seed * 1_000_003 + index)
        picture.save(buffer, "PNG" if path.suffix == ".png" else "JPEG", quality=60 + index * 7 % 36)
        write_whole(path, buffer.getvalue())
    return {"path": path.relative_to(folder).as_posix(), "source": f"drawn/{label}/{index}", "open_licence": "yes"}
