"""Archives NAME-VERSION.mar of the store: their contents, the manifest NAME-VERSION.json, and the checks of both.

Nothing here imports pydantic before a recipe is read: `rollback` must start quickly.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.errors import CheckFailed, InvalidInput, NotFound
from common.files import write_json
from common.words import instead_of
from deploy.store.desired import ServedVersion

if TYPE_CHECKING:
    from handler.spec import Spec

VERSION = re.compile(r"(?:0|[1-9][0-9]{0,5})(?:\.(?:0|[1-9][0-9]{0,5})){1,2}")
TORCHSERVE_MANIFEST = "MAR-INF/MANIFEST.json"
"""TorchServe's own manifest inside an archive. It holds the time of packing, so the identity leaves it out."""
_FILE = re.compile(rf"(?P<name>[a-z][a-z0-9_-]*)-(?P<version>{VERSION.pattern})\.mar")
_PACK_AGAIN = "pack the bundle again under a new version"


@dataclass(frozen=True)
class ArchiveManifest:
    """What NAME-VERSION.json says about an archive.

    Attributes:
        digest: `identity` of the contents.
        contents: file name -> SHA-256.
        run: id of the training run that the model comes from; `parent` is the run before it.
        metrics, gate: of the run, as training wrote them.
        recipe: the serving half of the recipe (`handler.spec.Spec`).
        runtime: engine, precision and version of the runtime.
        weights: precision of the weights.
        goldens_difference: largest |p - p at export| of a golden photo, 0 to 1.
        packed: time of packing, ISO 8601.
        cpu_flags: vector instructions of the CPU on which the golden photos were checked.
    """

    name: str
    version: str
    digest: str
    contents: Mapping[str, str] = field(default_factory=dict)
    run: str | None = None
    parent: str | None = None
    commit: str | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    gate: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    runtime: Mapping[str, Any] = field(default_factory=dict)
    weights: str | None = None
    goldens_difference: float | None = None
    packed: str | None = None
    cpu_flags: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def read_manifest(mar: Path) -> ArchiveManifest:
    """The manifest of an archive; keys that are not known are ignored.

    Raises:
        InvalidInput: it is missing or damaged.
    """
    path = mar.with_suffix(".json")
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
        known = {field.name: row[field.name] for field in fields(ArchiveManifest) if field.name in row}
        return ArchiveManifest(**{**known, "cpu_flags": tuple(known.get("cpu_flags", ()))})
    except (OSError, ValueError, TypeError) as error:
        raise InvalidInput(f"{path} is missing or damaged", "pack the archive again under a new version") from error


def write_manifest(mar: Path, manifest: ArchiveManifest) -> None:
    """Write the manifest of an archive next to it.

    Raises:
        OSError: it cannot be written.
    """
    write_json(mar.with_suffix(".json"), asdict(manifest))


def next_version(store: Path, name: str) -> str:
    """The version after the highest of a model in the store: 1.1 after 1.0, 1.0.4 after 1.0.3; at first 1.0."""
    matches = [_FILE.fullmatch(path.name) for path in store.glob(f"{name}-*.mar")]
    versions = [[int(part) for part in match["version"].split(".")] for match in matches if match]
    *rest, last = max(versions, default=[1, -1])
    return ".".join(map(str, [*rest, last + 1]))


def digests(mar: Path) -> dict[str, str]:
    """SHA-256 of each file in an archive, by name. (Two builds of one bundle differ as files: a zip holds times.)"""
    with zipfile.ZipFile(mar) as archive:
        return {name: hashlib.sha256(archive.read(name)).hexdigest() for name in sorted(archive.namelist())}


def identity(contents: Mapping[str, str]) -> str:
    """One digest of all files except the one that holds the time of packing."""
    lines = [f"{name} {digest}\n" for name, digest in contents.items() if name != TORCHSERVE_MANIFEST]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def served_version(mar: Path) -> ServedVersion:
    """An archive as the default version in the manifest of what is served.

    Raises:
        InvalidInput: the archive's manifest is missing or damaged.
    """
    from handler.spec import Spec  # pydantic

    manifest = read_manifest(mar)
    workers = Spec.model_validate(manifest.recipe).rollout.workers
    return ServedVersion(manifest.name, manifest.version, mar.name, manifest.digest, default=True, workers=workers)


