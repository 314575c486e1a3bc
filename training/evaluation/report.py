"""The report of an evaluation: one HTML file with its charts inside, readable without the internet."""

import base64
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from dataset.contact_sheet import contact_sheet
from training.evaluation.charts import draw_confidence, draw_confusion, draw_curves, draw_reliability
from training.evaluation.measure import Evaluation
from training.evaluation.metrics import Scores
from training.records.run import read_recipe_of, read_record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEMPLATE = Path(__file__).parent / "report.html.j2"


def render(run: Path, evaluation: Evaluation, result: dict[str, Any]) -> str:
    """The HTML of a report; text is escaped, since people write labels and names.

    Args:
        run: the folder of the run or bundle.
        result: the content of report.json.
    """
    recipe, record = read_recipe_of(run), read_record(run)
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters["percent"] = lambda value: f"{value:.1%}"
    pictures = {
        "confusion": _data_uri(draw_confusion(evaluation.scores)),
        "reliability": _data_uri(draw_reliability(result["reliability"])),
        "confidence": _data_uri(draw_confidence(evaluation)),
    }
    if record.epochs:
        pictures["curves"] = _data_uri(draw_curves(record.epochs))
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    scores = evaluation.scores
    return template.render(
        run=record.as_json(), recipe=recipe, scores=scores, classes=by_class(scores), result=result, pictures=pictures
    )


def by_class(scores: Scores) -> list[dict[str, Any]]:
    """One row per label, in the recipe's order; `accuracy` and `interval` are None where a label has no photo."""
    figures = scores.as_json()
    return [
        {
            "label": label,
            "hits": row[index],
            "photos": sum(row),
            "predicted": row,
            "accuracy": figures["accuracy"].get(label),
            "interval": figures["accuracy_95"].get(label),
        }
        for index, (label, row) in enumerate(zip(scores.labels, scores.confusion, strict=True))
    ]


def contact_sheet_of(evaluation: Evaluation, chosen: Sequence[int]) -> bytes:
    """A JPEG of these photos, each with label, prediction and confidence below it; errors are framed in red."""
    labels, entries, wrong = evaluation.recipe.labels, [], set()
    for place, index in enumerate(chosen):
        photo, probabilities = evaluation.photos[index], evaluation.probabilities[index]
        predicted = int(probabilities.argmax())
        confidence = float(probabilities[predicted])
        if predicted != photo.label:
            wrong.add(place)
        entries.append(
            (photo.path, f"{labels[photo.label]} -> {labels[predicted]} {confidence:.0%}  {photo.path.name}")
        )
    buffer = BytesIO()
    contact_sheet(entries, marked=wrong).save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def _data_uri(figure: "Figure") -> str:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
