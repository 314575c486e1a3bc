"""The reviewed sample in the review of `feedback`: photos are sent there, and agreed labels come back."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from common.errors import InvalidInput, NotFound
from common.files import write_json
from dataset.tables import Row, read_rows, write_rows
from feedback.learning.client import FeedbackServer
from reports.counting.sampled import COLUMNS, OUTSIDE, read_sample

SENT = "sent.json"
"""In the folder of the sample: the address of the review, and the id there and digest of each file that was sent."""
LABELS = "labels.tsv"
"""The labels, beside the photos, as the labelling page writes them."""


class Sent(NamedTuple):
    """A photo in the review."""

    id: int
    sha256: str


@dataclass(frozen=True)
class Progress:
    """How many photos were drawn, are in the review, and have an agreed label.

    `kept`: files that keep another label that somebody wrote here. `lost`: files whose id is now that of another photo.
    """

    drawn: int
    sent: int
    labelled: int
    kept: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()


def send(folder: Path, server: FeedbackServer) -> Iterator[str]:
    """Send the photos of a sample that were not sent yet; yields each file. If it stops, call it again.

    Photos out of scope stay here: people set most of them aside, and the server hands out only agreed labels.

    Raises:
        NotFound: a photo is missing.
        Unreachable, UserError: the review does not answer, or refuses a photo.
    """
    rows = [row for row in read_sample(folder, COLUMNS) if row["positive"] != OUTSIDE]
    sizes = Counter(row["positive"] for row in rows)
    sent = read_sent(folder, server.url)
    for row in rows:
        if row["file"] not in sent:
            data = _photo(folder / "photos" / row["file"])
            share = min(1.0, sizes[row["positive"]] / int(row["photos"]))
            number = server.send_sample(data, row["file"], row["label"], float(row["confidence"]), share)
            sent[row["file"]] = Sent(number, hashlib.sha256(data).hexdigest())
            photos = {name: one._asdict() for name, one in sent.items()}
            write_json(folder / SENT, {"site": server.url, "photos": photos})
        yield row["file"]


def _photo(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise NotFound(f"{path} cannot be read: {error.strerror}", "put it back, or draw another sample") from error


def read_sent(folder: Path, site: str) -> dict[str, Sent]:
    """What was sent to a site so far.

    Raises:
        InvalidInput: the sample was sent to another site, or the file is damaged.
    """
    path = folder / SENT
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        former = str(content["site"])
        sent = {str(name): Sent(int(row["id"]), str(row["sha256"])) for name, row in content["photos"].items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, TypeError, KeyError) as error:
        fix = "remove it, and run the command again: a photo that the site has is not stored twice"
        raise InvalidInput(f"{path} is damaged, or an earlier version wrote it ({error!r})", fix) from error
    if former != site:
        raise InvalidInput(
            f"{folder} was sent to {former}", f"give --feedback {former}, or remove {path} to send it again"
        )
    return sent


def collect(folder: Path, server: FeedbackServer) -> Progress:
    """Add the agreed labels to those that the labelling page writes, so that `build --review` reads them.

    A label belongs to the photo with its digest: a site that lost its database gives the same ids to other photos.
    """
    sent = read_sent(folder, server.url)
    agreed = list(server.agreed())
    labels, digests = {one.sha256: one.label for one in agreed}, {one.id: one.sha256 for one in agreed}
    found = {name: labels[one.sha256] for name, one in sorted(sent.items()) if one.sha256 in labels}
    lost = [name for name, one in sent.items() if digests.get(one.id, one.sha256) != one.sha256 and name not in found]
    kept = _add(folder / "photos" / LABELS, found)
    return Progress(len(read_sample(folder)), len(sent), len(found), tuple(kept), tuple(lost))


def _add(table: Path, found: dict[str, str]) -> list[str]:
    """Add labels to a table; the photos that have another label, or are set aside, there: they keep it."""
    rows: list[Row] = read_rows(table, ("path", "label")) if table.exists() else []
    columns, by_path = tuple(rows[0]) if rows else ("path", "label"), {row["path"]: row for row in rows}
    kept = []
    for file, label in found.items():
        row = by_path.get(file)
        if row is None:
            rows.append({**dict.fromkeys(columns, ""), "path": file, "label": label})
        elif not (row["label"] or row.get("set_aside")):
            row["label"] = label
        elif row["label"] != label:
            kept.append(file)
    write_rows(table, columns, rows)
    return kept
