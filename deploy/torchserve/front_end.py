"""Change three classes of TorchServe's front end: forms are passed on, gRPC has no streams, and may be cancelled.

By itself the front end (Netty 4.1.53) reads forms before the handler sees them, and no setting changes that. It keeps
one of two files with the same name, answers a broken form with 500, and never frees the memory or the temporary file
of some broken forms. It recognises a form by two constants of one class.

StreamPredictions and StreamPredictions2 are for handlers that answer in parts. With one that answers once they end the
worker: a null pointer, or an answer after the end of the stream. Under other names no client reaches them.

When a gRPC client gives up, the front end closes the call, although gRPC has done that. If the answer comes at the same
moment, it finds the call closed and ends the worker, often for good. Now the front end only logs it.

TorchServe's launcher puts its working directory, which is `var`, before its own archive on Java's class path. So
copies of the classes with a few other bytes take the place of the originals.
"""

from importlib.util import find_spec
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from common.errors import UserError
from common.files import write_whole


def _blank(text: bytes) -> tuple[bytes, bytes, int]:
    """A constant becomes line breaks: no header and no gRPC method can contain one."""
    size = b"\x01" + len(text).to_bytes(2, "big")  # CONSTANT_Utf8: JVM specification, 4.4.7
    return size + text, size + b"\n" * len(text), 1


_CLOSE = bytes.fromhex("2ab2019813019bb6009cb600a7b900ab0200")
"""responseObserver.onError(Status.CANCELLED.withDescription(...).asRuntimeException())"""

CHANGES: dict[str, tuple[tuple[bytes, bytes, int], ...]] = {
    "io/netty/handler/codec/http/HttpHeaderValues.class": (
        _blank(b"multipart/form-data"),
        _blank(b"application/x-www-form-urlencoded"),
    ),
    "org/pytorch/serve/grpc/inference/InferenceAPIsServiceGrpc.class": (
        _blank(b"StreamPredictions"),
        _blank(b"StreamPredictions2"),
    ),
    "org/pytorch/serve/grpcimpl/InferenceImpl.class": ((_CLOSE, bytes(len(_CLOSE)), 3),),  # 0 is `nop`
}
"""Class -> its bytes, those that replace them, and how often they are in it."""


def change_classes(var: Path) -> None:
    """Write the changed classes where a TorchServe that is started in `var` finds them.

    Raises:
        UserError: a class is not in TorchServe's archive, or is another one than that of 0.12.0.
    """
    package = find_spec("ts")
    archive = Path((package and package.origin) or "ts").parent / "frontend" / "model-server.jar"
    try:
        with ZipFile(archive) as jar:
            classes = {name: _changed(jar.read(name), changes) for name, changes in CHANGES.items()}
    except (OSError, LookupError, BadZipFile) as error:
        raise UserError(
            f"{archive} is not the front end of TorchServe 0.12.0", "install the pinned versions with make install"
        ) from error
    for name, content in classes.items():
        (var / name).parent.mkdir(parents=True, exist_ok=True)
        write_whole(var / name, content)


def _changed(content: bytes, changes: tuple[tuple[bytes, bytes, int], ...]) -> bytes:
    for before, after, count in changes:
        if content.count(before) != count:
            raise LookupError(before)
        content = content.replace(before, after)
    return content
