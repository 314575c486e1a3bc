"""Delete runs: which ones are protected, and how an interrupted deletion leaves no incomplete run.

A run is protected if another run, a bundle in models/ or an archive in model_store/ was made from it; copies elsewhere
are not known.
"""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from common.errors import Busy, CheckFailed, InvalidInput, UserError
from training.records.folder import PARTIAL, in_progress
from training.records.index import ID, Run, State, packed_from

DELETED = ".deleted"


def check_deletable(chosen: Sequence[Run], runs: Sequence[Run], root: Path, force: bool) -> None:
    """Refuse to delete runs that are links, being made, or (without `force`) protected.

    Args:
        runs: all runs under `root`; those made from a chosen one protect it, unless they are chosen too.

    Raises:
        UserError: naming the first such run.
    """
    for run in chosen:
        if run.folder.resolve() != root.resolve() / run.task / run.folder.name:
            raise InvalidInput(f"{run.folder} is a link, or inside one", "delete the folder that it points to")
        if run.state is State.UNFINISHED and in_progress(run.folder):
            raise Busy(f"{run.folder} is being made", "stop that process first")
        children = [
            other.id
            for other in runs
            if other.record and run.id in other.record.used_runs and other not in [run, *chosen]
        ]
        dependents = [*children, *packed_from(run)]
        if dependents and not force:
            raise CheckFailed(f"{run.folder}: {', '.join(dependents)} came from it", "give --force to delete it anyway")


def delete_runs(chosen: Sequence[Run], root: Path) -> Iterator[Path]:
    """Delete runs, the newest first; yields each folder when it is gone.

    A folder is renamed before its first file is deleted, so an interrupted deletion leaves no run with missing files.

    Raises:
        UserError: one cannot be deleted.
    """
    for hidden in root.glob(f"*/.*{DELETED}"):  # left by an interrupted deletion
        if ID.fullmatch(hidden.name[1:].removesuffix(DELETED).removesuffix(PARTIAL)) and not hidden.is_symlink():
            shutil.rmtree(hidden, ignore_errors=True)
    for run in sorted(chosen, key=lambda run: run.id, reverse=True):
        hidden = run.folder.with_name(f".{run.folder.name}{DELETED}")
        try:
            run.folder.rename(hidden)
            shutil.rmtree(hidden)
        except OSError as error:
            raise UserError(f"{run.folder} cannot be deleted: {error}") from error
        yield run.folder
