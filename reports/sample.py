"""Draw scored photos for review, so that shares can be corrected for the classifier's errors in this very period.

    python -m reports sample scores/march --count 300 --out review
    python -m dataset label review/photos
    python -m reports build scores/march --review review --out site

The folder has the photos under numbers, in random order, so a reviewer sees neither the classifier's answer nor the
institution. review/sample.csv says which photo is which. With --feedback the photos go to the review of `photoloop
feedback`, where two people have to agree; the same command, run again, fetches the labels. Labels that are in
review/photos/labels.tsv already are kept.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
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
from feedback.learning.client import FeedbackServer, read_token
from reports.counting.photos import read_photos
from reports.counting.review import draw_sample, members_of
from reports.counting.reviewers import LABELS, SENT, Progress, collect, read_sent, send
from reports.counting.sampled import (
    COLUMNS,
    ORIGIN,
    OTHER,
    OUTSIDE,
    POSITIVE,
    SAMPLE,
    origin_of,
    read_sample,
    require_drawn_with,
    require_origin,
)
from reports.manifest.spreadsheet import write_csv
from reports.scoring import fetching
from reports.scoring.job import Job, label_of, read_job, read_parts
from reports.scoring.worker import Task

SHOWN = 5
"""Photos that are left out, of which the reason is shown."""


@command(epilog="Example: python -m reports sample scores/1 --count 300 --out review/1")
@click.argument("scores", type=click.Path(file_okay=False, path_type=Path))
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder for the photos.")
@click.option("--count", type=click.IntRange(2, 10_000), help="Photos to draw.  [default: 300]")
@click.option("--label", help="Label whose share is reported.  [default: the last of the recipe]")
@click.option("--seed", type=int, help="The same seed draws the same photos.  [default: 0]")
@click.option("--allow-host", multiple=True, help="Host in a private network that photos may come from.")
@click.option("--feedback", help="Address of the feedback pages, for example http://10.0.0.5:5000: review there.")
@click.option(
    "--token-file", type=click.Path(dir_okay=False, exists=True, path_type=Path), help="Token with the scope reports."
)
def sample(
    scores: Path, out: Path, count: int | None, label: str | None, seed: int | None, allow_host: tuple[str, ...],
    feedback: str | None, token_file: Path | None,
) -> None:  # fmt: skip
    """Draw a random sample of the photos of SCORES for review."""
    if (feedback is None) != (token_file is None):
        raise InvalidInput("--feedback and --token-file belong together", "give both")
    job = read_job(scores)
    label = label_of(job, label)
    drawn = feedback is not None and (out / SAMPLE).exists()
    if drawn:
        require_origin(out, job, label)
        require_drawn_with(out, count=count, seed=seed)
    server = FeedbackServer(feedback, read_token(token_file)) if feedback and token_file else None
    if server:
        read_sent(out, server.url)
        server.require_reports()
    if not drawn:
        how = {"count": 300 if count is None else count, "seed": seed or 0}
        _draw(job, out, label, frozenset(allow_host), outside=server is None, **how)
    if server:
        _review_online(job, out, server)
    else:
        _next(job, out)


def _draw(job: Job, out: Path, label: str, allowed: frozenset[str], outside: bool, count: int, seed: int) -> None:
    photos = read_photos(job, label)
    drawn = draw_sample(photos, count, outside, seed)
    chosen = [(int(index), stratum) for stratum, rows in drawn.items() for index in rows]
    if not chosen:
        raise InvalidInput(f"{job.folder} has no photo that counts", "see its error codes")
    sizes = {stratum: len(members) for stratum, members in members_of(photos).items()}
    order = np.random.default_rng([seed, 1]).permutation(len(chosen))
    where = read_parts(job, ("photo_id", "source", "sha256", "label", "confidence"))
    with new_folder(out) as work:
        rows: list[dict[str, Any]] = []
        left_out: list[str] = []
        for number, place in enumerate(order, 1):
            index, stratum = chosen[int(place)]
            photo_id, source, sha256, answer, confidence = (where[name][index].as_py() for name in where.column_names)
            file = f"{number:04d}{suffix_of(source)}"
            if problem := _copy(source, sha256, work / "photos" / file, allowed):
                left_out.append(f"{source}: {problem}")
                continue
            row = {"file": file, "photo_id": photo_id, "positive": stratum, "photos": sizes[stratum]}
            rows.append({**row, "label": answer, "confidence": round(confidence, 4)})
        _note_left_out(left_out)
        if not rows:
            lost = f"none of the {number_of(len(chosen), 'photo')} drawn from {job.folder} can be used"
            raise InvalidInput(lost, "put them back, or allow their host with --allow-host")
        write_csv(work / SAMPLE, COLUMNS, rows)
        write_json(work / ORIGIN, {**origin_of(job, label), "count": count, "seed": seed})
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
    _note_differences(out, progress)
    photos = number_of(progress.drawn, "photo")
    say(f"{server.url}/review: {progress.sent} of {photos} sent, {progress.labelled} agreed")
    if progress.labelled < progress.drawn:
        say("run the same command again to fetch more labels; two people have to agree on each")
    say(f"then: {pasteable('reports', 'build', job.folder, '--review', out, '--out', 'site')}")


def _note_differences(out: Path, progress: Progress) -> None:
    if progress.kept:
        many = f"{number_of(len(progress.kept), 'photo')} in {out / 'photos' / LABELS}, for example {progress.kept[0]}"
        note(f"kept the decision on {many}: two people agreed on another label; delete the row to take theirs")
    if progress.lost:
        many = f"{number_of(len(progress.lost), 'photo')} of the sample, for example {progress.lost[0]}"
        note(f"the site no longer has {many}: remove {out / SENT} and run this again to send them again")


def _copy(source: str, sha256: str | None, target: Path, allowed: frozenset[str]) -> str:
    """Copy a photo; why it cannot be used, or empty."""
    try:
        data = _read(source, allowed)
    except OSError as error:
        return error.strerror or str(error)
    if sha256 and hashlib.sha256(data).hexdigest() != sha256:
        return "it has changed since it was scored"
    write_whole(target, data)
    return ""


def _read(source: str, allowed: frozenset[str]) -> bytes:
    """Raises: OSError: it can no longer be read."""
    if urlsplit(source).scheme.lower() in ("http", "https", "s3"):
        task = fetching.fetch(Task(source), fetching.Limits(100 * 2**20, allowed=allowed))
        if task.data is None:
            raise OSError(task.error[1] if task.error else "no data")
        return task.data
    if not Path(source).is_file():
        raise FileNotFoundError(ENOENT, "there is no such file any more")
    return Path(source).read_bytes()


def _note_left_out(problems: Sequence[str]) -> None:
    if problems:
        more = "" if len(problems) <= SHOWN else f", the first {SHOWN} of them"
        note(f"left out {number_of(len(problems), 'photo')}{more}:\n" + "\n".join(problems[:SHOWN]))


def _next(job: Job, out: Path) -> None:
    next_step("dataset", "label", out / "photos", "--recipe", job.model, "--no-model")
    say(f"then: {pasteable('reports', 'build', job.folder, '--review', out, '--out', 'site')}")
