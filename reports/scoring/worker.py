"""A process that classifies photos with the code inside an archive, without a server.

Run by `reports.scoring.workers` as a script with the unpacked archive first on its path, so `handler` is the archive's
own. The photo passes the four steps that TorchServe calls: initialize, preprocess, inference, postprocess.
"""

import ctypes
import errno
import hashlib
import json
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from dataset.auditing.hashing import HASH_SIDE, hash_photo

Result = dict[str, Any]

_SIDE = 2 * 4 * HASH_SIDE  # pixels: twice the side of the thumbnail that a hash is computed from
_TRIMMED = 256  # photos between two calls of `give_back_memory`


class Task(NamedTuple):
    """One photo: the path of its file, or its bytes, or the error that getting it ended with (code, message)."""

    path: str = ""
    data: bytes | None = None
    error: tuple[str, str] | None = None


class Context:
    """What the handler asks TorchServe for. Headers: each photo is a request of its own that wants the detail."""

    def __init__(self, folder: Path) -> None:
        self.manifest = json.loads((folder / "MAR-INF" / "MANIFEST.json").read_text(encoding="utf-8"))
        self.system_properties = {"model_dir": str(folder), "gpu_id": None}
        self.model_name = self.manifest["model"]["modelName"]
        self.metrics = None

    def get_all_request_header(self, _: int) -> dict[str, str]:
        return {"content-type": "image/jpeg", "x-detail": "true"}

    def set_response_status(self, code: int, phrase: str, index: int) -> None: ...

    def set_response_content_type(self, index: int, value: str) -> None: ...

    def set_response_header(self, index: int, key: str, value: str) -> None: ...


class Classifier:
    """The handler of an unpacked archive as a function: a photo -> a row.

    Raises:
        Exception: the archive cannot be loaded, or a golden photo is answered differently.
    """

    def __init__(self, folder: Path) -> None:
        from handler.service import ClassifierService

        self._service = ClassifierService()
        self._service.initialize(Context(folder))
        spec = self._service.spec
        # Serving gives uncommon photos less time after costly ones; here the answer must not depend on other photos.
        self._service.decoders = type(self._service.decoders)(spec.input, spec.limits, patient=True)
        self._limit = spec.limits.bytes
        self.facts = {"name": spec.name, "version": self._service.version, "labels": list(spec.labels)}

    def __call__(self, task: Task) -> Result:
        """Classify one photo. A problem with it is an error code in the row, never an exception."""
        try:
            return self._classify(task)
        except Exception as error:
            return _failed("internal_error", f"{type(error).__name__}: {error}")

    def _classify(self, task: Task) -> Result:
        if task.error:
            return _failed(*task.error)
        try:
            data = self._read(task.path) if task.data is None else task.data
        except OSError as error:
            missing = isinstance(error, FileNotFoundError | NotADirectoryError)
            return _failed("file_not_found" if missing else "file_unreadable", str(error.strerror))
        row: Result = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        if len(data) > self._limit:
            size = Path(task.path).stat().st_size if task.path else len(data)
            message = f"the photo has {size} bytes, more than the limit of {self._limit}"
            return {**_failed("image_too_large", message), "bytes": size}
        return row | self._answer(data)

    def _read(self, path: str) -> bytes:
        if Path(path).is_fifo():  # opening it would wait for a writer
            raise OSError(errno.EINVAL, "not a regular file")
        with Path(path).open("rb") as file:
            return file.read(self._limit + 1)

    def _answer(self, data: bytes) -> Result:
        rows = self._service.inference(self._service.preprocess([{"body": data}]))
        entry = json.loads(self._service.postprocess(rows)[0])
        if not isinstance(entry, dict) or "error" in entry:
            error = entry["error"] if isinstance(entry, dict) else None
            return _failed(**(error or {"code": "unsupported_format", "message": "the file is a list of photos"}))
        pixels = rows[0].photos[0].pixels
        assert pixels is not None  # it was classified
        return {
            "label": entry["result"],
            "confidence": entry["confidence"],
            "unsure": entry["unsure"],
            "in_scope": _in_scope(entry),
            "scope": entry.get("in_scope"),
            "probabilities": entry["probabilities"],
            "phash": hash_photo(_thumbnail(pixels)),
            "brightness": _brightness(pixels),
        }


def _failed(code: str, message: str) -> Result:
    return {"error_code": code, "error": " ".join(message.split())[:400]}


def _in_scope(entry: dict[str, Any]) -> bool | None:
    """None: this archive cannot tell."""
    return not entry["out_of_scope"] if "out_of_scope" in entry else None


def _thumbnail(pixels: np.ndarray) -> Image.Image:
    """The green plane of the network's input, uint8 (channels, height, width), reduced to about 100 pixels.

    The perceptual hash of it tells photos apart as well as one of all pixels and takes a tenth of the time
    (docs/log.md).
    """
    return Image.fromarray(pixels[len(pixels) // 2]).reduce(max(1, min(pixels.shape[1:]) // _SIDE))


def _brightness(pixels: np.ndarray) -> float:
    """The mean of some thousand pixels, 0 to 255."""
    step = max(1, min(pixels.shape[1:]) // 32)
    return float(pixels[:, ::step, ::step].mean())


def main(descriptor: str, folder: str) -> None:
    """Answer lists of tasks until the other side closes the connection, which it also does when it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    connection = Connection(int(descriptor))
    try:
        classify = Classifier(Path(folder))
    except Exception as error:
        connection.send(f"{type(error).__name__}: {error}")
        return
    connection.send(classify.facts)
    answer(connection, classify)


def answer(connection: Connection, classify: Callable[[Task], Result]) -> None:
    """Answer lists of tasks until the other side closes the connection."""
    answered = 0
    while True:
        try:
            tasks = connection.recv()
            connection.send([classify(Task(*task)) for task in tasks])
        except (EOFError, ConnectionError):
            return
        answered += len(tasks)
        if answered >= _TRIMMED:
            answered = 0
            give_back_memory()


def give_back_memory() -> None:
    """Give what is free in the heap back to the system, which takes 2 ms: otherwise it creeps up (docs/log.md)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # only in glibc
    if trim:
        trim(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
