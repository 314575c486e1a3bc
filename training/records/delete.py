"""Deleting runs: which must not be deleted, and how no half of one is left.

A run that another run or a bundle in models/ or an archive in model_store/ came from is deleted by force only;
copies elsewhere are not known here.
"""

import fcntl
import shutil
from collections.abc import Sequence
from pathlib import Path

import click

from common.errors import UserError
from training.records.index import ID, PARTIAL, Run, shipped
from training.records.run import KEY

DELETED = ".deleted"


def delete_runs(chosen: Sequence[Run], every: Sequence[Run], root: Path, force: bool, yes: bool) -> None:
    """Delete runs, the newest first, each out of sight before its first file goes.

    Args:
        every: all runs under `root`: those that came from a chosen one protect it, unless they are chosen too.

    Raises:
        UserError: one must not be deleted (then none is), or cannot be.
    """
    for run in chosen:
        _refuse(run, chosen, every, root, force)
    if not yes:
        click.confirm(f"delete {', '.join(map(_with_bundle, chosen))}?", abort=True)
    for left in root.glob(f"*/.*{DELETED}"):  # of a deletion that was interrupted
        if ID.fullmatch(left.name[1:].removesuffix(DELETED).removesuffix(PARTIAL)) and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
    for run in sorted(chosen, key=lambda run: run.id, reverse=True):
        hidden = run.folder.with_name(f".{run.folder.name}{DELETED}")
        try:
            run.folder.rename(hidden)
            shutil.rmtree(hidden)
        except OSError as error:
            raise UserError(f"{run.folder} cannot be deleted: {error}") from error
        click.echo(f"{run.folder}: deleted")


def _refuse(run: Run, chosen: Sequence[Run], every: Sequence[Run], root: Path, force: bool) -> None:
    if run.folder.resolve() != root.resolve() / run.task / run.folder.name:
        raise UserError(f"{run.folder} is a link, or lies behind one: delete it where it is")
    if run.state == "unfinished" and _in_work(run.folder):
        raise UserError(f"{run.folder} is being made: stop that process first")
    needed = [other.id for other in every if run.id in other.parents and other not in [run, *chosen]]
    needed += shipped(run)
    if needed and not force:
        raise UserError(f"{run.folder}: {', '.join(needed)} came from it: give --force to delete it anyway")


def _in_work(folder: Path) -> bool:
    try:
        with (folder / KEY).open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _with_bundle(run: Run) -> str:
    return f"{run.folder} and the bundle in it" if (run.folder / "bundle").is_dir() else str(run.folder)
