"""Conventions that no other test checks: constants that belong in recipes, and commands and codes in the pages."""

import ast
import importlib
import re
from pathlib import Path

import click
import pytest

from common.cli import CommandGroup, Program
from config.recipe import names, read_recipe
from deploy.settings import ROOT
from handler.errors import CODES

PACKAGES = ("handler", "config", "dataset", "training", "deploy", "feedback", "reports", "traffic", "retrain")
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}
TEXT = "\n".join([README, *PAGES.values()])


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


OTHER_MEANINGS = {("audit.py", 500)}  # 500 is also the minimum number of photos


@pytest.mark.parametrize("package", PACKAGES)
def test_only_recipes_contain_labels_and_input_sizes(package: str) -> None:
    recipe = read_recipe("classroom")
    task_values = {*recipe.labels, recipe.input.height, recipe.input.width}
    for path in modules(package):
        text = path.read_text(encoding="utf-8")
        if not any(str(value) in text.replace("_", "") for value in task_values):
            continue  # parsing it takes far longer
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Constant) and type(node.value) in (str, int):
                allowed = node.value not in task_values or (path.name, node.value) in OTHER_MEANINGS
                assert allowed, f"{path}:{node.lineno}: {node.value!r} belongs in a recipe"


def test_every_error_code_is_documented_with_its_status() -> None:
    table = dict(re.findall(r"^\| `([a-z_0-9]+)` \| (\d+) \|", PAGES["api.md"], re.MULTILINE))
    assert table == {code: str(status) for code, status in CODES.items()}


def test_every_code_that_is_raised_is_in_the_list() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in modules("handler"))
    raised = set(re.findall(r"(?:InvalidRequest|TooLarge|Unsupported|OutOfScope|RequestError)\(\s*\"(\w+)\"", text))
    assert raised == set(CODES)


COMMANDS = sorted(set(re.findall(r"python -m (\w+(?:\.\w+)?)(?: ([a-z][a-z-]*))?", TEXT)))


@pytest.mark.parametrize(("module", "step"), COMMANDS)
def test_every_documented_command_has_a_help_text_with_an_example(module: str, step: str) -> None:
    package = (ROOT / module.replace(".", "/")).is_dir()
    command = importlib.import_module(f"{module}.__main__" if package else module).main
    assert isinstance(command, CommandGroup | Program) is (package and "." not in module)
    if step:
        command = command.get_command(click.Context(command), step)
        assert command, f"python -m {module} {step}: no such command"
    text = command.get_help(click.Context(command, info_name=f"python -m {module} {step}"))
    assert "Usage" in text
    assert not step or "Example: " in text


def group(package: str) -> CommandGroup:
    main = importlib.import_module(f"{package}.__main__").main
    assert isinstance(main, CommandGroup)
    return main


@pytest.mark.parametrize("package", ["dataset", "training", "deploy", "feedback", "reports", "traffic"])
def test_every_command_is_documented(package: str) -> None:
    text = "\n".join(PAGES.values())
    assert group(package).summaries
    for name in group(package).summaries:
        assert f"python -m {package} {name}" in text, name


def test_the_tree_of_the_readme_is_the_tree() -> None:
    tree = README.partition("```tree\n")[2].partition("```")[0]
    paths = re.findall(r"^([\w./-]+)", tree, re.MULTILINE)
    assert len(paths) > 10
    not_in_git = ("runs/", "var/")
    for path in paths:
        assert path in not_in_git or (ROOT / path).exists(), path


def test_the_shipped_model_is_small_and_has_its_card() -> None:
    folders = [path for path in (ROOT / "models").iterdir() if path.is_dir()]
    assert {folder.name for folder in folders} <= set(names())
    for folder in folders:
        assert (folder / "MODEL_CARD.md").is_file()
        assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 12_000_000
