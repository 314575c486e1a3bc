"""Write the report of scored photos: one page that opens from disk without the internet, and CSV files beside it.

    python -m reports build scores/march --review review --out site

With a reviewed sample (`reports sample`) the shares are corrected for the classifier's errors.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import numpy as np

from common.cli import command
from common.console import note, say
from common.errors import InvalidInput
from common.files import new_folder, write_whole
from common.words import number_of
from reports.counting.alarms import ALARM_COLUMNS, PHOTO_COLUMNS, alarm_rows, in_words, photos_of_alarm
from reports.counting.days import MEASURES, measure_days
from reports.counting.photos import REGION_CODES, Photos, read_photos
from reports.counting.review import Reviewed, read_review
from reports.manifest.dates import CHINA
from reports.manifest.regions import UNKNOWN
from reports.manifest.spreadsheet import write_csv
from reports.scoring.job import Job, label_of, read_job, read_parts
from reports.shares.correct import MIN_REVIEWED, Accuracy, accuracy_of_strata
from reports.shares.drift import find_alarms
from reports.site.page import render
from reports.site.tables import (
    INSTITUTION_COLUMNS,
    REGION_COLUMNS,
    SHARE_COLUMNS,
    Tables,
    make_tables,
    percent,
)

MOST_WEEKS = 1040
"""Twenty years: a longer period is a wrong date, and the page would be too large for a browser."""

_REASONS = {
    "uncorrected": "draw a sample with photoloop reports sample, label it, and give --review",
    "uncorrected_few": f"fewer than {MIN_REVIEWED} photos are reviewed: label more of the sample",
    "uncorrected_poor": "the classifier is little better than guessing on the reviewed photos: check their labels",
}


@command(epilog="Example: python -m reports build scores/1 --out site/1")
@click.argument("scores", type=click.Path(file_okay=False, path_type=Path))
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder of the report.")
@click.option("--label", help="Label whose share is reported.  [default: the last of the recipe]")
@click.option("--review", type=click.Path(file_okay=False, path_type=Path), help="Folder of `reports sample`.")
@click.option(
    "--labels", type=click.Path(path_type=Path), help="Labels of the sample.  [default: REVIEW/photos/labels.tsv]"
)
@click.option("--en", help='What the label means, in English: "taught online".  [default: the label]')
@click.option("--zh", help="What the label means, in Chinese.  [default: the label]")
def build(
    scores: Path, out: Path, label: str | None, review: Path | None, labels: Path | None, en: str | None, zh: str | None
) -> None:
    """Write the report of SCORES into --out."""
    job = read_job(scores)
    label = label_of(job, label)
    photos = read_photos(job, label)
    require_few_weeks(job, photos.weeks)
    reviewed = read_review(review, labels, job, label) if review else None
    accuracy = accuracy_of_strata(reviewed.strata, reviewed.outside) if reviewed else None
    tables = make_tables(photos, accuracy)
    days = measure_days([job], label)
    distances, alarms = find_alarms(days.values, days.sampling)
    with new_folder(out) as work:
        write_csv(work / "shares.csv", SHARE_COLUMNS, tables.shares)
        write_csv(work / "institutions.csv", INSTITUTION_COLUMNS, tables.institutions)
        write_csv(work / "regions.csv", REGION_COLUMNS, tables.regions)
        write_csv(work / "drift.csv", ALARM_COLUMNS, alarm_rows(days, distances, alarms, MEASURES))
        write_csv(work / "farthest.csv", PHOTO_COLUMNS, photos_of_alarm([job], label, days, distances, alarms))
        names = {"en": en or f"“{label}”", "zh": zh or f"“{label}”"}
        page = render(
            {**_data(job, photos, tables, reviewed, accuracy, in_words(distances, alarms, MEASURES)), "names": names}
        )
        write_whole(work / "index.html", page.encode())
    counts = {"photo": len(photos.week), "week": photos.weeks, "institution": len(photos.institutions)}
    say(f"{out / 'index.html'}: {', '.join(number_of(count, noun) for noun, count in counts.items())}")
    _say_review(reviewed, accuracy)


def require_few_weeks(job: Job, weeks: int) -> None:
    """Raises: InvalidInput: the photos span so many weeks that a date must be wrong."""
    if weeks <= MOST_WEEKS:
        return
    table = read_parts(job, ("published_at", "photo_id")).sort_by("published_at").take([0, job.photos - 1])
    ends = [f"{row['published_at'].astimezone(CHINA):%Y-%m-%d} ({row['photo_id']})" for row in table.to_pylist()]
    raise InvalidInput(
        f"{job.folder} spans {weeks} weeks, from {' to '.join(ends)}; at most {MOST_WEEKS} fit a report",
        "correct the date in the manifest and score it again, or split the manifest",
    )


def why_uncorrected(accuracy: Accuracy | None) -> str | None:
    """Why shares are not corrected, as a key of the page's words; None: they are."""
    if accuracy is None:
        return "uncorrected"
    if accuracy.reviewed < MIN_REVIEWED:
        return "uncorrected_few"
    return None if accuracy.usable else "uncorrected_poor"


