"""How many photos there are of which class and source, how large they are, and what input size that suggests.

    python -m dataset stats PHOTOS --recipe classroom    # writes runs/classroom/stats/

stats.json, w_distribu.png and h_distribu.png (the document's two plots, by seaborn), wh_joint.png. Of a photo
only its header is read.

The proposed size is the document's ("classroom", distribution of widths and heights): it reads off the plots
where density is high, 500 to 1000 wide and 250 to 750 high, and takes the middles, 750 x 500. Here density is
high where the curve over all classes (a Gaussian kernel density, Scott's bandwidth, as seaborn draws it) is at
least half as high as at its peak; the ends are rounded to 50 pixels.
"""

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track

from common.cli import command
from common.errors import UserError
from common.files import write_json
from config.recipe import Recipe, read_recipe
from dataset.auditing.inspect import upright_size
from dataset.contact_sheet import prepare_plots, printable, save_figure
from dataset.files import files_of
from dataset.photos import TABLE, read_photos, split_parts
from dataset.tables import read_rows
from handler.image import FORMATS

UNLABELLED = "unlabelled"
_ROUND = 50  # pixels: as coarse as the document reads its plots
_FINE = 4 * _ROUND  # pictures smaller than this are not rounded: nothing would be left of 32 x 32
_QUANTILES = (0, 5, 25, 50, 75, 95, 100)


@dataclass(frozen=True)
class Sized:
    """A photo's file, class and source, and its size in pixels, upright."""

    path: Path
    label: str
    source: str
    width: int = 0
    height: int = 0


@command(epilog="Example: python -m dataset stats runs/drawn --recipe shapes")
@click.argument("place", type=click.Path(exists=True, path_type=Path))
@click.option("--recipe", "name", default="classroom", show_default=True, help="Whose labels.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder.  [default: runs/RECIPE/stats]")
def stats(place: Path, name: str, out: Path | None) -> None:
    """Count and plot the photos of PLACE: label folders, a split folder, a table, or any folder of photos."""
    recipe = read_recipe(name)
    out = out or Path("runs") / recipe.name / "stats"
    console = Console(stderr=True)
    listed = _listed(place, recipe)
    found = [_sized(photo) for photo in track(listed, "reading sizes", console=console, transient=True)]
    photos = [photo for photo in found if photo.width]
    unreadable = [photo.path for photo in found if not photo.width]
    if not photos:
        raise UserError(f"{place}: none of {len(found)} files is a photo: python -m dataset audit says why")
    summary = summarise(photos, unreadable, recipe)
    try:
        write_json(out / "stats.json", _encodable({"place": str(place), **summary}))
        draw_plots(photos, summary["dense"], out)
    except OSError as error:
        raise UserError(f"{out} cannot be written: {error.strerror}: give another --out") from error
    _tell(photos, unreadable, summary, recipe, out)


def dense_range(values: Sequence[int]) -> tuple[int, int]:
    """Where most values lie: around the peak of their density, as far as it is at least half as high.

    Args:
        values: widths or heights in pixels, at least one.

    Returns:
        lowest, highest; rounded to 50 pixels, or to 1 where the pictures are small.
    """
    from scipy.stats import gaussian_kde

    step = _ROUND if np.median(values) >= _FINE else 1
    low = high = float(values[0])
    if min(values) < max(values):
        curve = gaussian_kde(values)
        reach = 3 * float(curve.covariance[0, 0]) ** 0.5  # seaborn's cut
        grid = np.linspace(min(values) - reach, max(values) + reach, 2048)
        below = curve(grid) < curve(grid).max() / 2
        peak = int(curve(grid).argmax())
        low = float(grid[np.flatnonzero(below[:peak])[-1] + 1])
        high = float(grid[peak + np.flatnonzero(below[peak:])[0] - 1])
    return max(step, round(low / step) * step), max(step, round(high / step) * step)


