"""Draw scored photos for review, so that shares can be corrected for the classifier's errors in this very period.

    python -m reports sample scores/march --count 300 --out review
    python -m dataset label review/photos
    python -m reports build scores/march --review review --out site

The folder has the photos under numbers, in random order, so a reviewer sees neither the classifier's answer nor the
institution. review/sample.csv says which photo is which. With --feedback the photos go to the review of `photoloop
feedback`, where two people have to agree; the same command, run again, fetches the labels.
"""

from collections import Counter
from errno import ENOENT
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import numpy as np
from PIL import Image
from rich.progress import track

from common.cli import command
from common.commands import next_step, pasteable
from common.console import err_console, note, say
from common.errors import InvalidInput
from common.files import new_folder, write_json, write_whole
from common.words import number_of
from feedback.learning.client import FeedbackServer
from reports.counting.photos import read_photos
from reports.counting.review import draw_sample, members_of
from reports.counting.reviewers import collect, send
from reports.counting.sampled import (
    COLUMNS,
    ORIGIN,
    OTHER,
    OUTSIDE,
    POSITIVE,
    SAMPLE,
    origin_of,
    read_sample,
    require_origin,
)
from reports.manifest.spreadsheet import write_csv
from reports.scoring import fetching
from reports.scoring.job import Job, label_of, read_job, read_parts
from reports.scoring.worker import Task


@command(epilog="Example: python -m reports sample scores/1 --count 300 --out review/1")
@click.argument("scores", type=click.Path(file_okay=False, path_type=Path))
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder for the photos.")
@click.option("--count", default=300, show_default=True, type=click.IntRange(2, 10_000), help="Photos to draw.")
@click.option("--label", help="Label whose share is reported.  [default: the last of the recipe]")
@click.option("--seed", default=0, show_default=True, help="The same seed draws the same photos.")
@click.option("--allow-host", multiple=True, help="Host in a private network that photos may come from.")
@click.option("--feedback", help="Address of the feedback pages, for example http://10.0.0.5:5000: review there.")
@click.option(
    "--token-file", type=click.Path(dir_okay=False, exists=True, path_type=Path), help="Token with the scope reports."
)
def sample(
    scores: Path, out: Path, count: int, label: str | None, seed: int, allow_host: tuple[str, ...],
    feedback: str | None, token_file: Path | None,
) -> None:  # fmt: skip
    """Draw a random sample of the photos of SCORES for review."""
    if (feedback is None) != (token_file is None):
        raise InvalidInput("--feedback and --token-file belong together", "give both")
    job = read_job(scores)
    label = label_of(job, label)
    if feedback and (out / SAMPLE).exists():
        require_origin(out, job, label)
    else:
        _draw(job, out, count, label, seed, frozenset(allow_host), outside=feedback is None)
    if feedback and token_file:
        _review_online(job, out, FeedbackServer(feedback, token_file.read_text(encoding="utf-8").strip()))
    else:
        _next(job, out)


def _draw(job: Job, out: Path, count: int, label: str, seed: int, allowed: frozenset[str], outside: bool) -> None:
    photos = read_photos(job, label)
    drawn = draw_sample(photos, count, outside, seed)
    chosen = [(int(index), stratum) for stratum, rows in drawn.items() for index in rows]
    if not chosen:
        raise InvalidInput(f"{job.folder} has no photo that counts", "see its error codes")
    sizes = {stratum: len(members) for stratum, members in members_of(photos).items()}
    order = np.random.default_rng([seed, 1]).permutation(len(chosen))
    where = read_parts(job, ("photo_id", "source", "label", "confidence"))
    with new_folder(out) as work:
        rows: list[dict[str, Any]] = []
        for number, place in enumerate(order, 1):
            index, stratum = chosen[int(place)]
            photo_id, source, answer, confidence = (where[name][index].as_py() for name in where.column_names)
            file = f"{number:04d}{suffix_of(source)}"
            if _copied(source, work / "photos" / file, allowed):
                row = {"file": file, "photo_id": photo_id, "positive": stratum, "photos": sizes[stratum]}
                rows.append({**row, "label": answer, "confidence": round(confidence, 4)})
        if not rows:
            lost = f"none of the {number_of(len(chosen), 'photo')} drawn from {job.folder} can be read"
            raise InvalidInput(lost, "put them back, or allow their host with --allow-host")
        write_csv(work / SAMPLE, COLUMNS, rows)
        write_json(work / ORIGIN, origin_of(job, label))
    copied = Counter(row["positive"] for row in rows)
    kinds = {POSITIVE: f"answered {label}", OTHER: "answered otherwise", OUTSIDE: "out of scope"}
    answers = ", ".join(f"{copied[stratum]} {kind}" for stratum, kind in kinds.items())
    say(f"{out}: {number_of(len(rows), 'photo')} to review: {answers}")


def suffix_of(source: str) -> str:
    """The suffix of a path or an address; .jpg if it is not a picture's: the labelling page skips .md, for example."""
    suffix = Path(urlsplit(source).path).suffix.lower()
    return suffix if suffix in Image.registered_extensions() else ".jpg"


def _review_online(job: Job, out: Path, server: FeedbackServer) -> None:
    """Send what was not sent, and fetch the labels that people agreed on."""
    drawn = read_sample(out)
    for _ in track(send(out, server), "sending", total=len(drawn), transient=True, console=err_console):
        pass
    progress = collect(out, server)
    photos = number_of(progress.drawn, "photo")
    say(f"{server.url}/review: {progress.sent} of {photos} sent, {progress.labelled} agreed")
    if progress.labelled < progress.drawn:
        say("run the same command again to fetch more labels; two people have to agree on each")
    say(f"then: {pasteable('reports', 'build', job.folder, '--review', out, '--out', 'site')}")


def _copied(source: str, target: Path, allowed: frozenset[str]) -> bool:
    """Copy a photo; False if it can no longer be read."""
    if urlsplit(source).scheme.lower() in ("http", "https", "s3"):
        task = fetching.fetch(Task(source), fetching.Limits(100 * 2**20, allowed=allowed))
        if task.data is None:
            note(f"left out: {source}: {task.error[1] if task.error else 'no data'}")
            return False
        write_whole(target, task.data)
        return True
    try:
        if not Path(source).is_file():
            raise FileNotFoundError(ENOENT, "there is no such file any more")
        data = Path(source).read_bytes()
    except OSError as error:
        note(f"left out: {source}: {error.strerror}")
        return False
    write_whole(target, data)
    return True


def _next(job: Job, out: Path) -> None:
    next_step("dataset", "label", out / "photos", "--recipe", job.model, "--no-model")
    say(f"then: {pasteable('reports', 'build', job.folder, '--review', out, '--out', 'site')}")