def _say_review(reviewed: Reviewed | None, accuracy: Accuracy | None) -> None:
    if reviewed and accuracy:
        for text in reviewed.notes:
            note(text)
        neither = f", {reviewed.neither} show none of the labels" if reviewed.neither else ""
        say(f"reviewed {accuracy.reviewed} of {number_of(reviewed.drawn, 'photo')}{neither}")
    if reason := why_uncorrected(accuracy):
        say(f"shares are not corrected: {_REASONS[reason]}")


def _data(
    job: Job, photos: Photos, tables: Tables, reviewed: Reviewed | None, accuracy: Accuracy | None, drift: str
) -> dict[str, Any]:
    starts = photos.week_starts()
    facts = {
        "from": starts[0].isoformat(),
        "to": (starts[-1] + timedelta(days=6)).isoformat(),
        "weeks": photos.weeks,
        "photos": len(photos.week),
        "uncorrected": why_uncorrected(accuracy),
    }
    return {
        "shares": tables.shares,
        "institutions": tables.institutions,
        "regions": tables.regions,
        "facts": facts,
        "basis": [*_basis(job, photos, facts).items(), *_review_facts(reviewed, accuracy).items(), ("drift", drift)],
    }


def _basis(job: Job, photos: Photos, facts: Mapping[str, Any]) -> dict[str, object]:
    codes = ", ".join(f"{count} {code}" for code, count in sorted(photos.codes.items()))
    return {
        "model": f"{job.model} {job.version}",
        "digest": job.digest,
        "manifest": Path(job.manifest).name,
        "period": f"{facts['from']} – {facts['to']} (Asia/Shanghai)",
        "photos": len(photos.week),
        "counted": int(photos.counted.sum()),
        "duplicates": int(photos.duplicate.sum()),
        "unsure": int((photos.counted & photos.unsure).sum()),
        "out_of_scope": int(photos.left_out.sum()) if photos.scope_known else None,
        "scope_range": _scope_range(photos) if photos.scope_known else None,
        "errors": f"{int(photos.error.sum())}" + (f" ({codes})" if codes else ""),
        "unknown_regions": int((photos.region == REGION_CODES.index(UNKNOWN)).sum()),
        "made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _scope_range(photos: Photos) -> str:
    """The read share if none, or all, of the out-of-scope photos showed the label: how much the scope can matter."""
    outside, counted = int(photos.left_out.sum()), int(photos.counted.sum())
    positive, total = int((photos.counted & photos.positive).sum()), max(counted + outside, 1)
    return f"{percent(positive / total)} – {percent((positive + outside) / total)} %"


def _review_facts(reviewed: Reviewed | None, accuracy: Accuracy | None) -> dict[str, object]:
    if reviewed is None or accuracy is None:
        return {"reviewed": None}
    text = f"{accuracy.reviewed} / {reviewed.drawn}"
    if reviewed.neither:
        text += f" (+{reviewed.neither} neither label)"
    found = reviewed.outside
    beyond = f"{found.label + found.other} / {found.reviewed}" if found and found.reviewed else None
    return {
        "reviewed": text,
        "outside_reviewed": beyond,
        "sensitivity": _rate(accuracy.sensitivity) if accuracy.reviewed else None,
        "specificity": _rate(accuracy.specificity) if accuracy.reviewed else None,
    }


def _rate(draws: Any) -> str:
    low, middle, high = np.quantile(draws, (0.025, 0.5, 0.975))
    return f"{percent(middle)} % ({percent(low)} – {percent(high)} %)"
