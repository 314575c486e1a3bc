"""Labels in a file of numpy's: ours (`labels.npy`, an array of strings) and the document's `idx_to_labels.npy`.

The document's is a dict in an array of objects, which numpy can only unpickle: any program could stand in it. Here
its pickle is read opcode by opcode (`pickletools.genops`), nothing is looked up and nothing is called. Taken is that
one form alone: the names numpy writes for an array, and a dict of whole numbers and strings.
"""

import pickletools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import UserError
from common.files import write_whole

LABELS = "labels.npy"
MOST_BYTES = 10_000_000
_ARRAY = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}
"""The names by which numpy's pickles say what an array is; they are compared, never imported."""


class _Refused(ValueError):
    """The pickle is not the one form that is read."""


@dataclass
class _Made:
    """Where a pickle would have made an object: what it would have been given as its state, and no object."""

    state: Any = None


def write_labels(path: Path, labels: Sequence[str]) -> None:
    """Write labels as an array of strings: `numpy.load` reads it without unpickling."""
    buffer = BytesIO()
    np.save(buffer, np.array(labels, dtype=np.str_), allow_pickle=False)
    write_whole(path, buffer.getvalue())


def read_labels(path: Path) -> tuple[str, ...]:
    """Read labels, index 0 first.

    Args:
        path: an array of strings, or a dict from index to label in an array of objects.

    Raises:
        UserError: it cannot be read, or holds anything else.
    """
    fix = "give labels.npy of a bundle, or a .npy with a dict from 0, 1, 2 ... to labels"
    try:
        if path.stat().st_size > MOST_BYTES:
            raise _Refused(f"it is above {MOST_BYTES} bytes")
        return _in_order(_content(path.read_bytes()))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}: {fix}") from error
    except Exception as error:  # a damaged pickle can raise any: IndexError, UnicodeDecodeError, MemoryError ...
        raise UserError(f"{path} holds no labels that can be read safely ({error}): {fix}") from error


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
        return _Reader().read(file.read())
    found = np.load(BytesIO(data), allow_pickle=False)
    if found.dtype.kind != "U" or found.ndim != 1:
        raise _Refused(f"it is an array of {found.dtype} with {found.ndim} dimensions")
    return dict(enumerate(map(str, found)))


def _in_order(found: Any) -> tuple[str, ...]:
    if not isinstance(found, Mapping) or not found:
        raise _Refused("it is no dict, or an empty one")
    if set(found) != set(range(len(found))) or any(type(key) is not int for key in found):
        raise _Refused("its keys are not 0, 1, 2 ...")
    labels = tuple(found[index] for index in range(len(found)))
    if not all(isinstance(label, str) and label for label in labels):
        raise _Refused("its values are not all text")
    return labels


class _Reader:
    """A pickle's stack and memo, on which nothing but data can be put."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def read(self, data: bytes) -> Any:
        """The object inside a pickled array of no dimensions.

        Raises:
            _Refused: anything in it is not data; and what a damaged pickle raises.
        """
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name == "STOP":
                break
            self._step(opcode.name, argument)
        top = self.stack.pop()
        inside = top.state[-1] if isinstance(top, _Made) and isinstance(top.state, tuple) else None
        if not isinstance(inside, list) or len(inside) != 1:
            raise _Refused("it is no array of one object")
        return inside[0]

    def _step(self, name: str, argument: Any) -> None:
        if name in _PASSED:
            return
        if name in _VALUES:
            self.stack.append(argument)
        elif name in _STEPS:
            _STEPS[name](self, argument)
        else:
            raise _Refused(f"{name} in its pickle")

    def name(self, module: str, word: str) -> None:
        """A name that the pickle wants imported: one of numpy's own for arrays, or it is refused."""
        if (module, word) not in _ARRAY:
            raise _Refused(f"its pickle asks for {module}.{word}")
        self.stack.append(_Made())

    def marked(self) -> list[Any]:
        """Take what lies above the last mark."""
        at = self.marks.pop()
        items = self.stack[at:]
        del self.stack[at:]
        return items

    def taken(self, count: int) -> tuple[Any, ...]:
        """Take so many from the top, lowest first."""
        if len(self.stack) < count:
            raise _Refused("its pickle is damaged")
        items = tuple(self.stack[len(self.stack) - count :])
        del self.stack[len(self.stack) - count :]
        return items


