"""Folders are fetched and published completely or not at all: local ones, and on a real S3 server on loopback."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import s3fs

from common.errors import UserError
from tests.helpers.s3 import keys, put, s3_server
from training.cloud import storage

FILES = {"a.txt": b"one", "inner/b.txt": b"two", "inner/c.txt": b"three"}
Env = dict[str, str]


def quiet(line: str) -> None:
    pass


def lay(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def server() -> Iterator[Env]:
    with s3_server("photos") as env:
        yield env


@pytest.fixture
def s3(server: Env, monkeypatch: pytest.MonkeyPatch) -> Env:
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    return server


def test_a_published_local_folder_is_fetched_unchanged(tmp_path: Path) -> None:
    folder, target = lay(tmp_path / "from", FILES), tmp_path / "deep" / "to"
    storage.publish(folder, str(target), quiet)
    assert contents(target) == FILES
    assert [path.name for path in target.parent.iterdir()] == ["to"]
    assert storage.fetch(f"file://{target}", tmp_path / "back", lambda name: name != "a.txt", quiet) == 2
    assert contents(tmp_path / "back") == {name: data for name, data in FILES.items() if name != "a.txt"}


def test_publishing_to_a_local_folder_replaces_the_former_files(tmp_path: Path) -> None:
    target = lay(tmp_path / "to", {"old.txt": b"old"})
    storage.publish(lay(tmp_path / "from", FILES), str(target), quiet)
    assert contents(target) == FILES


def test_a_failed_local_copy_leaves_the_former_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = lay(tmp_path / "to", {"old.txt": b"old"})

    def full(source: Path, partial: Path) -> None:
        lay(partial, {"a.txt": b"on"})
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("training.cloud.storage.shutil.copytree", full)
    with pytest.raises(UserError, match=re.escape(f"{target} cannot be written")):
        storage.publish(lay(tmp_path / "from", FILES), str(target), quiet)
    assert contents(target) == {"old.txt": b"old"}
    assert {path.name for path in tmp_path.iterdir()} == {"to", "from"}


def test_a_kill_between_the_two_renames_restores_the_former_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay(tmp_path / ".to.before", {"old.txt": b"old"})

    def full(source: Path, partial: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("training.cloud.storage.shutil.copytree", full)
    with pytest.raises(UserError):
        storage.publish(lay(tmp_path / "from", FILES), str(tmp_path / "to"), quiet)
    assert contents(tmp_path / "to") == {"old.txt": b"old"}


@pytest.mark.parametrize("scheme", ["s3", "obs"])
def test_a_folder_published_to_s3_is_fetched_unchanged_and_has_a_marker(s3: Env, tmp_path: Path, scheme: str) -> None:
    folder = lay(tmp_path / "from", FILES)
    put(s3, "photos", {f"{scheme}/to/stale.txt": b"of another version"})
    storage.publish(folder, f"{scheme}://photos/{scheme}/to/", quiet)
    there = keys(s3, "photos", f"{scheme}/")
    marker = json.loads(there.pop(f"to/{storage.SUCCESS}"))
    assert there == {f"to/{name}": data for name, data in FILES.items()}
    assert {name: row["bytes"] for name, row in marker.items()} == {name: len(data) for name, data in FILES.items()}
    storage.fetch(f"{scheme}://photos/{scheme}/to", tmp_path / "back", FILES.__contains__, quiet)
    assert contents(tmp_path / "back") == FILES


def test_fetching_again_copies_only_what_changed(s3: Env, tmp_path: Path) -> None:
    put(s3, "photos", {f"again/{name}": data for name, data in FILES.items()} | {"again/.hidden": b"x"})
    notes: list[str] = []
    storage.fetch("s3://photos/again", tmp_path / "back", lambda name: True, notes.append)
    put(s3, "photos", {"again/a.txt": b"longer"})
    lay(tmp_path / "back", {"inner/gone.txt": b"no longer there", ".b.txt.partial": b"half"})
    storage.fetch("s3://photos/again", tmp_path / "back", lambda name: True, notes.append)
    storage.fetch("s3://photos/again", tmp_path / "back", lambda name: True, notes.append)
    assert notes == ["fetched 3 of 3 files", "fetched 1 of 1 files"]
    assert contents(tmp_path / "back") == FILES | {"a.txt": b"longer"}


def failing_after(monkeypatch: pytest.MonkeyPatch, calls: int) -> None:
    """The server disappears after `calls` uploads."""
    kept, passed = s3fs.S3FileSystem._put_file, iter(range(calls))

    async def fails(self: Any, *arguments: Any, **extra: Any) -> Any:
        if next(passed, None) is None:
            raise OSError("the server is gone")
        return await kept(self, *arguments, **extra)

    monkeypatch.setattr(s3fs.S3FileSystem, "_put_file", fails)


def test_a_failed_upload_leaves_the_former_files_and_no_partial_ones(
    s3: Env, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.publish(lay(tmp_path / "old", {"a.txt": b"old"}), "s3://photos/failed/to", quiet)
    before = keys(s3, "photos", "failed/")
    with monkeypatch.context() as patch:
        failing_after(patch, 1)
        with pytest.raises(UserError, match="s3://photos/failed/to cannot be written: the server is gone"):
            storage.publish(lay(tmp_path / "from", FILES), "s3://photos/failed/to", quiet)
    assert keys(s3, "photos", "failed/") == before


def test_a_failed_last_step_leaves_no_marker_and_can_be_repeated(
    s3: Env, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.publish(lay(tmp_path / "old", {"a.txt": b"old"}), "s3://photos/half/to", quiet)
    with monkeypatch.context() as patch:
        fs, _ = storage.file_system("s3://photos")  # fsspec gives the same one again
        copy, first = fs.cp_file, iter(range(1))
        patch.setattr(fs, "cp_file", lambda *pair: copy(*pair) if next(first, None) is not None else fs.no_such_thing)
        with pytest.raises(UserError, match="s3://photos/half/to cannot be written"):
            storage.publish(lay(tmp_path / "from", FILES), "s3://photos/half/to", quiet)
    assert f"to/{storage.SUCCESS}" not in keys(s3, "photos", "half/")
    storage.publish(tmp_path / "from", "s3://photos/half/to", quiet)
    assert set(keys(s3, "photos", "half/to/")) == {*FILES, storage.SUCCESS}


@pytest.mark.parametrize("url", ["s3://nowhere/data", "s3://photos/empty", "strange://photos/data", "none/such"])
def test_a_failed_fetch_is_one_line_with_the_url(s3: Env, tmp_path: Path, url: str) -> None:
    with pytest.raises(UserError) as refused:
        storage.fetch(url, tmp_path / "back", lambda name: True, quiet)
    assert url in refused.value.message and "\n" not in refused.value.message


def test_a_bucket_that_is_not_there_is_one_line_with_the_url(s3: Env, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="s3://nowhere/to cannot be written") as refused:
        storage.publish(lay(tmp_path / "from", FILES), "s3://nowhere/to", quiet)
    assert "\n" not in refused.value.message