def summarise(photos: Sequence[Sized], unreadable: Sequence[Path], recipe: Recipe) -> dict[str, Any]:
    """Counts, sizes and the proposed input size, as stats.json has them."""
    widths, heights = [photo.width for photo in photos], [photo.height for photo in photos]
    dense = {"width": dense_range(widths), "height": dense_range(heights)}
    labels = dict.fromkeys(photo.label for photo in photos)
    return {
        "photos": len(photos),
        "unreadable": [str(path) for path in unreadable],
        "by_class": _counted(photo.label for photo in photos),
        "by_source": _counted(photo.source for photo in photos),
        "by_class_and_source": {
            label: _counted(photo.source for photo in photos if photo.label == label) for label in labels
        },
        "quantiles": {"percent": _QUANTILES, "width": _quantiles(widths), "height": _quantiles(heights)},
        "dense": dense,
        "proposed": {side: sum(ends) // 2 for side, ends in dense.items()},
        "recipe": {"width": recipe.input.width, "height": recipe.input.height},
    }


def draw_plots(photos: Sequence[Sized], dense: Mapping[str, tuple[int, int]], out: Path) -> None:
    """Draw the document's two distributions and a joint plot.

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
    joint.set_axis_labels("width in pixels", "height in pixels")
    save_figure(joint.figure, out / "wh_joint.png")


def _draw_one(data: Mapping[str, Sequence[Any]], side: str, dense: tuple[int, int], path: Path) -> None:
    import seaborn
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5))
    values = set(zip(data[side], data["class"], strict=True))
    curves = all(sum(label == name for _, label in values) > 1 for name in set(data["class"]))  # one value has none
    seaborn.histplot(data, x=side, hue="class", kde=curves, multiple="stack", bins=40, ax=axes)
    axes.axvspan(*dense, color="black", alpha=0.08)
    axes.axvline(sum(dense) / 2, color="black", linestyle="--")
    axes.set_title(f"{side}: densest from {dense[0]} to {dense[1]}, middle {sum(dense) // 2}")
    axes.set_xlabel(f"{side} in pixels")
    axes.set_ylabel("photos")
    save_figure(figure, path)


def _fonts() -> dict[str, Any]:
    import matplotlib

    return {"font.family": matplotlib.rcParams["font.family"]}  # set_theme would put its own


def _listed(place: Path, recipe: Recipe) -> list[Sized]:
    named = any((place / name).is_dir() for name in (*recipe.labels, *recipe.aliases))
    labelled = named or bool(split_parts(place, recipe.labels, recipe.aliases))
    if labelled or (place.is_file() and "label" in (read_rows(place) or [{"label": ""}])[0]):
        photos = read_photos(place, recipe.labels, aliases=recipe.aliases)
        return [Sized(photo.path, recipe.labels[photo.label], photo.source) for photo in photos]
    found = _rows(place) if place.is_file() else _files(place)
    if not found:
        raise UserError(f"{place}: no photo to count: give a folder or a table of photos")
    return found


def _rows(table: Path) -> list[Sized]:
    """A table without labels, such as the audit's: of that the sound photos."""
    rows = [row for row in read_rows(table, ("path",)) if row.get("verdict", "ok") == "ok"]
    return [Sized(table.parent / row["path"], UNLABELLED, row.get("source") or row["path"]) for row in rows]


def _files(folder: Path) -> list[Sized]:
    table = folder / TABLE
    sources = {row["path"]: row.get("source") for row in read_rows(table, ("path",))} if table.is_file() else {}
    try:
        names = [path.relative_to(folder).as_posix() for path in files_of(folder)]
    except OSError as error:
        raise UserError(f"{error.filename} cannot be listed: {error.strerror}") from error
    return [Sized(folder / name, UNLABELLED, sources.get(name) or name) for name in names]


def _sized(photo: Sized) -> Sized:
    """The photo with its size, from the header alone; 0 x 0 where there is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # broken EXIF, many pixels: the audit's business
            with Image.open(photo.path, formats=FORMATS) as picture:
                return Sized(photo.path, photo.label, photo.source, *upright_size(picture))
    except Exception:  # Pillow raises nearly every built-in exception on what is no picture
        return photo


def _counted(names: Iterable[str]) -> dict[str, int]:
    return dict(Counter(names).most_common())


def _quantiles(values: Sequence[int]) -> list[int]:
    return [round(float(value)) for value in np.percentile(values, _QUANTILES)]


def _encodable(content: Any) -> Any:
    """Names that are no UTF-8 cannot stand in JSON as they are."""
    if isinstance(content, dict):
        return {_encodable(key): _encodable(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_encodable(value) for value in content]
    return printable(content) if isinstance(content, str) else content


def _tell(
    photos: Sequence[Sized], unreadable: Sequence[Path], summary: dict[str, Any], recipe: Recipe, out: Path
) -> None:
    click.echo("  photos  sources  median size  class")
    for label, count in summary["by_class"].items():
        mine = [photo for photo in photos if photo.label == label]
        size = "x".join(str(int(np.median([getattr(p, side) for p in mine]))) for side in ("width", "height"))
        click.echo(f"{count:8d} {len({photo.source for photo in mine}):8d}  {size:>11}  {printable(label)}")
    for path in unreadable[:10]:
        click.echo(printable(f"  {path}: unreadable, not counted"))
    if unreadable:
        click.echo(f"{len(unreadable)} files are unreadable: python -m dataset audit says why", err=True)
    proposed, (left, right), (low, high) = summary["proposed"], summary["dense"]["width"], summary["dense"]["height"]
    click.echo(f"densest: from {left} to {right} wide, from {low} to {high} high; the middles are the")
    click.echo(
        f"proposed input: W {proposed['width']} x H {proposed['height']}"
        f" (recipe {recipe.name} has W {recipe.input.width} x H {recipe.input.height})"
    )
    click.echo(f"{out}: stats.json, w_distribu.png, h_distribu.png, wh_joint.png")
