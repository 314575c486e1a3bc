"""The versions that must be served: `var/served.json`, which the keeper restores after every restart.

TorchServe's own snapshots do not help: one missing archive aborts its start, and a configuration file turns them off.
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from common.errors import InvalidInput
from common.files import write_json

FILE = "served.json"


@dataclass(frozen=True)
class ServedVersion:
    """A version that must be registered.

    Attributes:
        archive: file name in the store.
        digest: identity of the archive (deploy/store/mar.py).
        default: whether `/predictions/NAME` is answered by it; the others are kept for rollback, the one that was the
            default last first.
        workers: as the recipe says; a tuned profile overrides it (deploy/store/profile.py).
        left: it was rolled back from, so rollback returns to it only when its version is named.
    """

    name: str
    version: str
    archive: str
    digest: str
    default: bool = False
    workers: int = 1
    left: bool = False

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def read(var: Path) -> list[ServedVersion]:
    """All versions; of each name the default comes first, then the kept ones, last used first.

    Raises:
        InvalidInput: the file is damaged.
    """
    path = var / FILE
    try:
        versions = [ServedVersion(**row) for row in json.loads(path.read_text(encoding="utf-8"))]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError) as error:
        fix = "remove it, and roll out again what must be served (python -m deploy history)"
        raise InvalidInput(f"{path} is damaged", fix) from error
    return sorted(versions, key=lambda version: not version.default)  # stable: the kept ones stay in order


def write(var: Path, entries: list[ServedVersion]) -> None:
    """Write the file, completely or not at all.

    Raises:
        OSError: it cannot be written; the former content is unchanged.
    """
    write_json(var / FILE, [asdict(entry) for entry in entries])


def default_of(entries: list[ServedVersion], name: str) -> ServedVersion | None:
    """The version that must answer `/predictions/NAME`."""
    return next((entry for entry in entries if entry.name == name and entry.default), None)


def find(entries: list[ServedVersion], name: str, version: str) -> ServedVersion | None:
    """The row of a version; None if it need not be served."""
    return next((entry for entry in entries if (entry.name, entry.version) == (name, version)), None)


def switched(entries: list[ServedVersion], new: ServedVersion, former: ServedVersion | None) -> list[ServedVersion]:
    """The rows after a switch: `new` is the default, `former` the first of the kept versions."""
    kept = [replace(former, default=False)] if former else []
    gone = {(entry.name, entry.version) for entry in (new, *kept)}
    rest = [
        replace(entry, default=entry.default and entry.name != new.name)
        for entry in entries
        if (entry.name, entry.version) not in gone
    ]
    return [replace(new, default=True, left=False), *kept, *rest]
