"""A night starts at 03:00, by cron or by systemd, with `make nightly`."""

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from deploy.settings import ROOT
from feedback.nightly import nightly

UNITS = ROOT / "config" / "systemd"


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(UNITS / name)
    return parser


def dry_run(options: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = ["make", *words, "nightly", f"NIGHTLY={options}", "-o", ".venv/.training"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_the_timer_and_the_cron_line_say_three_o_clock_and_call_the_make_target() -> None:
    timer, service = unit("photoloop-nightly.timer"), unit("photoloop-nightly.service")
    assert timer["Timer"]["OnCalendar"] == "*-*-* 03:00:00"
    assert service["Service"]["ExecStart"] == "/usr/bin/env make nightly"
    (cron,) = re.findall(r"^0 3 \* \* \* .*$", (ROOT / "docs" / "feedback.md").read_text(), re.M)
    assert "make nightly NIGHTLY=" in cron


def test_the_options_in_the_service_are_those_of_the_command() -> None:
    text = unit("photoloop-nightly.service")["Service"]["Environment"].strip('"').removeprefix("NIGHTLY=")
    known = {name for option in nightly.params if isinstance(option, click.Option) for name in option.opts}
    assert set(re.findall(r"--[a-z-]+", text)) <= known
    required = {option.opts[0] for option in nightly.params if option.required}
    assert required <= set(text.split())


def test_make_calls_the_command_and_asks_for_its_options() -> None:
    assert "python -m feedback nightly --server x" in dry_run("--server x", "-n").stdout
    missing = dry_run("")
    assert missing.returncode
    assert "give its options" in missing.stderr


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed here")
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    for path in UNITS.iterdir():
        shutil.copy(path, tmp_path)
    done = subprocess.run(
        ["systemd-analyze", "--user", "verify", *map(str, tmp_path.iterdir())],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "photoloop" not in done.stderr, done.stderr
