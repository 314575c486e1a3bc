"""Labels in a numpy file: ours (`labels.npy`, an array of strings), and `idx_to_labels.npy` of the ONNX document.

The latter is a dict in an array of objects. numpy stores that as a pickle, and a pickle can run any program. Here
an `Unpickler` reads it that finds no other name than the four that numpy writes for an array, and puts an inert
placeholder in their place.
"""

import pickle
import pickletools
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import InvalidInput
from common.files import write_whole

LABELS = "labels.npy"
MAX_BYTES = 10_000_000
_ARRAY_NAMES = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}
"""The names in a pickled array. `encode` makes its bytes at protocols 0 to 2. None is imported."""
_MEMO_WRITES = {"PUT", "BINPUT", "LONG_BINPUT"}


class _Refused(ValueError):
    """The file has another form than the two that are read."""


class _Placeholder:
    """A placeholder for an object that a pickle would have created; it keeps only the object's state."""

    state: Any = None

    def __init__(self, *arguments: object) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Unpickler(pickle.Unpickler):
    """Creates plain data and placeholders."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ARRAY_NAMES:
            raise _Refused(f"its pickle asks for {module}.{name}")
        return _Placeholder

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused("its pickle refers to another file")


def write_labels(path: Path, labels: Sequence[str]) -> None:
    """Write labels as an array of strings: `numpy.load` reads it without unpickling."""
    buffer = BytesIO()
    np.save(buffer, np.array(labels, dtype=np.str_), allow_pickle=False)
    write_whole(path, buffer.getvalue())


def read_labels(path: Path) -> tuple[str, ...]:
    """Read labels, index 0 first.

    Args:
        path: an array of strings, or a dict from index to label in an array of objects; at most `MAX_BYTES`.

    Raises:
        InvalidInput: the file cannot be read, or holds anything else.
    """
    fix = "give labels.npy of a bundle, or a .npy with a dict from 0, 1, 2 ... to labels"
    try:
        if path.stat().st_size > MAX_BYTES:
            raise _Refused(f"it is larger than {MAX_BYTES} bytes")
        return _in_order(_content(path.read_bytes()))
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}", fix) from error
    except Exception as error:  # a damaged pickle raises IndexError, UnicodeDecodeError, MemoryError ...
        raise InvalidInput(f"{path} holds no labels that can be read safely ({error})", fix) from error


def _content(data: bytes) -> Any:
    file = BytesIO(data)
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise _Refused(f"its format is {version[0]}.{version[1]}")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    if dtype.hasobject:
        if shape:
            raise _Refused("it holds several objects")
        return _unpickled(file.read())
    labels = np.load(BytesIO(data), allow_pickle=False)
    if labels.dtype.kind != "U" or labels.ndim != 1:
        raise _Refused(f"it is an array of {labels.dtype} with {labels.ndim} dimensions")
    return dict(enumerate(map(str, labels)))


def _unpickled(data: bytes) -> Any:
    """The object in a pickled array without dimensions."""
    _check_sizes(data)
    array = _Unpickler(BytesIO(data)).load()
    state = array.state if isinstance(array, _Placeholder) else None
    objects = state[-1] if isinstance(state, tuple) and state else None
    if not isinstance(objects, list) or len(objects) != 1:
        raise _Refused("it is not an array of one object")
    return objects[0]


def _check_sizes(data: bytes) -> None:
    """Refuse a pickle that would allocate more memory than its own size: the unpickler trusts these numbers.

    Raises:
        _Refused: a memo index is larger than the file.
        ValueError: an opcode is unknown, or its argument is longer than the file.
    """
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name in _MEMO_WRITES and int(argument or 0) > len(data):
            raise _Refused(f"its pickle stores object number {argument}")


def _in_order(content: Any) -> tuple[str, ...]:
    if not isinstance(content, Mapping) or not content:
        raise _Refused("it is not a dict, or an empty one")
    if set(content) != set(range(len(content))) or any(type(key) is not int for key in content):
        raise _Refused("its keys are not 0, 1, 2 ...")
    labels = tuple(content[index] for index in range(len(content)))
    if not all(isinstance(label, str) and label for label in labels):
        raise _Refused("not all its values are text")
    return labels
