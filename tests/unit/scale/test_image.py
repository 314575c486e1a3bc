"""The image: its Dockerfile has no known mistake, and holds what its entry point runs and nothing private."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.settings import ROOT, ROWS

DOCKERFILE = ROOT / "Dockerfile"
LINTER = Path(sys.executable).with_name("hadolint")


def instructions(name: str) -> list[str]:
    text = re.sub(r"\\\n", " ", DOCKERFILE.read_text(encoding="utf-8"))
    return re.findall(rf"^{name} (.*)$", text, re.MULTILINE)


def test_hadolint_finds_nothing() -> None:
    done = subprocess.run(
        [LINTER, "--failure-threshold", "style", DOCKERFILE], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_user_is_not_root_and_only_the_volume_is_its_own() -> None:
    assert instructions("USER") == ["10001:0"]
    assert instructions("VOLUME") == ["/data"]
    (variables,) = instructions("ENV")
    settings = dict(re.findall(r"(\w+)=(\S+)", variables))
    assert {settings["SERVE_VAR"], settings["SERVE_STORE"]} == {"/data/var", "/data/model_store"}
    assert {name for name in settings if name.startswith("SERVE_")} <= {name for name, _, _ in ROWS}


@pytest.mark.parametrize("place", ["photos", "runs", "var", ".git", ".venv", ".env", "secrets", "tests", "model_store"])
def test_nothing_private_reaches_the_image(place: str) -> None:
    """The list begins with everything, and names what is let in."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*" and f"!{place}" not in lines
    assert all((ROOT / line[1:]).exists() for line in lines if line.startswith("!"))


def test_every_package_with_a_command_is_let_in() -> None:
    let_in = set((ROOT / ".dockerignore").read_text().split())
    packages = {path.parent.name for path in ROOT.glob("*/__main__.py")} - {"benchmarks"}
    assert {f"!{name}" for name in (*packages, "common", "config", "handler", "models")} <= let_in
