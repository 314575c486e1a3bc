"""Count photos by class and source, plot their sizes, and propose an input size.

    python -m dataset stats PHOTOS --recipe classroom    # writes runs/classroom/stats/

The command writes stats.json, w_distribu.png and h_distribu.png (the two plots of the classroom document, by seaborn)
and wh_joint.png. It reads only the headers of the photos.

The proposed size follows the classroom document. It reads from the plots the ranges with a high density,
500 to 1000 pixels wide and 250 to 750 high, and uses the midpoints, 750 x 500. Here the density is a Gaussian kernel
density estimate over all classes (Scott's bandwidth, as in seaborn). It is high where it is at least half of its
maximum, and the ends of the range are rounded to 50 pixels.
"""

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image
from rich.progress import track
from rich.table import Table
from rich.text import Text

from common.cli import command
from common.commands import next_step
from common.console import console, err_console
from common.errors import InvalidInput, NotFound
from common.files import write_json, writing
from common.words import number_of
from config.recipe import NO_CLASS, Recipe, read_recipe
from dataset.auditing.inspect import upright_size
from dataset.contact_sheet import prepare_plots, printable, save_figure
from dataset.listing import composed, files_of
from dataset.photos import is_labelled, read_photos, split_parts
from dataset.splitting.records import recorded
from dataset.splitting.sources import missing_sources
from dataset.tables import read_rows
from handler.decoding.formats import FORMATS

UNLABELLED = "unlabelled"
_STEP = 50  # pixels: the precision with which the classroom document reads its plots
_SMALL = 4 * _STEP  # sizes below this are not rounded to _STEP: 32 x 32 would become 50 x 50
_QUANTILES = (0, 5, 25, 50, 75, 95, 100)


@dataclass(frozen=True)
class SizedPhoto:
    """A photo's file, class and source, and its upright size in pixels; 0 x 0 if it cannot be read."""

    path: Path
    label: str
    source: str
    width: int = 0
    height: int = 0


@command(epilog="Example: python -m dataset stats runs/drawn --recipe shapes")
@click.argument("place", type=click.Path(exists=True, path_type=Path))
@click.option("--recipe", "name", default="classroom", show_default=True, help="Recipe with the labels.")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Folder to write.  [default: runs/RECIPE/stats]"
)
def stats(place: Path, name: str, out: Path | None) -> None:
    """Count and plot the photos of PLACE: label folders, a split folder, a table, or any folder of photos."""
    recipe = read_recipe(name)
    out = out or Path("runs") / recipe.name / "stats"
    listed = _list_photos(place, recipe)
    sized = [_with_size(photo) for photo in track(listed, "reading sizes", console=err_console, transient=True)]
    photos = [photo for photo in sized if photo.width]
    unreadable = [photo.path for photo in sized if not photo.width]
    if not photos:
        raise NotFound(f"none of the {len(sized)} files in {place} is a photo", "see why with python -m dataset audit")
    summary = summarise(photos, unreadable, recipe)
    with writing(out, "give another --out"):
        write_json(out / "stats.json", _encodable({"place": str(place), **asdict(summary)}))
        draw_plots(photos, summary.dense, out)
    _report(photos, unreadable, summary, recipe, out)
    if any(photo.label == UNLABELLED for photo in photos):
        if place.is_dir():
            next_step("dataset", "label", place, "--recipe", name)
    elif place.is_dir() and split_parts(place, recipe.labels, recipe.aliases):
        next_step("training", "train", name, "--data", place)
    else:
        audit = (place if place.is_dir() else place.parent) / "audit.tsv"
        next_step("dataset", "split", place, "--recipe", name, *(("--audit", audit) if audit.is_file() else ()))


def dense_range(values: Sequence[int]) -> tuple[int, int]:
    """The range around the peak of the density in which it is at least half as high as the peak.

    Args:
        values: widths or heights in pixels, at least one.

    Returns:
        lowest and highest value; rounded to 50 pixels, or to 1 pixel for small images (median below 200).
    """
    from scipy.stats import gaussian_kde

    step = _STEP if np.median(values) >= _SMALL else 1
    low = high = float(values[0])
    if min(values) < max(values):
        curve = gaussian_kde(values)
        reach = 3 * float(curve.covariance[0, 0]) ** 0.5  # as far as seaborn draws the curve
        grid = np.linspace(min(values) - reach, max(values) + reach, 2048)
        below = curve(grid) < curve(grid).max() / 2
        peak = int(curve(grid).argmax())
        low = float(grid[np.flatnonzero(below[:peak])[-1] + 1])
        high = float(grid[peak + np.flatnonzero(below[peak:])[0] - 1])
    return max(step, round(low / step) * step), max(step, round(high / step) * step)


