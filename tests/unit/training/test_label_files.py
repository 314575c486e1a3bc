"""Labels in numpy files: the scenes document's form and ours are read, and no code in them is executed."""

import io
import os
import pickle
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.errors import UserError
from training.bundles.labels import read_labels, write_labels

NAMES = ("苹果", "banana", "Äpfel & Birnen")


def pickled(path: Path, content: Any, protocol: int = 4) -> Path:
    """A file as numpy writes an array of one object, at a protocol of pickle."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|O", "fortran_order": False, "shape": ()})
    array = np.empty((), dtype=object)
    array[()] = content
    path.write_bytes(buffer.getvalue() + pickle.dumps(array, protocol))
    return path


def test_our_label_files_are_read_without_pickle(tmp_path: Path) -> None:
    write_labels(tmp_path / "labels.npy", NAMES)
    assert read_labels(tmp_path / "labels.npy") == NAMES
    assert tuple(np.load(tmp_path / "labels.npy", allow_pickle=False)) == NAMES


def test_a_label_file_of_the_scenes_document_is_read(tmp_path: Path) -> None:
    np.save(tmp_path / "idx_to_labels.npy", {2: NAMES[2], 0: NAMES[0], 1: NAMES[1]})  # type: ignore[arg-type]
    assert read_labels(tmp_path / "idx_to_labels.npy") == NAMES


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("count", [1, 2, 1500])
def test_every_protocol_and_size(tmp_path: Path, protocol: int, count: int) -> None:
    labels = {index: f"class {index}" for index in range(count)}
    assert read_labels(pickled(tmp_path / "a.npy", labels, protocol)) == tuple(labels.values())


class Hostile:
    """Unpickled, it would run a command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


@pytest.mark.parametrize("where", ["value", "key", "whole", "nested"])
def test_a_hostile_file_is_refused_and_not_run(tmp_path: Path, where: str) -> None:
    done = tmp_path / "done"
    hostile = Hostile(f"touch {done}")
    content = {"value": {0: "a", 1: hostile}, "key": {hostile: "a"}, "whole": hostile, "nested": {0: [hostile]}}[where]
    path = pickled(tmp_path / "a.npy", content)
    with pytest.raises(UserError, match=r"asks for posix\.system.*labels\.npy of a bundle"):
        read_labels(path)
    assert not done.exists()
    np.load(path, allow_pickle=True)  # the file is really hostile: numpy itself runs it
    assert done.exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({0: "a", 2: "b"}, "keys are not 0, 1, 2"),
        ({0: "a", True: "b"}, "keys are not 0, 1, 2"),
        ({0: "a", 1: 3}, "not all its values are text"),
        ({0: "a", 1: ""}, "not all its values are text"),
        ({}, "empty"),
        (["a", "b"], "not a dict"),
        ({0: "a", 1: Path("b")}, "asks for pathlib"),
    ],
)
def test_content_other_than_labels_is_refused(tmp_path: Path, content: Any, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        read_labels(pickled(tmp_path / "a.npy", content))


MEGABYTE = 2**20
HUGE = 2**31 - 1


def raw(path: Path, pickled_bytes: bytes) -> Path:
    """A file of one object whose pickle is these bytes."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|O", "fortran_order": False, "shape": ()})
    path.write_bytes(buffer.getvalue() + pickled_bytes)
    return path


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04Nr" + HUGE.to_bytes(4, "little") + b".",
        b"Np" + str(HUGE).encode() + b"\n.",
        b"\x80\x04\x8d" + (2**40).to_bytes(8, "little") + b"a.",
        b"\x80\x04\x8e" + (2**40).to_bytes(8, "little") + b"a.",
        b"\x80\x05\x96" + (2**40).to_bytes(8, "little") + b"a.",
        b"\x80\x04X" + HUGE.to_bytes(4, "little") + b"a.",
        b"\x80\x02\x8b" + HUGE.to_bytes(4, "little") + b"a.",
        b"\x80\x04\x95" + (2**40).to_bytes(8, "little") + b"N.",
    ],
    ids=["memo index", "text memo index", "text", "bytes", "bytearray", "short text", "number", "frame"],
)
def test_sizes_in_a_pickle_are_not_trusted(tmp_path: Path, content: bytes) -> None:
    path = raw(tmp_path / "a.npy", content)
    limit = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + 50 * 1024  # kilobytes
    with pytest.raises(UserError, match="can be read safely"):
        read_labels(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < limit


def test_a_large_file_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = raw(tmp_path / "a.npy", b"N." * (6 * MEGABYTE))
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail("the file was read"))
    with pytest.raises(UserError, match="larger than 10000000 bytes"):
        read_labels(path)


@pytest.mark.parametrize(
    "content", [b"\x80\x04cposix\nsystem\n.", b"P1\n.", b"\x80\x02\x82\x01.", b"(iposix\nsystem\n."]
)
def test_every_way_to_name_an_object_is_closed(tmp_path: Path, content: bytes) -> None:
    """A global, a persistent id, an extension code, an instance."""
    with pytest.raises(UserError, match="can be read safely"):
        read_labels(raw(tmp_path / "a.npy", content))


def test_damaged_files_are_reported_in_one_line(tmp_path: Path) -> None:
    whole = pickled(tmp_path / "a.npy", dict(enumerate(NAMES))).read_bytes()
    for end in range(0, len(whole) - 1, 7):
        (tmp_path / "b.npy").write_bytes(whole[:end])
        with pytest.raises(UserError, match="can be read safely"):
            read_labels(tmp_path / "b.npy")
    np.save(tmp_path / "c.npy", np.arange(3))
    with pytest.raises(UserError, match="int64"):
        read_labels(tmp_path / "c.npy")
    with pytest.raises(UserError, match="No such file"):
        read_labels(tmp_path / "absent.npy")
