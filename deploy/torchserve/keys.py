"""The keys that TorchServe writes into var/key_file.json each time it starts."""

import json
from pathlib import Path

from common.errors import NotFound

FILE = "key_file.json"


def read_key(var: Path, kind: str) -> str:
    """Read the `inference` or the `management` key.

    Raises:
        NotFound: no server has written one.
    """
    path = var / FILE
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))[kind]["key"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        fix = "is the server running? Start it with make serve"
        raise NotFound(f"{path} has no {kind} key", fix) from error
