"""The tree of errors, and how a command reports them."""

import errno
import os
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from common.cli import command
from common.errors import AlreadyExists, Busy, CannotWrite, CheckFailed, InvalidInput, NotFound, Unreachable, UserError
from training.__main__ import main


@pytest.mark.parametrize("kind", [AlreadyExists, Busy, CheckFailed, InvalidInput, NotFound, Unreachable, UserError])
def test_a_message_is_problem_and_fix(kind: type[UserError]) -> None:
    assert kind("1.2 is registered already", "pass --version 1.3").message == (
        "1.2 is registered already: pass --version 1.3"
    )
    assert str(kind("stopped")) == "stopped"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (ValueError("two\nlines"), "two lines"),
    ],
)
def test_cannot_write_has_the_short_reason(error: Exception, reason: str) -> None:
    assert CannotWrite("a", error, "move it").message == f"a cannot be written: {reason}: move it"


@pytest.mark.parametrize(
    ("number", "fix"),
    [
        (errno.ENOSPC, "free some disk space, or give another --out"),
        (errno.EFBIG, "free some disk space, or give another --out"),
        (errno.EROFS, "make it writable, or give another --out"),
        (errno.EISDIR, "correct the path, or give another --out"),
    ],
)
def test_the_fix_is_that_of_the_cause(number: int, fix: str) -> None:
    error = CannotWrite("a", OSError(number, os.strerror(number)), "free some disk space, or give another --out")
    assert error.fix == fix


def test_a_command_prints_one_line_and_exits_with_1() -> None:
    @command()
    @click.argument("name")
    def fail(name: str) -> None:
        raise NotFound(f"there is no {name}", "look elsewhere")

    done = CliRunner().invoke(fail, ["cat"])
    assert (done.exit_code, done.stderr) == (1, "Error: there is no cat: look elsewhere\n")


def test_a_misspelt_path_is_answered_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "classroom").mkdir()
    for given, words in (("clasroom", f"Did you mean {tmp_path}/classroom? See"), ("flowers", "does not exist. See")):
        done = CliRunner().invoke(main, ["predict", str(tmp_path / given), "photo.jpg"])
        assert done.exit_code == 1
        assert words in done.stderr


def test_a_path_in_a_folder_that_may_not_be_listed_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> list[Path]:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "iterdir", refuse)
        done = CliRunner().invoke(main, ["predict", str(tmp_path / "clasroom"), "photo.jpg"])
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert "does not exist. See" in done.stderr
