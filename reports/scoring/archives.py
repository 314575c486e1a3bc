"""An archive that scores photos: its name, version and digest, and its files in a folder for the time of the job."""

import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from common.errors import CannotWrite, InvalidInput, NotFound
from common.files import writing
from deploy.store.mar import digests, identity
from handler.spec import read_spec


@dataclass(frozen=True)
class Model:
    """An unpacked archive. `digest` is the one that `deploy` prints; `labels` in the order of the recipe."""

    folder: Path
    name: str
    version: str
    digest: str
    labels: tuple[str, ...]
    limit: int

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@contextmanager
def unpacked(mar: Path, folder: Path) -> Iterator[Model]:
    """Unpack an archive for as long as the block runs.

    Args:
        folder: is removed before and after, so a killed job leaves one folder at most, until it continues.

    Raises:
        NotFound: there is no such file.
        InvalidInput: it is not an archive of this project.
        CannotWrite: there is no room for its files.
    """
    if not mar.is_file():
        raise NotFound(f"{mar}: there is no such file", "pack a bundle with scripts/archive.sh BUNDLE VERSION")
    folder = folder.absolute()  # workers run in it
    shutil.rmtree(folder, ignore_errors=True)
    try:
        try:
            digest = identity(digests(mar))
            with zipfile.ZipFile(mar) as archive, writing(folder):
                archive.extractall(folder)
            spec = read_spec(folder / "recipe.json")
        except CannotWrite:
            raise
        except Exception as error:  # a damaged zip can raise anything
            raise InvalidInput(f"{mar} is not an archive of this project ({error})", "give NAME-VERSION.mar") from error
        yield Model(folder, spec.name, _version(folder), digest, spec.labels, spec.limits.bytes)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _version(folder: Path) -> str:
    import json

    content = json.loads((folder / "MAR-INF" / "MANIFEST.json").read_text(encoding="utf-8"))
    return str(content["model"]["modelVersion"])
