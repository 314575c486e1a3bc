"""An archive of the store that wants to be served: is it whole, is it what its manifest says, did it pass its gate?"""

import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from common.errors import UserError
from deploy.store.contents import OWN, VERSION, digests, identity, read_manifest
from deploy.store.desired import ServedVersion
from handler.spec import Spec

_FILE = re.compile(rf"(?P<name>[a-z][a-z0-9_-]*)-(?P<version>{VERSION.pattern})\.mar")


@dataclass(frozen=True)
class Candidate:
    """A version to be rolled out, by its archive in the store."""

    mar: Path
    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"

    def entry(self, digest: str, spec: Spec) -> ServedVersion:
        """Its line in the manifest of what is served, as the default."""
        return ServedVersion(self.name, self.version, self.mar.name, digest, default=True, workers=spec.rollout.workers)


def find(path: Path, store: Path) -> Candidate:
    """The candidate that a person named, by path or by its bare file name.

    Raises:
        UserError: it is no archive's name, not in the store, or not there.
    """
    match = _FILE.fullmatch(path.name)
    if match is None:
        raise UserError(f"{path} is no archive: give one as NAME-VERSION.mar, packed by scripts/archive.sh")
    mar = store / path.name
    if path.parent != Path() and path.resolve().parent != store:
        raise UserError(f"{path} is not in the store: copy it and its .json to {store} first")
    if not mar.is_file():
        raise UserError(f"{mar} is missing: pack it with scripts/archive.sh BUNDLE {match['version']}")
    return Candidate(mar, match["name"], match["version"])


def inspect(candidate: Candidate) -> tuple[dict[str, Any], Spec]:
    """Compare an archive with its manifest, content by content.

    Returns:
        the manifest, and the serving half of the recipe that lies in the archive.

    Raises:
        UserError: the manifest is missing or of another version, a content is damaged or edited, or
            its gate was not passed.
    """
    manifest = read_manifest(candidate.mar)
    if (manifest.get("name"), manifest.get("version")) != (candidate.name, candidate.version):
        raise UserError(
            f"{candidate.mar.name} has the manifest of {manifest.get('name')} {manifest.get('version')}: "
            "bring its own .json back, or pack it again under a new version"
        )
    _compare(candidate.mar, manifest)
    if not manifest.get("gate", {}).get("passed"):
        raise UserError(f"{candidate} failed its gate: train or prune it again, and pack a new version")
    try:
        own, recipe = (
            json.loads(zipfile.Path(candidate.mar, name).read_text("utf-8")) for name in (OWN, "recipe.json")
        )
        inside, spec = (own["model"]["modelName"], own["model"]["modelVersion"]), Spec.model_validate(recipe)
    except (OSError, KeyError, ValueError, TypeError, ValidationError) as error:
        raise UserError(f"{candidate.mar.name} holds no recipe: pack it with scripts/archive.sh") from error
    if inside != (candidate.name, candidate.version):
        raise UserError(f"{candidate.mar.name} holds {' '.join(inside)}: pack it again under a new version")
    return manifest, spec


def _compare(mar: Path, manifest: dict[str, Any]) -> None:
    again = "pack the bundle again under a new version"
    try:
        found = digests(mar)
    except Exception as error:  # BadZipFile, zlib.error, NotImplementedError ...: a damaged zip can raise any of them
        raise UserError(f"{mar.name} is damaged ({error}): {again}") from error
    told = manifest.get("contents") or {}
    for name in sorted({*found, *told}):
        if found.get(name) != told.get(name):
            state = "was edited" if name in found and name in told else "was added" if name in found else "is missing"
            raise UserError(f"{mar.name}: {name} {state} since it was packed: {again}")
    if identity(found) != manifest.get("digest"):
        raise UserError(f"{mar.name}: its manifest was edited: {again}")
