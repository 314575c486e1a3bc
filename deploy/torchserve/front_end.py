"""Change two classes of TorchServe's front end: forms are passed on as bytes, and gRPC has no streams.

By itself the front end (Netty 4.1.53) reads forms before the handler sees them, and no setting changes that. It keeps
one of two files with the same name, answers a broken form with 500, and never frees the memory or the temporary file
of some broken forms. It recognises a form by two constants of one class.

StreamPredictions and StreamPredictions2 are for handlers that answer in parts. With one that answers once they end the
worker: a null pointer, or an answer after the end of the stream. Under other names no client reaches them.

TorchServe's launcher puts its working directory, which is `var`, before its own archive on Java's class path. So
copies of the classes with other constants take the place of the originals.
"""

from importlib.util import find_spec
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from common.errors import UserError
from common.files import write_whole

CONSTANTS = {
    "io/netty/handler/codec/http/HttpHeaderValues.class": (
        b"multipart/form-data",
        b"application/x-www-form-urlencoded",
    ),
    "org/pytorch/serve/grpc/inference/InferenceAPIsServiceGrpc.class": (b"StreamPredictions", b"StreamPredictions2"),
}
"""Class -> its constants that are replaced by line breaks: no header and no gRPC method can contain one."""


def change_classes(var: Path) -> None:
    """Write the changed classes where a TorchServe that is started in `var` finds them.

    Raises:
        UserError: a class is not in TorchServe's archive, or is another one than that of 0.12.0.
    """
    package = find_spec("ts")
    archive = Path((package and package.origin) or "ts").parent / "frontend" / "model-server.jar"
    try:
        with ZipFile(archive) as jar:
            classes = {name: _changed(jar.read(name), constants) for name, constants in CONSTANTS.items()}
    except (OSError, LookupError, BadZipFile) as error:
        raise UserError(
            f"{archive} is not the front end of TorchServe 0.12.0", "install the pinned versions with make install"
        ) from error
    for name, content in classes.items():
        (var / name).parent.mkdir(parents=True, exist_ok=True)
        write_whole(var / name, content)


def _changed(content: bytes, constants: tuple[bytes, ...]) -> bytes:
    for text in constants:
        constant = b"\x01" + len(text).to_bytes(2, "big") + text  # CONSTANT_Utf8: JVM specification, 4.4.7
        if content.count(constant) != 1:
            raise LookupError(text)
        content = content.replace(constant, constant.replace(text, b"\n" * len(text)))
    return content
