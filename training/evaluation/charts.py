"""Charts of a training and of an evaluation."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from training.evaluation.measure import Evaluation
from training.evaluation.metrics import Scores

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_confusion(scores: Scores) -> "Figure":
    """The confusion matrix: a row per label, a column per predicted label."""
    figure = _figure(4.2, 3.6)
    axes = figure.subplots()
    shares = [[count / max(1, sum(row)) for count in row] for row in scores.confusion]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for y, row in enumerate(scores.confusion):
        for x, count in enumerate(row):
            axes.text(x, y, str(count), ha="center", va="center", color="white" if count * 2 > sum(row) else "black")
    ticks = range(len(scores.labels))
    axes.set_xticks(ticks, scores.labels, rotation=30, ha="right")
    axes.set_yticks(ticks, scores.labels)
    axes.set(xlabel="predicted", ylabel="label")
    return figure


def draw_reliability(bins: Sequence[dict[str, float]]) -> "Figure":
    """Accuracy against confidence; the area of a mark is proportional to the photos of its bin."""
    figure = _figure(4.2, 3.6)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], linestyle="--", color="grey", label="perfectly calibrated")
    total = sum(row["photos"] for row in bins)
    sizes = [30 + 400 * row["photos"] / total for row in bins]
    axes.scatter([row["confidence"] for row in bins], [row["accuracy"] for row in bins], s=sizes, alpha=0.7)
    axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1.04), ylim=(0, 1.08))
    axes.legend(loc="lower right")
    return figure


def draw_confidence(evaluation: Evaluation) -> "Figure":
    """The distribution of the confidence on labelled and on ambiguous photos."""
    figure = _figure(6.4, 3.0)
    axes = figure.subplots()
    groups = [("labelled", evaluation.probabilities)]
    if evaluation.ambiguous is not None:
        groups.append(("ambiguous", evaluation.ambiguous.softmax(1)))
    bins = [index / 20 for index in range(21)]
    for name, probabilities in groups:
        values = probabilities.max(1).values.tolist()
        axes.hist(values, bins, weights=[1 / len(values)] * len(values), alpha=0.6, label=f"{name} ({len(values)})")
    axes.set(xlabel="confidence", ylabel="share of photos", xlim=(0, 1))
    axes.legend(loc="upper left")
    return figure


def draw_curves(history: Sequence[dict[str, Any]]) -> "Figure":
    """Training and validation loss and accuracy by epoch; figures that an epoch lacks are left out."""
    figure = _figure(10, 4)
    epochs = [entry["epoch"] for entry in history]
    lines = {
        "loss": {"training": "training_loss", "validation": "validation_loss"},
        "accuracy": {"training": "training_accuracy", "validation, balanced": "validation_mean_accuracy"},
    }
    for axes, (title, names) in zip(figure.subplots(1, 2), lines.items(), strict=True):
        for label, name in names.items():
            axes.plot(epochs, [entry.get(name) for entry in history], marker="o", label=label)
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend(loc="upper right" if title == "loss" else "lower right")
    return figure


def _figure(width: float, height: float) -> "Figure":
    """An empty figure, in inches; matplotlib is imported only when something is drawn."""
    from matplotlib.figure import Figure

    from dataset.contact_sheet import prepare_plots

    prepare_plots()
    return Figure(figsize=(width, height), layout="constrained")