@dataclass(frozen=True)
class Summary:
    """The content of stats.json.

    Args:
        quantiles: `percent`, and the `width` and `height` at these percentages.
        dense: side -> the range with a high density (`dense_range`).
        proposed: side -> midpoint of that range.
        recipe: side -> the current input of the recipe.
    """

    photos: int
    unreadable: list[str]
    by_class: dict[str, int]
    by_source: dict[str, int]
    by_class_and_source: dict[str, dict[str, int]]
    quantiles: dict[str, Sequence[int]]
    dense: dict[str, tuple[int, int]]
    proposed: dict[str, int]
    recipe: dict[str, int]


def summarise(photos: Sequence[SizedPhoto], unreadable: Sequence[Path], recipe: Recipe) -> Summary:
    """Count photos, measure their sizes and propose an input size."""
    widths, heights = [photo.width for photo in photos], [photo.height for photo in photos]
    dense = {"width": dense_range(widths), "height": dense_range(heights)}
    labels = dict.fromkeys(photo.label for photo in photos)
    return Summary(
        photos=len(photos),
        unreadable=[str(path) for path in unreadable],
        by_class=_count(photo.label for photo in photos),
        by_source=_count(photo.source for photo in photos),
        by_class_and_source={
            label: _count(photo.source for photo in photos if photo.label == label) for label in labels
        },
        quantiles={"percent": _QUANTILES, "width": _quantiles(widths), "height": _quantiles(heights)},
        dense=dense,
        proposed={side: sum(ends) // 2 for side, ends in dense.items()},
        recipe={"width": recipe.input.width, "height": recipe.input.height},
    )


def draw_plots(photos: Sequence[SizedPhoto], dense: Mapping[str, tuple[int, int]], out: Path) -> None:
    """Draw the two distributions of the classroom document, and a joint plot.

    Raises:
        OSError: they cannot be written.
    """
    prepare_plots()
    import seaborn  # type: ignore[import-untyped]

    classes = [printable(photo.label) for photo in photos]
    data: dict[str, Sequence[Any]] = {"width": [p.width for p in photos], "height": [p.height for p in photos]}
    data["class"] = classes
    seaborn.set_theme(style="whitegrid", rc=_fonts())
    _draw_one(data, "width", dense["width"], out / "w_distribu.png")
    _draw_one(data, "height", dense["height"], out / "h_distribu.png")
    joint = seaborn.JointGrid(data, x="width", y="height", hue="class")
    joint.plot_joint(seaborn.scatterplot, alpha=0.6)
    joint.plot_marginals(seaborn.histplot, multiple="stack", bins=40)
    joint.ax_joint.axvline(sum(dense["width"]) / 2, color="black", linestyle="--", linewidth=1)
    joint.ax_joint.axhline(sum(dense["height"]) / 2, color="black", linestyle="--", linewidth=1)
    joint.set_axis_labels("width (pixels)", "height (pixels)")
    save_figure(joint.figure, out / "wh_joint.png")


def _draw_one(data: Mapping[str, Sequence[Any]], side: str, dense: tuple[int, int], path: Path) -> None:
    import seaborn
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5))
    values = set(zip(data[side], data["class"], strict=True))
    curves = all(
        sum(label == name for _, label in values) > 1 for name in set(data["class"])
    )  # seaborn needs two different values for a curve
    seaborn.histplot(data, x=side, hue="class", kde=curves, multiple="stack", bins=40, ax=axes)
    axes.axvspan(*dense, color="black", alpha=0.08)
    axes.axvline(sum(dense) / 2, color="black", linestyle="--")
    axes.set_title(f"{side}: high density from {dense[0]} to {dense[1]} pixels, midpoint {sum(dense) // 2}")
    axes.set_xlabel(f"{side} (pixels)")
    axes.set_ylabel("photos")
    save_figure(figure, path)


