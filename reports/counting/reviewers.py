"""The reviewed sample in the review of `feedback`: photos are sent there, and agreed labels come back."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import InvalidInput
from common.files import write_json, write_whole
from feedback.learning.client import FeedbackServer
from reports.counting.sampled import COLUMNS, OUTSIDE, read_sample

SENT = "sent.json"
"""File of the sample -> its id in the review. In the folder of the sample."""


@dataclass(frozen=True)
class Progress:
    """How many photos were drawn, are in the review, and have an agreed label."""

    drawn: int
    sent: int
    labelled: int


def send(folder: Path, server: FeedbackServer) -> Iterator[str]:
    """Send the photos of a sample that were not sent yet; yields each file. If it stops, call it again.

    Photos out of scope stay here: people set most of them aside, and the server hands out only agreed labels.

    Raises:
        Unreachable, UserError: the review does not answer, or refuses a photo.
    """
    rows = [row for row in read_sample(folder, COLUMNS) if row["positive"] != OUTSIDE]
    sizes = Counter(row["positive"] for row in rows)
    sent = read_sent(folder)
    for row in rows:
        if row["file"] not in sent:
            data = (folder / "photos" / row["file"]).read_bytes()
            share = min(1.0, sizes[row["positive"]] / int(row["photos"]))
            sent[row["file"]] = server.send_sample(data, row["file"], row["label"], float(row["confidence"]), share)
            write_json(folder / SENT, sent)
        yield row["file"]


def read_sent(folder: Path) -> dict[str, int]:
    """What was sent so far.

    Raises:
        InvalidInput: the file is damaged.
    """
    try:
        content: Any = json.loads((folder / SENT).read_text(encoding="utf-8"))
        return {str(name): int(number) for name, number in content.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise InvalidInput(f"{folder / SENT} is damaged: {error}", "remove it, and send the sample again") from error


def collect(folder: Path, server: FeedbackServer) -> Progress:
    """Write the agreed labels as the labelling page does, so that `build --review` reads them."""
    sent = read_sent(folder)
    agreed = {photo.id: photo.label for photo in server.agreed()}
    found = {name: agreed[number] for name, number in sorted(sent.items()) if number in agreed}
    lines = ["path\tlabel", *(f"{name}\t{label}" for name, label in found.items()), ""]
    write_whole(folder / "photos" / "labels.tsv", "\n".join(lines).encode())
    return Progress(len(read_sample(folder)), len(sent), len(found))
