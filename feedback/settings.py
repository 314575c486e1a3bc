"""Settings of the feedback service, from the environment."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from common.errors import InvalidInput

ROOT = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
FOLDER = "feedback"
"""Folder below SERVE_VAR for the database, the photos and the secrets; deploy/host/var.py knows it, too."""

ROWS: tuple[tuple[str, str, str], ...] = (
    ("SERVE_WEB_PORT", "5000", "the upload and review pages, HTTP; 0: do not start them"),
    ("SERVE_WEB_HOST", HOST, "address that the pages listen on; others than the loopback need a proxy with HTTPS"),
    ("FEEDBACK_DATABASE", "", "database URL, for example postgresql+psycopg://user@host/name (default: SQLite in var)"),
    ("FEEDBACK_PHOTOS", "", "folder or URL (s3://bucket/prefix) of the uploaded photos (default: in var)"),
    (
        "FEEDBACK_SERVER",
        "",
        "URL of a front that answers (default: the TorchServe of SERVE_VAR); SERVE_STORE has its archives",
    ),
    ("FEEDBACK_TOKEN", "", "this program's token for the front of FEEDBACK_SERVER"),
    ("FEEDBACK_MODEL", "", "name of the served model that answers uploads (default: the first one served)"),
    ("FEEDBACK_ANONYMOUS", "no", "yes: uploading needs no account; such corrections are never a first opinion"),
    ("FEEDBACK_KEEP_DAYS", "180", "days until an uploaded photo expires"),
    ("FEEDBACK_FROZEN", "", "folder of the frozen test photos: near duplicates of them are never learned from"),
    ("FEEDBACK_LINKS", "", "prefixes, separated by blanks, of the links that POST /model accepts"),
)
"""Environment variable, default, help."""


@dataclass(frozen=True)
class Settings:
    """Resolved settings.

    Attributes:
        port: TCP port of the pages; 0: off.
        host: address to listen on.
        var: folder of TorchServe's runtime files: keys, served.json.
        store: folder of the archives.
        inference: URL of TorchServe's predictions, or of a front.
        token: for the front; empty: `inference` is the TorchServe of `var`, whose key is read from there.
        database: SQLAlchemy URL.
        photos: folder, or URL that fsspec understands.
        model: name of the model that answers; empty: the first one served.
        anonymous: whether people may upload without an account.
        keep_days: days until a photo expires.
        frozen: folder of the frozen test photos, if any.
        links: prefixes of archives that may be downloaded.
    """

    port: int
    host: str
    var: Path
    store: Path
    inference: str
    database: str
    photos: str
    model: str = ""
    anonymous: bool = False
    keep_days: int = 180
    frozen: Path | None = None
    links: tuple[str, ...] = ()
    token: str = ""

    @property
    def folder(self) -> Path:
        """The folder of this service's own files."""
        return self.var / FOLDER

    @property
    def spool(self) -> Path:
        """The folder of photos that the service has captured (deploy/torchserve/process.py)."""
        return self.var / "spool"


def read_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Resolve all settings.

    Raises:
        InvalidInput: a value is not valid; the message names the variable.
    """
    environ = os.environ if environ is None else environ
    value = {name: environ.get(name) or default for name, default, _ in ROWS}
    var = (ROOT / (environ.get("SERVE_VAR") or "var")).resolve()
    folder = var / FOLDER
    port = _number(environ.get("SERVE_INFERENCE_PORT") or "8080", "SERVE_INFERENCE_PORT", 1, 65535)
    server = value["FEEDBACK_SERVER"].rstrip("/")
    if bool(server) != bool(value["FEEDBACK_TOKEN"]):
        raise InvalidInput("FEEDBACK_SERVER and FEEDBACK_TOKEN belong together", "set both, or neither")
    return Settings(
        port=_number(value["SERVE_WEB_PORT"], "SERVE_WEB_PORT", 0, 65535),
        host=value["SERVE_WEB_HOST"],
        var=var,
        store=(ROOT / (environ.get("SERVE_STORE") or "model_store")).resolve(),
        inference=server or f"http://{HOST}:{port}",
        token=value["FEEDBACK_TOKEN"],
        database=value["FEEDBACK_DATABASE"] or f"sqlite:///{folder / 'feedback.db'}",
        photos=value["FEEDBACK_PHOTOS"] or str(folder / "photos"),
        model=value["FEEDBACK_MODEL"],
        anonymous=_yes(value["FEEDBACK_ANONYMOUS"], "FEEDBACK_ANONYMOUS"),
        keep_days=_number(value["FEEDBACK_KEEP_DAYS"], "FEEDBACK_KEEP_DAYS", 1, 36500),
        frozen=Path(value["FEEDBACK_FROZEN"]) if value["FEEDBACK_FROZEN"] else None,
        links=tuple(value["FEEDBACK_LINKS"].split()),
    )


def _number(text: str, name: str, low: int, high: int) -> int:
    if not text.isdecimal() or not low <= int(text) <= high:
        raise InvalidInput(f"{name}: {text!r} is not valid", f"give a number from {low} to {high}")
    return int(text)


def _yes(text: str, name: str) -> bool:
    if text.lower() not in ("yes", "no"):
        raise InvalidInput(f"{name}: {text!r} is not valid", "give yes or no")
    return text.lower() == "yes"
