"""Make TorchServe's front end pass forms on as bytes, so that `handler.forms` reads them.

By itself the front end (Netty 4.1.53) reads forms before the handler sees them, and no setting changes that. It keeps
one of two files with the same name, answers a broken form with 500, and never frees the memory or the temporary file
of some broken forms. It recognises a form by two constants of one class. TorchServe's launcher puts its working
directory, which is `var`, before its own archive on Java's class path. So a copy of that class with other constants
takes the place of the original.
"""

from importlib.util import find_spec
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from common.errors import UserError
from common.files import write_whole

CLASS = "io/netty/handler/codec/http/HttpHeaderValues.class"
TYPES = (b"multipart/form-data", b"application/x-www-form-urlencoded")
"""The content types that the front end no longer recognises."""


def pass_forms_on(var: Path) -> None:
    """Write the changed class where a TorchServe that is started in `var` finds it.

    Raises:
        UserError: the class is not in TorchServe's archive, or is another one than that of 0.12.0.
    """
    package = find_spec("ts")
    archive = Path((package and package.origin) or "ts").parent / "frontend" / "model-server.jar"
    try:
        with ZipFile(archive) as jar:
            original = jar.read(CLASS)
    except (OSError, KeyError, BadZipFile) as error:
        raise _unknown(archive) from error
    changed = original
    for kind in TYPES:
        constant = b"\x01" + len(kind).to_bytes(2, "big") + kind  # CONSTANT_Utf8: JVM specification, 4.4.7
        if original.count(constant) != 1:
            raise _unknown(archive)
        # No header can contain a line break, so no request has this content type.
        changed = changed.replace(constant, constant.replace(kind, b"\n" * len(kind)))
    (var / CLASS).parent.mkdir(parents=True, exist_ok=True)
    write_whole(var / CLASS, changed)


def _unknown(archive: Path) -> UserError:
    return UserError(
        f"{archive} is not the front end of TorchServe 0.12.0", "install the pinned versions with make install"
    )