def _fonts() -> dict[str, Any]:
    import matplotlib

    return {"font.family": matplotlib.rcParams["font.family"]}  # set_theme would override it


def _list_photos(place: Path, recipe: Recipe) -> list[SizedPhoto]:
    if is_labelled(place, recipe.labels, recipe.aliases) or (
        place.is_file() and "label" in (read_rows(place) or [{"label": ""}])[0]
    ):
        photos = read_photos(place, recipe.labels, aliases=recipe.aliases, outside=True)
        names = (*recipe.labels, NO_CLASS)
        if warning := missing_sources(photos):
            err_console.print(f"[yellow]warning: {warning}: see python -m dataset split --help, --source-from")
        return [SizedPhoto(photo.path, names[photo.label], photo.source) for photo in photos]
    unlabelled = _rows(place) if place.is_file() else _files(place)
    if not unlabelled:
        raise NotFound(f"{place} has no photo to count", "give a folder or a table of photos")
    return unlabelled


def _rows(table: Path) -> list[SizedPhoto]:
    """The photos of a table without labels; of an audit's table only those that are ok."""
    rows = [row for row in read_rows(table, ("path",)) if row.get("verdict", "ok") == "ok"]
    return [SizedPhoto(table.parent / row["path"], UNLABELLED, row.get("source") or row["path"]) for row in rows]


def _files(folder: Path) -> list[SizedPhoto]:
    rows = recorded(folder)
    try:
        names = [path.relative_to(folder).as_posix() for path in files_of(folder, links=True)]
    except OSError as error:
        raise InvalidInput(f"{error.filename} cannot be listed: {error.strerror}") from error
    return [SizedPhoto(folder / name, UNLABELLED, rows.get(composed(name), {}).get("source") or name) for name in names]


def _with_size(photo: SizedPhoto) -> SizedPhoto:
    """The photo with its size from the header, or unchanged if it cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # broken EXIF, many pixels: `dataset audit` reports them
            with Image.open(photo.path, formats=FORMATS) as picture:
                return SizedPhoto(photo.path, photo.label, photo.source, *upright_size(picture))
    except Exception:  # Pillow raises nearly every built-in exception on files that are not images
        return photo


def _count(names: Iterable[str]) -> dict[str, int]:
    return dict(Counter(names).most_common())


def _quantiles(values: Sequence[int]) -> list[int]:
    return [round(float(value)) for value in np.percentile(values, _QUANTILES)]


def _encodable(content: Any) -> Any:
    """Replace bytes of names that are not UTF-8, because JSON cannot contain them."""
    if isinstance(content, dict):
        return {_encodable(key): _encodable(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_encodable(value) for value in content]
    return printable(content) if isinstance(content, str) else content


def _report(
    photos: Sequence[SizedPhoto], unreadable: Sequence[Path], summary: Summary, recipe: Recipe, out: Path
) -> None:
    console.print(class_table(photos))
    for path in unreadable[:10]:
        click.echo(printable(f"  {path}: unreadable, not counted"))
    if unreadable:
        click.echo(
            f"{number_of(len(unreadable), 'file is', 'files are')} unreadable: see why with python -m dataset audit",
            err=True,
        )
    (left, right), (low, high) = summary.dense["width"], summary.dense["height"]
    click.echo(f"most photos are {left} to {right} pixels wide and {low} to {high} pixels high; the midpoints are the")
    click.echo(
        f"proposed input: W {summary.proposed['width']} x H {summary.proposed['height']}"
        f" (recipe {recipe.name} has W {recipe.input.width} x H {recipe.input.height})"
    )
    click.echo(f"{out}: stats.json, w_distribu.png, h_distribu.png, wh_joint.png")


def class_table(photos: Sequence[SizedPhoto]) -> Table:
    """A table of the classes, the largest first."""
    table = Table()
    table.add_column("class", overflow="fold")
    for name in ("photos", "sources", "median size"):
        table.add_column(name, justify="right", no_wrap=True)
    for label, count in _count(photo.label for photo in photos).items():
        members = [photo for photo in photos if photo.label == label]
        width, height = (int(np.median([getattr(photo, side) for photo in members])) for side in ("width", "height"))
        sources = {photo.source for photo in members}
        table.add_row(Text(printable(label)), str(count), str(len(sources)), f"{width}x{height}")
    return table
