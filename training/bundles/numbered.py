"""Exported versions in one folder: FOLDER/1, FOLDER/2 ..., on request each more accurate than the one before."""

from dataclasses import dataclass
from pathlib import Path

from common.errors import CheckFailed, InvalidInput, NotFound
from training.records.run import RunRecord, read_record


def last_version(folder: Path) -> int:
    """The largest number among the folders in a folder; 0 if there is none."""
    if not folder.is_dir():
        return 0
    return max((int(path.name) for path in folder.iterdir() if path.is_dir() and path.name.isdecimal()), default=0)


@dataclass(frozen=True)
class Baseline:
    """The version that was exported last, and its balanced accuracy on held-out photos."""

    folder: Path
    accuracy: float

    @classmethod
    def read(cls, folder: Path, record: RunRecord) -> "Baseline":
        """Read a bundle to compare a run with.

        Raises:
            NotFound: it is not a bundle.
            InvalidInput: it was measured on other photos than the run.
        """
        bundle = read_record(folder)
        if bundle.metrics is None:
            raise NotFound(f"{folder} has no accuracy", "remove it, or export without --if-better")
        if bundle.inputs.validation != record.inputs.validation:
            raise InvalidInput(
                f"{folder} was measured on other held-out photos, so the accuracies cannot be compared",
                "train on the same --data with the same seed, or export without --if-better",
            )
        return cls(folder, bundle.metrics.mean_accuracy)

    def refuse_worse(self, accuracy: float) -> None:
        """Refuse a model that is not more accurate.

        Raises:
            CheckFailed: with both figures.
        """
        if accuracy <= self.accuracy:
            raise CheckFailed(
                f"not exported: balanced accuracy {accuracy:.2%} is not above the {self.accuracy:.2%} of {self.folder}",
                "leave out --if-better to export it nevertheless",
            )
