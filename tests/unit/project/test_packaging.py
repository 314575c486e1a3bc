"""The command `photoloop`, and what each requirements file must install."""

import re
import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import grimp
import pytest

import deploy.__main__
import photoloop
from common.cli import CommandGroup
from deploy.settings import ROOT

SCRIPT = Path(sys.executable).with_name("photoloop")


def run(group: CommandGroup, *words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code and output of a command that is run in this process."""
    with pytest.raises(SystemExit) as end:
        group.main(list(words), prog_name="PROGRAM")
    out, err = capsys.readouterr()
    return int(end.value.code or 0), out + err


def test_photoloop_lists_its_packages_without_importing_torch_or_numpy() -> None:
    words = [sys.executable, "-X", "importtime", "-m", "photoloop", "--help"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    listed = re.findall(r"^  (\w+)  ", done.stdout, re.MULTILINE)
    assert listed == ["retrain", "dataset", "training", "deploy", "feedback", "reports", "traffic"]
    imported = set(re.findall(r"\|\s+(\w+)$", done.stderr, re.MULTILINE))
    assert "click" in imported
    assert not imported & {"torch", "numpy", "pydantic", "requests"}


@pytest.mark.parametrize("words", [["token", "--nope"], ["nope"], ["archive", "no-such-folder", "1.0"], ["--help"]])
def test_photoloop_answers_as_the_package_does(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, text = run(deploy.__main__.main, *words, capsys=capsys)
    expected = text.replace("PROGRAM", "PROGRAM deploy")
    assert run(photoloop.main, "deploy", *words, capsys=capsys) == (code, expected)
    assert code == (0 if words == ["--help"] else 1)


@pytest.mark.skipif(not SCRIPT.exists(), reason="photoloop is not installed: run make install")
def test_the_installed_command_works_in_any_folder(tmp_path: Path) -> None:
    done = subprocess.run([SCRIPT, "deploy", "--help"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "Usage: photoloop deploy" in done.stdout


@pytest.mark.parametrize("lazily", [False, True])
def test_a_missing_package_is_one_line_that_names_the_fix(
    lazily: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    package = f"needy{lazily}"
    (tmp_path / package).mkdir()
    line = "import missing_package.part"
    body = ["from common.cli import command", "" if lazily else line, "@command()", "def go():", f"    {line}"]
    (tmp_path / package / "go.py").write_text("\n".join(body))
    monkeypatch.syspath_prepend(tmp_path)
    code, text = run(CommandGroup(package, {"go": ""}), "go", capsys=capsys)
    assert (code, text) == (1, "Error: missing_package is not installed: run make install\n")


@pytest.mark.slow
def test_serving_imports_only_what_its_requirements_pin() -> None:
    assert imported_by("deploy", "handler", "common") <= pinned("serving.txt")
    assert imported_by("feedback") <= pinned("serving.txt", "feedback.txt")
    assert imported_by("deploy", "handler", "common", "traffic") <= pinned("serving.txt")


@pytest.mark.slow
def test_everything_else_imports_only_what_is_pinned() -> None:
    assert imported_by("dataset", "training", "config", "retrain") <= pinned(
        "serving.txt", "feedback.txt", "training.txt"
    )
    assert imported_by("reports") <= pinned("serving.txt", "feedback.txt", "training.txt", "reports.txt", "ray.txt")
    assert imported_by("benchmarks") <= pinned("serving.txt", "feedback.txt", "training.txt", "reports.txt", "dev.txt")


def pinned(*files: str) -> set[str]:
    """The names of the distributions that requirements files pin."""
    text = "\n".join((ROOT / "requirements" / name).read_text() for name in files)
    return {normalised(name) for name in re.findall(r"^([\w.-]+)(?:\[\w+\])?==", text, re.MULTILINE)}


def imported_by(*packages: str) -> set[str]:
    """The distributions that modules of these packages import directly, at once or later."""
    graph = grimp.build_graph(*packages, include_external_packages=True, cache_dir=None)
    modules = [name for name in graph.modules if name.startswith(packages) and not name.startswith(NOT_OURS)]
    names = {top for module in modules for top in tops(graph.find_modules_directly_imported_by(module))}
    distributions = metadata.packages_distributions()
    return {normalised(distributions[name][0]) if name in distributions else name for name in names}


NOT_OURS = ("benchmarks.peers.apps", "training.cloud.customize_service")  # these run in other environments
OURS = {
    "benchmarks",
    "common",
    "config",
    "dataset",
    "deploy",
    "feedback",
    "handler",
    "reports",
    "traffic",
    "retrain",
    "training",
}


def tops(modules: Iterable[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules} - OURS - set(sys.stdlib_module_names)


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