def _global(reader: _Reader, argument: Any) -> None:
    reader.name(*str(argument).split(" ", 1))


def _stack_global(reader: _Reader, _: Any) -> None:
    module, word = reader.taken(2)
    reader.name(str(module), str(word))


def _reduce(reader: _Reader, _: Any) -> None:
    made, arguments = reader.taken(2)
    if not isinstance(made, _Made) or not isinstance(arguments, tuple):
        raise _Refused("its pickle calls what is no name")
    reader.stack.append(_Made())


def _build(reader: _Reader, _: Any) -> None:
    (state,) = reader.taken(1)
    if not isinstance(reader.stack[-1], _Made):
        raise _Refused("its pickle gives a state to what is no array")
    reader.stack[-1].state = state


def _set_items(reader: _Reader, items: Sequence[Any]) -> None:
    if not isinstance(reader.stack[-1], dict):
        raise _Refused("its pickle fills what is no dict")
    reader.stack[-1].update(zip(items[::2], items[1::2], strict=True))


def _append(reader: _Reader, items: Sequence[Any]) -> None:
    if not isinstance(reader.stack[-1], list):
        raise _Refused("its pickle fills what is no list")
    reader.stack[-1].extend(items)


def _remember(reader: _Reader, argument: Any) -> None:
    reader.memo[len(reader.memo) if argument is None else int(argument)] = reader.stack[-1]


_PASSED = {"PROTO", "FRAME"}
_VALUES = {"BININT", "BININT1", "BININT2", "INT", "LONG1", "BINUNICODE", "SHORT_BINUNICODE", "UNICODE"}
_VALUES |= {"SHORT_BINBYTES", "BINBYTES", "BINSTRING", "SHORT_BINSTRING", "STRING"}
_STEPS: dict[str, Callable[[_Reader, Any], None]] = {
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _reduce,
    "BUILD": _build,
    "MARK": lambda reader, _: reader.marks.append(len(reader.stack)),
    "NONE": lambda reader, _: reader.stack.append(None),
    "NEWTRUE": lambda reader, _: reader.stack.append(True),
    "NEWFALSE": lambda reader, _: reader.stack.append(False),
    "EMPTY_DICT": lambda reader, _: reader.stack.append({}),
    "EMPTY_LIST": lambda reader, _: reader.stack.append([]),
    "EMPTY_TUPLE": lambda reader, _: reader.stack.append(()),
    "TUPLE": lambda reader, _: reader.stack.append(tuple(reader.marked())),
    "TUPLE1": lambda reader, _: reader.stack.append(reader.taken(1)),
    "TUPLE2": lambda reader, _: reader.stack.append(reader.taken(2)),
    "TUPLE3": lambda reader, _: reader.stack.append(reader.taken(3)),
    "SETITEM": lambda reader, _: _set_items(reader, reader.taken(2)),
    "SETITEMS": lambda reader, _: _set_items(reader, reader.marked()),
    "APPEND": lambda reader, _: _append(reader, reader.taken(1)),
    "APPENDS": lambda reader, _: _append(reader, reader.marked()),
    "BINPUT": _remember,
    "LONG_BINPUT": _remember,
    "MEMOIZE": _remember,
    "BINGET": lambda reader, argument: reader.stack.append(reader.memo[int(argument)]),
    "LONG_BINGET": lambda reader, argument: reader.stack.append(reader.memo[int(argument)]),
}
"""What each opcode does here; whatever else could import, call or extend is not among them."""
