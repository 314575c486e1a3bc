"""`training summary`: the figures of the classroom document for its network, and the options."""

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from config.recipe import names, read_recipe
from tests.helpers.commands import SHIPPED
from training.__main__ import main
from training.recipes import describe, table_of

DOCUMENT = ("classroom_document", "--backbone", "resnet18")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["summary", *map(str, arguments)])


def facts(folder: Path, *arguments: object) -> dict[str, Any]:
    done = run(*arguments, "--json", folder / "summary.json")
    assert done.exit_code == 0, done.output
    content: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return content


@pytest.mark.parametrize(("way", "trainable"), [("--freeze", 1_026), ("--full", 11_177_538)])
def test_the_figures_are_those_of_the_document(tmp_path: Path, way: str, trainable: int) -> None:
    """Section 6.3's two tables: 4.01 and 42.64 "MB" are MiB of float32."""
    described = facts(tmp_path, *DOCUMENT, way)
    assert described["parameters"]["total"] == 11_177_538
    assert described["parameters"]["trainable"] == trainable
    assert described["parameters"]["frozen"] == 11_177_538 - trainable
    assert described["parameters"]["trainable_share"] == pytest.approx(trainable / 11_177_538, abs=1e-6)
    sizes = described["mebibytes"]
    assert (sizes["input"], sizes["parameters"]) == (4.01, 42.64)
    assert sizes["total"] == pytest.approx(sizes["input"] + sizes["forward_backward"] + sizes["parameters"], abs=0.02)


def test_the_printed_layers_and_totals() -> None:
    shown = run(*DOCUMENT, "--freeze", "--depth", 2).stdout
    assert re.search(r"Linear \(fc\) +1x2 +1,026 +yes", shown)
    assert "1x512" in shown
    assert "11,177,538 parameters: 1,026 trainable (0.01%), 11,176,512 frozen" in shown
    assert "memory in MiB" in shown


def test_the_recipes_size_and_a_batch_of_eight(tmp_path: Path) -> None:
    one, eight = (facts(tmp_path, "shapes", "--batch", count) for count in (1, 8))
    assert one["input"] == [1, 3, 64, 96]
    assert one["layers"][-1]["output"] == [1, 3]
    assert eight["mebibytes"]["forward_backward"] == pytest.approx(8 * one["mebibytes"]["forward_backward"], abs=0.05)
    assert eight["parameters"] == one["parameters"]
    assert eight["mebibytes"]["parameters"] == one["mebibytes"]["parameters"]


def test_the_memory_of_a_large_batch_is_computed_without_allocating_it(tmp_path: Path) -> None:
    assert facts(tmp_path, *DOCUMENT, "--batch", 4096)["mebibytes"]["total"] > 1_000_000


@pytest.mark.slow
def test_a_frozen_recipe_pruned_was_trained_in_full(tmp_path: Path) -> None:
    """The shipped bundle is of a pruned run; its recipe freezes, and pruning fine-tunes all layers."""
    assert facts(tmp_path, "classroom")["parameters"]["frozen"] > 0
    assert facts(tmp_path, SHIPPED)["parameters"]["frozen"] == 0
    assert facts(tmp_path, SHIPPED, "--freeze")["parameters"]["frozen"] > 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["clasroom"], "did you mean classroom?"),
        (["runs/nowhere/x"], "give a recipe's name or .yaml file, or a folder of runs/RECIPE/"),
        (["tests"], "is not a complete run"),
        (["shapes", "--backbone", "resnet19"], "backbone.name"),
        (["shapes", "--height", "4"], "input.height"),
        (["shapes", "--batch", "0"], "--batch and --depth must be 1 or more"),
        (["shapes", "--json", "/proc/none/x"], "give another --json FILE"),
    ],
)
def test_wrong_arguments_are_reported_in_one_line(arguments: list[str], words: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 1
    assert done.stderr.startswith("Error: ")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("model", ["classroom_document", "pets", SHIPPED])
def test_every_line_fits_in_80_columns(model: object) -> None:
    done = CliRunner().invoke(main, ["summary", str(model), "--batch", "8"], env={"COLUMNS": "80"})
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if "\u2026" in line], "a cell was cut"


def test_the_list_of_recipes_fits_in_80_columns() -> None:
    terminal = Console(width=80, file=io.StringIO())
    terminal.print(table_of([describe(read_recipe(name)) for name in names()]))
    text = terminal.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= 80
    assert "\u2026" not in text
    assert all(name in text for name in names())
