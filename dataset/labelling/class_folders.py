"""Class folders that follow a labelling: OUT/LABEL/NAME, and OUT/SOURCES.tsv.

A copy keeps its photo's subfolders below its label's folder, so that two files of one name do not meet,
and `dataset.photos.read_photos` finds it with its source.
"""

import contextlib
import filecmp
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from common.errors import UserError
from dataset.photos import TABLE as SOURCES
from dataset.tables import Row, write_rows


class Filed(Protocol):
    """What is known of a photo: `dataset.labelling.decisions.Entry`."""

    name: str
    path: Path
    row: Row


class ClassFolders:
    """Copies of labelled photos.

    Args:
        out: made if missing; only the copies of these photos are ever changed in it.
        folder: where the photos lie.

    Raises:
        UserError: the photos lie in `out`, or a label cannot name a folder.
    """

    def __init__(self, out: Path, folder: Path, labels: Sequence[str]) -> None:
        self.out, self.labels = out, tuple(labels)
        if folder.resolve().is_relative_to(out.resolve()):
            raise UserError(f"--folders {out}: the photos lie there: give another folder")
        unfit = [label for label in labels if Path(label).name != label]
        if unfit:
            raise UserError(f"--folders: {', '.join(unfit)} cannot name a folder: leave out --folders")

    def settle(self, entries: Sequence[Filed]) -> None:
        """Bring every copy to where its photo's row says. Raises: as `follow`."""
        try:
            for label in self.labels:
                (self.out / label).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._refusal(self.out, error) from error
        for entry in entries:
            self._place(entry)
        self._write_sources(entries)

    def follow(self, entry: Filed, entries: Sequence[Filed]) -> None:
        """Copy a photo to its label's folder and away from any other, then write the sources.

        Raises:
            UserError: it cannot be written, or another picture has its place.
        """
        self._place(entry)
        self._write_sources(entries)

    def go_back(self, entry: Filed, entries: Sequence[Filed]) -> None:
        """As `follow`, as well as a disk lets us that has just refused: the next start settles the rest."""
        with contextlib.suppress(UserError):
            self.follow(entry, entries)

    def _place(self, entry: Filed) -> None:
        for label in self.labels:
            target = self.out / label / entry.name
            try:
                if label == entry.row["label"]:
                    self._copy(entry.path, target)
                elif _same(entry.path, target):  # a picture that is none of ours stays
                    target.unlink()
            except OSError as error:
                raise self._refusal(target, error) from error

    def _copy(self, path: Path, target: Path) -> None:
        if _same(path, target):
            return
        if target.exists():
            raise UserError(f"{target} is another picture than {path}: give another --folders")
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f".{target.name[:100]}.part")
        try:
            shutil.copy2(path, beside)  # keeps the time, by which the next start knows it
            beside.replace(target)
        finally:
            beside.unlink(missing_ok=True)

    def _write_sources(self, entries: Sequence[Filed]) -> None:
        rows = [
            {"path": f"{entry.row['label']}/{entry.name}", "source": entry.row["source"] or entry.name}
            for entry in entries
            if entry.row["label"]
        ]
        try:
            write_rows(self.out / SOURCES, ("path", "source"), rows)
        except UserError as error:
            raise self._refusal(self.out / SOURCES, error.__cause__ or error) from error

    def _refusal(self, place: Path, error: BaseException) -> UserError:
        reason = getattr(error, "strerror", None) or error
        return UserError(f"{place} cannot be written: {reason}: give another --folders or free the disk")


def _same(path: Path, copy: Path) -> bool:
    """Whether the copy is this photo; by size and time where they agree, else by its bytes."""
    return copy.is_file() and path.is_file() and filecmp.cmp(path, copy)
