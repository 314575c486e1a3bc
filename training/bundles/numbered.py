"""Exported versions in one folder: FOLDER/1, FOLDER/2 ..., each better than the one before if that is asked for."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import UserError
from training.records.run import read_run


def last_version(folder: Path) -> int:
    """The largest number among the folders in a folder; 0 where there is none."""
    if not folder.is_dir():
        return 0
    return max((int(path.name) for path in folder.iterdir() if path.is_dir() and path.name.isdecimal()), default=0)


@dataclass(frozen=True)
class Rival:
    """The version that was exported last, and its mean of the classes' accuracies on held-out photos."""

    folder: Path
    accuracy: float

    @classmethod
    def read(cls, folder: Path, facts: Mapping[str, Any]) -> "Rival":
        """Read a bundle to compare a run with.

        Raises:
            UserError: it is no bundle, or it was measured on other photos than the run.
        """
        before = read_run(folder)[1]
        if before.get("validation") != facts["validation"]:
            raise UserError(
                f"{folder} was measured on other held-out photos: they cannot be compared; train on the same --data "
                "and seed, or export without --if-better"
            )
        return cls(folder, float(before["metrics"]["mean_accuracy"]))

    def refuse(self, facts: Mapping[str, Any]) -> None:
        """Refuse what is not more accurate.

        Raises:
            UserError: with both figures.
        """
        found = float(facts["metrics"]["mean_accuracy"])
        if found <= self.accuracy:
            raise UserError(
                f"not exported: mean of classes {found:.2%} is not above the {self.accuracy:.2%} of {self.folder}: "
                "leave out --if-better to export all the same"
            )
