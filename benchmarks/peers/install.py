"""Make a virtual environment for each peer, because their pins contradict each other.

    python -m benchmarks.peers.install

Makes .venv-bench/NAME from benchmarks/peers/requirements/NAME.txt. A .pth file makes the project's packages visible
in it, so that torch (5 GB) is stored once: pip uses a package of the project where its version fits, installs another
version into NAME where it does not, and never changes the project's environment. A peer that cannot be installed is
reported with the reason and left out of the comparison; the next run tries again.
"""

import hashlib
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import click

from common.cli import command
from common.files import write_whole
from deploy.settings import ROOT

ENVIRONMENTS = ROOT / ".venv-bench"
REQUIREMENTS = Path(__file__).with_name("requirements")
LIMIT_S = 900


def python(name: str) -> Path:
    """The interpreter of a peer's environment."""
    return ENVIRONMENTS / name / "bin" / "python"


def absent(name: str) -> str | None:
    """Why a peer cannot run here; None if its current requirements are installed."""
    try:
        status = (ENVIRONMENTS / f"{name}.txt").read_text(encoding="utf-8")
    except OSError:
        return "not installed: make bench"
    return (
        None if status == _stamp(name) else status if status.startswith("does not install") else "outdated: make bench"
    )


def install(name: str) -> str | None:
    """Make a peer's environment again from its requirements.

    Returns:
        why that failed, or None.
    """
    shutil.rmtree(ENVIRONMENTS / name, ignore_errors=True)
    requirements = ["-r", str(REQUIREMENTS / f"{name}.txt")]
    try:
        _run([sys.executable, "-m", "venv", str(ENVIRONMENTS / name)])
        site = ENVIRONMENTS / name / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
        (site / "project.pth").write_text(sysconfig.get_path("purelib") + "\n")
        _run([str(python(name)), "-m", "pip", "install", "--disable-pip-version-check", "--quiet", *requirements])
        reason = None
    except subprocess.TimeoutExpired:
        reason = f"does not install: pip did not finish within {LIMIT_S} s"
    except subprocess.CalledProcessError as error:
        reason = f"does not install: {_summary(error.stderr)}"
    write_whole(ENVIRONMENTS / f"{name}.txt", (reason or _stamp(name)).encode())
    return reason


def _summary(output: str) -> str:
    """pip's first error, without its list of versions."""
    lines = output.splitlines()
    errors = [line for line in lines if line.startswith("ERROR: ")] or lines[-1:] or ["no output"]
    return re.sub(r" \(from versions: .*\)", "", errors[0].removeprefix("ERROR: "))[:200]


def _stamp(name: str) -> str:
    return hashlib.sha256((REQUIREMENTS / f"{name}.txt").read_bytes()).hexdigest()


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=LIMIT_S)


@command(epilog="Example: python -m benchmarks.peers.install fastapi")
@click.argument("names", nargs=-1, type=click.Choice(sorted(path.stem for path in REQUIREMENTS.glob("*.txt"))))
def main(names: tuple[str, ...]) -> None:
    """Install those of NAMES that are not installed yet. Without NAMES: all peers."""
    for name in names or sorted(path.stem for path in REQUIREMENTS.glob("*.txt")):
        if absent(name):
            click.echo(f"{name}: installing into {ENVIRONMENTS.name}/{name} ...")
            click.echo(f"{name}: {install(name) or 'installed'}")


if __name__ == "__main__":
    main()
