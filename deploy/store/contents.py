"""What lies in an archive, by digest, and what the manifest beside it says of it."""

import hashlib
import json
import re
import zipfile
from pathlib import Path
from typing import Any

from common.errors import UserError

VERSION = re.compile(r"\d{1,6}(\.\d{1,6}){1,2}")
OWN = "MAR-INF/MANIFEST.json"
"""TorchServe's own manifest inside an archive. It holds the time of packing, so the identity leaves it out."""


def digests(mar: Path) -> dict[str, str]:
    """SHA-256 of each content, by name. (Two builds of one input differ as files: a zip holds times.)"""
    with zipfile.ZipFile(mar) as packed:
        return {name: hashlib.sha256(packed.read(name)).hexdigest() for name in sorted(packed.namelist())}


def identity(contents: dict[str, str]) -> str:
    """One digest of all contents but the one that holds the time of packing."""
    lines = [f"{name} {digest}\n" for name, digest in contents.items() if name != OWN]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def read_manifest(mar: Path) -> dict[str, Any]:
    """The manifest beside an archive.

    Raises:
        UserError: it is missing or damaged.
    """
    path = mar.with_suffix(".json")
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is missing or damaged: pack the archive again under a new version") from error
    return content
