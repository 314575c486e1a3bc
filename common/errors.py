"""Errors that a person can act on. Any other exception is a bug and shows a traceback.

    UserError                one line on stderr, exit 1
    ├── InvalidInput         an argument, a recipe, a table or a file has an unacceptable value
    ├── NotFound             the named run, bundle, version, photo or file does not exist
    ├── AlreadyExists        the target exists and is never overwritten
    ├── CannotWrite          the disk is full, or the folder is read-only
    ├── Busy                 another process is changing the same thing
    ├── Unreachable          a server, a registry or a storage does not answer
    └── CheckFailed          a gate, a golden photo or a latency limit stopped a change

Packages add their own kinds below these. Errors of a request to the served model are `handler.errors`:
they ship in the archive, which holds nothing else of the project.
"""

from errno import EACCES, EISDIR, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, EPERM, EROFS
from pathlib import Path

_FREE = "free some disk space"
_INSTEAD = {
    **dict.fromkeys((EACCES, EPERM, EROFS), "make it writable"),
    **dict.fromkeys((EISDIR, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR), "correct the path"),
}
"""Error number -> what to do instead of freeing disk space."""


class UserError(Exception):
    """An expected failure, with what to do about it.

    Args:
        problem: what is wrong, with the value that is wrong; no full stop.
        fix: what to do, as an imperative; empty where `problem` says it.
    """

    def __init__(self, problem: str, fix: str = "") -> None:
        self.problem = problem
        self.fix = fix
        super().__init__(self.message)

    @property
    def message(self) -> str:
        """Problem and fix on one line."""
        return f"{self.problem}: {self.fix}" if self.fix else self.problem


class InvalidInput(UserError):
    """An argument, a recipe, a table or a file has an unacceptable value."""


class NotFound(UserError):
    """The named run, bundle, version, photo or file does not exist."""


class AlreadyExists(UserError):
    """The target exists and is never overwritten."""


class CannotWrite(UserError):
    """A file or folder cannot be written.

    Args:
        path: the file or folder.
        error: the cause; an OSError is shown by its short text ("No space left on device").
        fix: what to do. "free some disk space" in it is replaced if the disk is not full.
    """

    def __init__(self, path: Path | str, error: BaseException, fix: str = "free some disk space and try again") -> None:
        reason = (error.strerror if isinstance(error, OSError) else None) or " ".join(str(error).split())
        self.path, self.error = Path(path), error
        if isinstance(error, OSError) and error.errno is not None:
            fix = fix.replace(_FREE, _INSTEAD.get(error.errno, _FREE))
        super().__init__(f"{path} cannot be written: {reason}", fix)


class Busy(UserError):
    """Another process is changing the same thing."""


class Unreachable(UserError):
    """A server, a registry or a storage does not answer."""


class CheckFailed(UserError):
    """A gate, a golden photo or a latency limit stopped a change."""
