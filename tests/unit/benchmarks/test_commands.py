"""Every module of benchmarks/ can be imported, and every command has a help text with an example."""

import importlib
from pathlib import Path

import click
import pytest

from deploy.settings import ROOT

FOLDER = ROOT / "benchmarks"
PATHS = sorted(path for path in FOLDER.rglob("*.py") if path.name != "__init__.py")
WITHOUT_EXAMPLE = {"generator"}  # its input is a plan from another process


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


@pytest.mark.parametrize("name", [name_of(path) for path in PATHS if path.parent.name != "apps"])
def test_it_is_imported_and_has_a_help_text(name: str) -> None:
    main = getattr(importlib.import_module(name), "main", None)
    if isinstance(main, click.Command):
        text = main.get_help(click.Context(main, info_name=f"python -m {name}"))
        assert "Usage" in text and "Example: python -m benchmarks" in text
    else:
        assert main is None or name.rpartition(".")[2] in WITHOUT_EXAMPLE


@pytest.mark.parametrize("path", [path for path in PATHS if path.parent.name == "apps"], ids=lambda path: path.stem)
def test_a_peers_app_imports_only_what_exists_here_or_in_its_environment(path: Path) -> None:
    """The peers are not installed in this environment, so only their imports of this project are tried."""
    for line in path.read_text(encoding="utf-8").splitlines():
        words = line.partition("#")[0].split()
        if words[:1] == ["from"] and words[1].split(".")[0] in ("benchmarks", "deploy", "handler", "dataset"):
            module = importlib.import_module(words[1])
            for imported in " ".join(words[3:]).split(", "):
                assert hasattr(module, imported) or importlib.import_module(f"{words[1]}.{imported}")
