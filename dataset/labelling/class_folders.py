"""Class folders that mirror a labelling: OUT/LABEL/NAME, OUT/set_aside/REASON/NAME, and OUT/SOURCES.tsv.

A copy keeps its photo's subfolders below the label's folder, so that files with the same name do not collide,
and `dataset.photos.read_photos` finds its source. It ignores the folder of photos that were set aside.
"""

import contextlib
import filecmp
from collections.abc import Sequence
from pathlib import Path

from common.errors import AlreadyExists, InvalidInput, UserError
from common.files import copy_whole, writing
from dataset.labelling.entries import SET_ASIDE_REASONS, Decision, Entry
from dataset.photos import TABLE as SOURCES
from dataset.tables import write_rows

SET_ASIDE = "set_aside"
_FIX = "free some disk space, or give another --folders"


class ClassFolders:
    """Copies of the labelled photos.

    Args:
        out: created if missing. Files in it that are not copies of these photos are never changed.
        folder: the folder with the photos.
        labels: the legal labels.

    Raises:
        InvalidInput: the photos are in `out`, or a label is not a valid folder name.
    """

    def __init__(self, out: Path, folder: Path, labels: Sequence[str]) -> None:
        self.out, self.labels = out, tuple(labels)
        if folder.resolve().is_relative_to(out.resolve()):
            raise InvalidInput(f"--folders {out} contains the photos", "give another folder")
        unfit = [label for label in labels if Path(label).name != label or label == SET_ASIDE]
        if unfit:
            raise InvalidInput(f"{', '.join(unfit)} cannot be the name of a folder", "leave out --folders")

    def update_all(self, entries: Sequence[Entry]) -> None:
        """Make all copies agree with their photos' rows. Raises: as `update`."""
        with writing(self.out, _FIX):
            for label in self.labels:
                (self.out / label).mkdir(parents=True, exist_ok=True)
        self.update(entries, entries)

    def update(self, changed: Sequence[Entry], entries: Sequence[Entry]) -> None:
        """Copy photos to the folders of their decisions, remove them from other folders, and write the sources.

        Args:
            changed: the photos to copy.
            entries: all photos.

        Raises:
            CannotWrite: the disk is full or read-only.
            AlreadyExists: another image has the name of the copy.
        """
        for entry in changed:
            self._place(entry)
        self._write_sources(entries)

    def restore(self, entry: Entry, entries: Sequence[Entry]) -> None:
        """As `update`, after a failed write. Errors are ignored: the next start runs `update_all`."""
        with contextlib.suppress(UserError):
            self.update([entry], entries)

    def _place(self, entry: Entry) -> None:
        decisions = [*(Decision(label) for label in self.labels), *(Decision("", word) for word in SET_ASIDE_REASONS)]
        for decision in decisions:
            target = self.out / (decision.label or f"{SET_ASIDE}/{decision.set_aside}") / entry.name
            with writing(target, _FIX):
                if decision == entry.decision:
                    self._copy(entry.path, target)
                elif _same(entry.path, target):  # any other file of this name is left alone
                    target.unlink()

    def _copy(self, path: Path, target: Path) -> None:
        if _same(path, target):
            return
        if target.exists():
            raise AlreadyExists(f"{target} is a different image from {path}", "give another --folders")
        copy_whole(path, target, keep_metadata=True)  # `_same` compares the times first

    def _write_sources(self, entries: Sequence[Entry]) -> None:
        rows = [
            {"path": f"{entry.row['label']}/{entry.name}", "source": entry.row["source"] or entry.name}
            for entry in entries
            if entry.row["label"]
        ]
        write_rows(self.out / SOURCES, ("path", "source"), rows, _FIX)


def _same(path: Path, copy: Path) -> bool:
    """Whether `copy` is a copy of the photo: by size and time if they are equal, otherwise by content."""
    return copy.is_file() and path.is_file() and filecmp.cmp(path, copy)
