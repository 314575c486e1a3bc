"""Files and folders appear complete or not at all, and every failure names the path and the fix."""

import errno
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from common.cli import ROOT
from common.errors import AlreadyExists, CannotWrite
from common.files import copy_whole, legal_name, new_folder, write_json, write_whole, writing

LONG = "x" * 251 + ".jpg"  # 255 bytes, the longest legal name


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)


def test_a_file_is_written_with_its_folders(tmp_path: Path) -> None:
    write_whole(tmp_path / "a" / "b.txt", b"text")
    assert (tmp_path / "a" / "b.txt").read_bytes() == b"text"
    assert stat.S_IMODE((tmp_path / "a" / "b.txt").stat().st_mode) == 0o644
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.txt"]


@pytest.mark.parametrize("name", [LONG, "图" * 85, os.fsdecode(b"\xff.jpg")])
def test_any_legal_name_can_be_written_and_copied(tmp_path: Path, name: str) -> None:
    write_whole(tmp_path / name, b"text")
    copy_whole(tmp_path / name, tmp_path / "copies" / name)
    assert (tmp_path / "copies" / name).read_bytes() == b"text"


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_leaves_the_former_content(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("former")
    (tmp_path / "b.txt").write_text("other")
    with pytest.raises(OSError, match="No space"):
        write_whole(tmp_path / "a.txt", b"new")
    with pytest.raises(OSError, match="No space"):
        copy_whole(tmp_path / "b.txt", tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text() == "former"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "b.txt"]


def test_a_copy_keeps_time_and_permissions_only_on_request(tmp_path: Path) -> None:
    source = tmp_path / "a"
    source.write_bytes(b"x")
    source.chmod(0o440)
    os.utime(source, ns=(10**9, 10**9))
    copy_whole(source, tmp_path / "plain")
    copy_whole(source, tmp_path / "kept", keep_metadata=True)
    assert (tmp_path / "kept").stat().st_mtime_ns == 10**9 != (tmp_path / "plain").stat().st_mtime_ns
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("kept", "plain")]
    assert modes == [0o440, 0o644]


@pytest.mark.parametrize("name", [LONG, "图" * 85, "a.jpg"])
def test_a_name_within_the_limit_is_unchanged(name: str) -> None:
    assert legal_name(name) == name


@pytest.mark.parametrize("name", [f"crop_{LONG}", "图" * 100 + ".jpeg", os.fsdecode(b"\xff" * 300 + b".jpg")])
def test_a_longer_name_is_cut_and_stays_distinct(tmp_path: Path, name: str) -> None:
    short = legal_name(name)
    assert Path(short).suffix == Path(name).suffix
    assert short != legal_name(f"1{name}") and short != legal_name(name.replace(".", "1."))
    (tmp_path / short).write_bytes(b"x")  # fails beyond 255 bytes


def test_a_dot_in_a_long_name_is_no_suffix(tmp_path: Path) -> None:
    (tmp_path / legal_name("a." + "x" * 300)).write_bytes(b"x")


def test_json_is_readable_and_survives_names_that_are_not_utf8(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"名": os.fsdecode(b"\xff")})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert "名" in text
    assert json.loads(text) == {"名": "\udcff"}


def test_writing_names_the_path_the_reason_and_the_fix(tmp_path: Path) -> None:
    with pytest.raises(CannotWrite) as caught, writing(tmp_path / "a", "give another --out"):
        (tmp_path / "none" / "a").write_bytes(b"")
    assert caught.value.message == f"{tmp_path / 'a'} cannot be written: No such file or directory: give another --out"


@pytest.mark.usefixtures("full_disk")
def test_a_file_of_a_new_folder_that_cannot_be_written_is_named_as_the_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(CannotWrite) as caught, new_folder(out) as work, writing(work / "a.csv"):
        write_whole(work / "a.csv", b"x")
    problem = f"{out} cannot be written: No space left on device"
    assert caught.value.message == f"{problem}: free some disk space, or give another --out"


def test_a_new_folder_appears_when_it_is_complete(tmp_path: Path) -> None:
    with new_folder(tmp_path / "deep" / LONG[:-4]) as folder:
        (folder / "a").write_bytes(b"x")
        assert not (tmp_path / "deep" / LONG[:-4]).exists()
    assert [path.name for path in (tmp_path / "deep").rglob("*")] == [LONG[:-4], "a"]
    assert stat.S_IMODE((tmp_path / "deep" / LONG[:-4]).stat().st_mode) == 0o777 & ~_umask()


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_folder_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises((CannotWrite, KeyboardInterrupt)), new_folder(tmp_path / "out") as folder:
        (folder / "a").write_bytes(b"x")
        raise error
    assert not list(tmp_path.iterdir())


def test_an_existing_folder_is_never_written_into(tmp_path: Path) -> None:
    with pytest.raises(AlreadyExists, match="already exists: remove it, or give another --out"), new_folder(tmp_path):
        pytest.fail("the block must not run")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_new_folder_removes_what_a_killed_call_has_left_but_nothing_of_a_running_one(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; from common.files import new_folder\n"
        "with new_folder(Path(sys.argv[1]) / 'out') as folder:\n"
        "    (folder / 'a').touch(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, check=False)
    killed = {path.name for path in tmp_path.iterdir()}
    assert len(killed) == 1
    (tmp_path / ".out.mine1234").mkdir()
    (tmp_path / ".out.mine1234" / "a").touch()
    with new_folder(tmp_path / "out") as running:
        assert not killed & {path.name for path in tmp_path.iterdir()}
        with pytest.raises(CannotWrite), new_folder(tmp_path / "out"):
            assert running.is_dir()
            raise OSError("out")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.mine1234", "out"]
