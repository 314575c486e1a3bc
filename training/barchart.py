"""A bar chart of probabilities, with labels in any script that a font here has.

matplotlib's own DejaVu Sans is asked first, then Noto Sans SC (Simplified Chinese, Japanese kana, Latin, Greek,
Cyrillic), which comes as a package; what neither has would be drawn as a box, and is told instead.
"""

import io
import re
import warnings
from collections.abc import Sequence

import matplotlib
from matplotlib import font_manager
from matplotlib.figure import Figure
from pylopdf_fonts_zh_cn import sans_path

FIRST_FONT = "DejaVu Sans"


def families() -> list[str]:
    """The fonts that are asked, in order, by name."""
    path = str(sans_path())
    font_manager.fontManager.addfont(path)
    return [FIRST_FONT, font_manager.FontProperties(fname=path).get_name()]


def bar_chart(title: str, labels: Sequence[str], probabilities: Sequence[float]) -> tuple[bytes, str]:
    """Draw one bar for each label, its value in percent above it.

    Args:
        probabilities: 0 to 1, as many as labels.

    Returns:
        a PNG, and the characters that no font has (drawn as boxes), if any.
    """
    settings = {"font.family": families(), "text.parse_math": False, "axes.unicode_minus": False}
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
