"""The report of an evaluation: one HTML file with its pictures inside, readable without the internet."""

import base64
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from dataset.contact_sheet import contact_sheet
from training.evaluation.measure import Evidence
from training.fitting.checkpoints import draw_curves
from training.records.run import read_run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEMPLATE = Path(__file__).parent / "report.html.j2"


def render(run: Path, found: Evidence, result: dict[str, Any]) -> str:
    """The HTML of a report; autoescaped, since labels and names are people's text."""
    recipe, facts = read_run(run)
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters["percent"] = lambda value: f"{value:.1%}"
    pictures = {
        "confusion": draw_confusion(found),
        "reliability": draw_reliability(result),
        "confidence": draw_confidence(found),
    }
    if facts.get("epochs"):
        pictures["curves"] = _picture(draw_curves(facts["epochs"]))
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(run=facts, recipe=recipe, scores=found.scores, result=result, pictures=pictures)


def contact_sheet_of(found: Evidence, chosen: Sequence[int]) -> bytes:
    """A JPEG of these photos with label, answer and confidence below each."""
    labels, entries = found.recipe.labels, []
    for index in chosen:
        photo, probabilities = found.photos[index], found.probabilities[index]
        answer = int(probabilities.argmax())
        caption = f"{labels[photo.label]} -> {labels[answer]} {float(probabilities[answer]):.0%}  {photo.path.name}"
        entries.append((photo.path, caption))
    buffer = BytesIO()
    contact_sheet(entries).save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def draw_confusion(found: Evidence) -> str:
    """Rows are labels, columns answers."""
    figure = _figure(4.2, 3.6)
    axes = figure.subplots()
    table = found.scores.confusion
    axes.imshow([[count / max(1, sum(row)) for count in row] for row in table], cmap="Blues", vmin=0, vmax=1)
    for y, row in enumerate(table):
        for x, count in enumerate(row):
            axes.text(x, y, str(count), ha="center", va="center", color="white" if count * 2 > sum(row) else "black")
    places = range(len(table))
    axes.set_xticks(places, found.recipe.labels, rotation=30, ha="right")
    axes.set_yticks(places, found.recipe.labels)
    axes.set(xlabel="answered", ylabel="is")
    return _picture(figure)


def draw_reliability(result: dict[str, Any]) -> str:
    """Accuracy against confidence by bin; the area of a mark says how many photos."""
    figure = _figure(4.2, 3.6)
    axes, bins = figure.subplots(), result["reliability"]
    axes.plot([0, 1], [0, 1], linestyle="--", color="grey", label="as sure as right")
    total = sum(row["photos"] for row in bins)
    sizes = [30 + 400 * row["photos"] / total for row in bins]
    axes.scatter([row["confidence"] for row in bins], [row["accuracy"] for row in bins], s=sizes, alpha=0.7)
    axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1.04), ylim=(0, 1.08))
    axes.legend(loc="lower right")
    return _picture(figure)


def draw_confidence(found: Evidence) -> str:
    """How sure the answers are, of labelled photos and of ambiguous ones."""
    figure = _figure(6.4, 3.0)
    axes = figure.subplots()
    groups = [("labelled", found.probabilities)]
    if found.ambiguous is not None:
        groups.append(("ambiguous", found.ambiguous.softmax(1)))
    bins = [index / 20 for index in range(21)]
    for name, probabilities in groups:
        values = probabilities.max(1).values.tolist()
        axes.hist(values, bins, weights=[1 / len(values)] * len(values), alpha=0.6, label=f"{name} ({len(values)})")
    axes.set(xlabel="confidence", ylabel="share of photos", xlim=(0, 1))
    axes.legend(loc="upper left")
    return _picture(figure)


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    from dataset.contact_sheet import prepare_plots

    prepare_plots()
    return Figure(figsize=(width, height), layout="constrained")


def _picture(figure: "Figure") -> str:
    """A figure as a data: URI."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
