"""What must be served: `var/served.json`, our own manifest, which is put back after any restart.

TorchServe's snapshots are no help: one missing archive aborts its start, and they are off when it is
given a configuration file. Beside the manifest lies a copy of each archive in `var/archives`, so that one
that vanishes from the store can be put back.
"""

import json
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.files import write_json

FILE = "served.json"
COPIES = "archives"


@dataclass(frozen=True)
class ServedVersion:
    """One version that must be registered.

    `default` is what `/predictions/NAME` answers with; the others are kept for rollback, the one that was default
    last first. `left` marks a version that was rolled back from: rollback never returns to it by itself.
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
    """The manifest; of each name the default comes first, then the kept ones, last used first.

    Raises:
        UserError: it is there, but damaged.
    """
    path = var / FILE
    try:
        rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        entries = [ServedVersion(**row) for row in rows]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{path} is damaged: remove it, and roll out again what must be served (python -m deploy history)"
        ) from error
    return sorted(entries, key=lambda entry: not entry.default)  # stable: the order of the kept ones stays


def write(var: Path, entries: list[ServedVersion]) -> None:
    """Write the manifest, whole.

    Raises:
        OSError: it cannot be written; the old one stands.
    """
    write_json(var / FILE, [asdict(entry) for entry in entries])


def default_of(entries: list[ServedVersion], name: str) -> ServedVersion | None:
    """The version that `/predictions/NAME` must answer with."""
    return next((entry for entry in entries if entry.name == name and entry.default), None)


def find(entries: list[ServedVersion], name: str, version: str) -> ServedVersion | None:
    """The entry of a version."""
    return next((entry for entry in entries if (entry.name, entry.version) == (name, version)), None)


def switched(entries: list[ServedVersion], new: ServedVersion, former: ServedVersion | None) -> list[ServedVersion]:
    """The manifest with another default; what was default before becomes the first of the kept."""
    kept = [replace(former, default=False)] if former else []
    gone = {(entry.name, entry.version) for entry in (new, *kept)}
    rest = [
        replace(entry, default=entry.default and entry.name != new.name)
        for entry in entries
        if (entry.name, entry.version) not in gone
    ]
    return [replace(new, default=True, left=False), *kept, *rest]


def keep_copy(var: Path, mar: Path) -> None:
    """Copy an archive and its manifest beside served.json, each whole.

    Raises:
        OSError: there is no room.
    """
    folder = var / COPIES
    folder.mkdir(parents=True, exist_ok=True)
    for path in (mar.with_suffix(".json"), mar):
        beside = folder / f".{path.name}"
        shutil.copyfile(path, beside)
        beside.replace(folder / path.name)


def put_back(var: Path, archive: str, store: Path) -> bool:
    """Bring an archive that vanished from the store back from its copy; False where there is none."""
    copy = var / COPIES / archive
    if not copy.is_file():
        return False
    store.mkdir(parents=True, exist_ok=True)
    for path in (copy.with_suffix(".json"), copy):
        beside = store / f".{path.name}"
        shutil.copyfile(path, beside)
        beside.replace(store / path.name)
    return True


def drop_copies(var: Path, entries: list[ServedVersion]) -> None:
    """Remove copies of archives that need not be served any more."""
    wanted = {Path(entry.archive).stem for entry in entries}
    for path in (var / COPIES).glob("*"):
        if path.name.startswith(".") or path.stem not in wanted:
            path.unlink(missing_ok=True)
