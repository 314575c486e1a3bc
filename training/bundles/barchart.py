"""A bar chart of probabilities, with labels in any script that a font here has.

matplotlib's own DejaVu Sans is asked first (Latin, Greek, Cyrillic, Hebrew, Arabic), then Noto Sans for Simplified
Chinese with Japanese kana, for Korean, Thai and Devanagari, which come as packages. What none has is drawn as a box,
and is told.
"""

import functools
import importlib
import io
import re
import warnings
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib import font_manager
from matplotlib.figure import Figure

FIRST_FONT = "DejaVu Sans"
PACKAGES = ("pylopdf_fonts_zh_cn", "pylopdf_fonts_ko", "pylopdf_fonts_th", "pylopdf_fonts_hi")
"""In the order in which they are asked: the Korean font has Han characters, too, in their Korean forms."""


@functools.cache
def families() -> list[str]:
    """The fonts that are asked, in order, by name."""
    paths = [str(importlib.import_module(name).sans_path()) for name in PACKAGES]
    for path in paths:
        font_manager.fontManager.addfont(path)
    return [FIRST_FONT, *(font_manager.FontProperties(fname=path).get_name() for path in paths)]


def bar_chart(title: str, labels: Sequence[str], probabilities: Sequence[float]) -> tuple[bytes, str]:
    """Draw one bar for each label, its value in percent above it.

    Args:
        probabilities: 0 to 1, as many as labels.

    Returns:
        a PNG, and the characters that no font has (drawn as boxes), if any.
    """
    settings: Any = {"font.family": families(), "text.parse_math": False, "axes.unicode_minus": False}
    with matplotlib.rc_context(settings), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        figure = Figure(figsize=(max(6.4, 0.5 * len(labels) + 1.5), 5), layout="constrained")
        axes = figure.add_subplot()
        bars = axes.bar(range(len(labels)), [100 * p for p in probabilities], 0.6)
        axes.bar_label(bars, fmt="%.2f", padding=2)
        axes.set_xticks(range(len(labels)), labels, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_ylim(0, max(1, 112 * max(probabilities)))
        axes.set_xlabel("class")
        axes.set_ylabel("probability, %")
        axes.set_title(title)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue(), _missing([str(warning.message) for warning in told])


def _missing(messages: Sequence[str]) -> str:
    codes = [int(found[1]) for text in messages if (found := re.match(r"Glyph (\d+) ", text))]
    return "".join(dict.fromkeys(map(chr, codes)))
