"""Images for people: contact sheets of photos, and plots saved as files."""

import warnings
from collections.abc import Collection, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont, ImageOps

from common.files import write_whole
from handler.errors import RequestError
from handler.image import open_photo
from handler.spec import Limits

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CAPTION = 20  # pixels below a tile
_GAP = 8
_GREY = (190, 190, 190)
_RED = (200, 0, 0)
# Fonts for scripts that matplotlib's default font lacks; those that are installed are used.
_FONTS = ("DejaVu Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Zen Hei", "SimHei", "PingFang SC")


def contact_sheet(
    entries: Sequence[tuple[Path | Image.Image, str]], columns: int = 6, tile: int = 240, marked: Collection[int] = ()
) -> Image.Image:
    """Arrange photos in a grid, each uncropped on a square tile with a caption; an unreadable photo is a grey tile.

    Args:
        entries: (photo or its file, caption), row by row. A caption that is wider than its tile is shortened.
        columns: of the grid, at most.
        tile: side of a tile in pixels.
        marked: indices of entries that get a red frame and a red caption.

    Returns:
        RGB.
    """
    columns = max(1, min(columns, len(entries)))
    rows = max(1, -(-len(entries) // columns))
    across, down = tile + _GAP, tile + _CAPTION + _GAP
    sheet = Image.new("RGB", (columns * across + _GAP, rows * down + _GAP), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for place, (source, caption) in enumerate(entries):
        x, y = _GAP + place % columns * across, _GAP + place // columns * down
        sheet.paste(_tile(source, tile), (x, y))
        colour = _RED if place in marked else "black"
        if place in marked:
            pen.rectangle((x - 3, y - 3, x + tile + 2, y + tile + 2), outline=_RED, width=5)
        pen.text((x, y + tile + 3), _shorten(printable(caption), font, tile), fill=colour, font=font)
    return sheet


def printable(text: str) -> str:
    """A name that a terminal and a font can display: control characters and bytes that are not UTF-8 become `?`."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def save_figure(figure: "Figure", path: Path) -> None:
    """Write a plot as PNG, completely or not at all, and close it.

    Raises:
        OSError: it cannot be written.
    """
    from matplotlib import pyplot

    buffer = BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing")  # no installed font has this script: boxes are drawn
            figure.savefig(buffer, format="png", dpi=120, bbox_inches="tight")
    finally:
        pyplot.close(figure)
    write_whole(path, buffer.getvalue())


def prepare_plots() -> None:
    """Make matplotlib draw to files, without a screen, and use the installed fonts for any script."""
    import matplotlib
    from matplotlib import font_manager

    matplotlib.use("Agg")
    installed = {font.name for font in font_manager.fontManager.ttflist}
    matplotlib.rcParams["font.family"] = [name for name in _FONTS if name in installed]
    matplotlib.rcParams["legend.loc"] = "upper right"  # its default, "best", is slow with many points


def _tile(source: Path | Image.Image, side: int) -> Image.Image:
    try:
        photo = source if isinstance(source, Image.Image) else open_photo(source.read_bytes(), Limits())
    except (OSError, RequestError):
        return Image.new("RGB", (side, side), _GREY)
    return ImageOps.pad(photo.convert("RGB"), (side, side), color="white")


def _shorten(text: str, font: "ImageFont.FreeTypeFont | ImageFont.ImageFont", width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."
