"""Draw an example: institutions of all 34 regions that move to another way of teaching during a wave.

    python -m reports sample-data drawn

writes drawn/photos, drawn/manifest.csv and drawn/truth.csv (the label that each photo shows, and the week in which its
institution moved). The wave begins in one region and reaches its neighbours on the tile map. Some photos are posted
twice, some are posters, some are damaged. If it is interrupted, run it again to continue;
with other options it needs another folder.
"""

from pathlib import Path

import click
from rich.progress import track

from common.cli import command
from common.commands import next_step
from common.console import say
from common.errors import InvalidInput
from common.files import writing
from common.words import number_of
from config.recipe import read_recipe
from reports.drawing.wave import Plan, Post, keep_options, plan_posts, write_photo
from reports.manifest.regions import REGIONS
from reports.manifest.spreadsheet import write_csv

COLUMNS = ("photo_id", "path", "institution", "region", "published_at", "title")
TRUTH = ("photo_id", "label", "institution", "moved", "back")


@command(epilog="Example: python -m reports sample-data drawn --weeks 12")
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--recipe", "name", default="classroom", show_default=True, help="Recipe with the labels and drawings.")
@click.option("--weeks", default=16, show_default=True, type=click.IntRange(4, 104))
@click.option("--institutions", default=3, show_default=True, type=click.IntRange(1, 100), help="In each region.")
@click.option(
    "--photos", default=5, show_default=True, type=click.IntRange(1, 100), help="An institution posts a week."
)
@click.option("--regions", default=34, show_default=True, type=click.IntRange(1, 34))
@click.option(
    "--pictures", default=60, show_default=True, type=click.IntRange(1), help="Different pictures of a label."
)
@click.option("--seed", default=0, show_default=True, help="The same seed gives the same photos.")
def sample_data(
    out: Path, name: str, weeks: int, institutions: int, photos: int, regions: int, pictures: int, seed: int
) -> None:
    """Draw example photos and their manifest into OUT."""
    recipe = read_recipe(name)
    if missing := [label for label in recipe.labels[:2] if label not in recipe.drawn]:
        raise InvalidInput(f"recipe {recipe.name} has no drawing for {', '.join(missing)}", "give another --recipe")
    before, after = recipe.labels[:2]
    posts = plan_posts(Plan(list(REGIONS)[:regions], weeks, institutions, photos, before, after, seed, pictures))
    options = {"recipe": name, "weeks": weeks, "institutions": institutions, "photos": photos}
    with writing(out, "free some disk space, or give another folder"):
        keep_options(out, {**options, "regions": regions, "pictures": pictures, "seed": seed})
        (out / "photos").mkdir(parents=True, exist_ok=True)
        for post in track(posts, "drawing", transient=True):
            write_photo(out / post.path, post, recipe.drawn)
    write_csv(out / "manifest.csv", COLUMNS, [_row(post) for post in posts])
    write_csv(out / "truth.csv", TRUTH, [vars(post) for post in posts])
    where = f"{number_of(regions * institutions, 'institution')} in {number_of(regions, 'region')}"
    say(f"{out}: {number_of(len(posts), 'photo')} of {where}, {weeks} weeks")
    next_step("reports", "check", out / "manifest.csv")


def _row(post: Post) -> dict[str, object]:
    return {**vars(post), "published_at": f"{post.published_at:%Y-%m-%d %H:%M}"}
