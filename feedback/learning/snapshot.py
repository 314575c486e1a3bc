"""What a night learns from: an immutable folder of agreed photos with a digest.

    SNAPSHOT/photos/LABEL/ID.jpg     to train on
    SNAPSHOT/held/LABEL/ID.jpg       corrections that the gate asks about; never trained on
    SNAPSHOT/photos.tsv              every agreed photo, also those left out, and why
    SNAPSHOT/snapshot.json           digest and counts

The held-out part is chosen by who uploaded (by chain of near duplicates where few people upload), so that no person and
no chain is on both sides. One photo of a chain is trained on, at most a tenth of the training photos comes from one
uploader, and no near duplicate of a frozen photo is trained on or asked about.
"""

import hashlib
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath

from PIL import Image, ImageOps

from common.files import new_folder, write_json, write_whole
from common.words import number_of
from dataset.tables import read_rows, write_rows
from feedback.learning.client import Agreed, FeedbackServer
from feedback.photos.hashing import THRESHOLD, nearest, packed, phash

TRAIN, HELD = "train", "held"
FEW_UPLOADERS = 5
HELD_SHARE = 5
"""One in five groups is held out."""
MOST_OF_ONE = 0.1
LEAST_OF_ONE = 20
TRAIN_COLUMNS = ("path", "label", "group")
COLUMNS = ("id", "label", "part", "why", "uploader", "chain", "reason", "probability", "sha256")


@dataclass(frozen=True)
class Chosen:
    """An agreed photo with its file, its part (empty: left out) and why it was left out."""

    agreed: Agreed
    data: bytes
    part: str
    why: str = ""

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def name(self) -> str:
        return f"{self.agreed.label}/{self.agreed.id}{PurePosixPath(self.agreed.url).suffix}"


def choose(
    photos: Sequence[tuple[Agreed, bytes]], labels: Sequence[str], frozen: Sequence[str], base_photos: int
) -> list[Chosen]:
    """Divide agreed photos.

    Args:
        frozen: perceptual hashes of the frozen photos.
        base_photos: number of photos that are trained on anyway.
    """
    hashes = packed(frozen)
    groups = _groups([agreed for agreed, _ in photos])
    most = max(LEAST_OF_ONE, int(MOST_OF_ONE * (base_photos + len(photos))))
    chains, people, chosen = set[int](), Counter[str](), []
    for agreed, data in sorted(photos, key=lambda pair: _digest(f"order {pair[0].id}")):
        part, why = (HELD if _is_held(groups[agreed.chain]) else TRAIN), ""
        if agreed.label not in labels:
            part, why = "", "the recipe does not have the label"
        elif nearest(_hash(data), hashes)[1] <= THRESHOLD:
            part, why = "", "near duplicate of a frozen photo"
        elif agreed.chain in chains:
            part, why = "", "another photo of its chain was taken"
        elif part == TRAIN and people[_person(agreed)] >= most:
            part, why = "", f"{number_of(most, 'photo')} of its uploader {'was' if most == 1 else 'were'} taken"
        if part:
            chains.add(agreed.chain)
            people[_person(agreed)] += part == TRAIN
        chosen.append(Chosen(agreed, data, part, why))
    return sorted(chosen, key=lambda row: row.agreed.id)


def digest_of(chosen: Sequence[Chosen]) -> str:
    """Identifies a snapshot: bytes, labels and parts."""
    return _digest("\n".join(sorted(f"{row.sha256} {row.agreed.label} {row.part}" for row in chosen)))


def write(folder: Path, chosen: Sequence[Chosen]) -> None:
    """Write a snapshot; it appears only when it is complete. Nothing to do if it exists."""
    if folder.is_dir():
        return
    for left in folder.parent.glob(".*"):  # of a night that was killed
        shutil.rmtree(left, ignore_errors=True)
    with new_folder(folder) as new:
        for row in chosen:
            if row.part:
                write_whole(new / ("photos" if row.part == TRAIN else HELD) / row.name, row.data)
        train = [
            {"path": f"photos/{row.name}", "label": row.agreed.label, "group": f"chain {row.agreed.chain}"}
            for row in chosen
            if row.part == TRAIN
        ]
        write_rows(new / "train.tsv", TRAIN_COLUMNS, train)
        rows = [
            {
                **vars(row.agreed),
                "part": row.part,
                "why": row.why,
                "sha256": row.sha256,
                "uploader": row.agreed.uploader,
            }
            for row in chosen
        ]
        write_rows(new / "photos.tsv", COLUMNS, rows)
        parts = Counter(row.part or "left out" for row in chosen)
        write_json(new / "snapshot.json", {"digest": digest_of(chosen), "photos": dict(parts)})


def fetch(server: FeedbackServer, rows: Sequence[Agreed], cache: Path) -> list[tuple[Agreed, bytes]]:
    """Download photos; those that are in the cache are not asked for again."""
    photos = []
    for agreed in rows:
        path = cache / PurePosixPath(agreed.url).name
        if not path.is_file():
            write_whole(path, server.photo(agreed))
        photos.append((agreed, path.read_bytes()))
    return photos


def remove(work: Path, is_gone: Callable[[int], bool], is_file_gone: Callable[[str], bool]) -> list[Path]:
    """Remove copies of photos from all snapshots and from the cache.

    Args:
        work: folder of the nights; it may be missing. Snapshots that a killed night left unfinished count too.
        is_gone: of a photo's id.
        is_file_gone: of its file's name in the cache.

    Returns:
        the files that were removed.
    """
    removed = [path for path in (work / "cache").glob("*.*") if is_file_gone(path.name)]
    for snapshot in (work / "snapshots").glob("*"):
        gone = [path for path in snapshot.rglob("*.*") if path.stem.isdecimal() and is_gone(int(path.stem))]
        if gone and (snapshot / "train.tsv").exists():
            left = [row for row in read_rows(snapshot / "train.tsv") if snapshot / row["path"] not in gone]
            write_rows(snapshot / "train.tsv", TRAIN_COLUMNS, left)
        removed += gone
    for path in removed:
        path.unlink()
    return removed


def _groups(rows: Sequence[Agreed]) -> dict[int, str]:
    """Chain -> what decides about its part: its first uploader, or itself where few people upload."""
    few = len({row.uploader for row in rows}) < FEW_UPLOADERS
    groups: dict[int, str] = {}
    for row in sorted(rows, key=lambda row: row.id):
        groups.setdefault(row.chain, f"chain {row.chain}" if few else _person(row))
    return groups


def _person(row: Agreed) -> str:
    """Who uploaded a photo. Captured ones come from many clients, so each chain counts as a person of its own."""
    return f"uploader {row.uploader}" if row.reason == "upload" else f"chain {row.chain}"


def _is_held(group: str) -> bool:
    return int(_digest(group)[:8], 16) % HELD_SHARE == 0


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _hash(data: bytes) -> str:
    with Image.open(BytesIO(data)) as photo:
        return phash(ImageOps.exif_transpose(photo).convert("RGB"))