@dataclass(frozen=True)
class Archive:
    """An archive of the store, by its file name."""

    mar: Path
    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"

    def served_version(self, digest: str, spec: Spec) -> ServedVersion:
        """Its row in the manifest of what is served, as the default."""
        workers = spec.rollout.workers
        return ServedVersion(self.name, self.version, self.mar.name, digest, default=True, workers=workers)


def find_archive(path: Path, store: Path) -> Archive:
    """The archive that a person named, by path or by file name.

    Raises:
        UserError: the name is not NAME-VERSION.mar, or the archive is not in the store.
    """
    match = _FILE.fullmatch(path.name)
    if match is None:
        raise InvalidInput(f"{path} is not an archive", f"give NAME-VERSION.mar; {_others(path, store)}")
    mar = store / path.name
    if path.parent != Path() and path.resolve().parent != store and (path.exists() or not mar.is_file()):
        raise NotFound(f"{path} is not in the store", f"copy it and its .json to {store} first")
    if not mar.is_file():
        pack = f"scripts/archive.sh BUNDLE {match['version']} packs a new one"
        raise NotFound(f"{mar} does not exist", f"{_others(path, store)}; {pack}")
    return Archive(mar, match["name"], match["version"])


def _others(path: Path, store: Path) -> str:
    return instead_of(path.name, [mar.name for mar in store.glob("*.mar") if _FILE.fullmatch(mar.name)], store)


def check_archive(archive: Archive) -> tuple[ArchiveManifest, Spec]:
    """Compare an archive with its manifest, file by file.

    Returns:
        the manifest, and the serving half of the recipe in the archive.

    Raises:
        UserError: the manifest is missing or belongs to another version, a file is damaged or was edited, or the
            model failed its gate.
    """
    manifest = read_manifest(archive.mar)
    if (manifest.name, manifest.version) != (archive.name, archive.version):
        raise InvalidInput(
            f"{archive.mar.name} has the manifest of {manifest}",
            "restore its own .json, or pack it again under a new version",
        )
    _compare(archive.mar, manifest)
    if not manifest.gate.get("passed"):
        raise CheckFailed(f"{archive} failed its gate", "train or prune it again, and pack a new version")
    return manifest, _read_recipe(archive)


def _read_recipe(archive: Archive) -> Spec:
    from handler.spec import Spec  # pydantic

    contents = zipfile.Path(archive.mar)
    try:
        model = json.loads((contents / TORCHSERVE_MANIFEST).read_text("utf-8"))["model"]
        packed_as = (model["modelName"], model["modelVersion"])
        spec = Spec.model_validate(json.loads((contents / "recipe.json").read_text("utf-8")))
    except (OSError, KeyError, ValueError, TypeError) as error:  # pydantic's ValidationError is a ValueError
        raise InvalidInput(f"{archive.mar.name} has no valid recipe", "pack it with scripts/archive.sh") from error
    if packed_as != (archive.name, archive.version):
        raise InvalidInput(f"{archive.mar.name} was packed as {' '.join(packed_as)}", _PACK_AGAIN)
    return spec


def _compare(mar: Path, manifest: ArchiveManifest) -> None:
    try:
        actual = digests(mar)
    except Exception as error:  # BadZipFile, zlib.error, NotImplementedError ...: a damaged zip can raise any of them
        raise InvalidInput(f"{mar.name} is damaged ({error})", _PACK_AGAIN) from error
    expected = manifest.contents
    for name in sorted({*actual, *expected}):
        if actual.get(name) != expected.get(name):
            change = "is missing" if name not in actual else "was edited" if name in expected else "was added"
            raise InvalidInput(f"{mar.name}: {name} {change} since it was packed", _PACK_AGAIN)
    if identity(actual) != manifest.digest:
        raise InvalidInput(f"{mar.name}: its manifest was edited", _PACK_AGAIN)


def is_intact(mar: Path, digest: str) -> bool:
    """Whether an archive can be read and has this identity."""
    try:
        return identity(digests(mar)) == digest
    except Exception:  # a damaged zip can raise anything, as in `_compare`
        return False
