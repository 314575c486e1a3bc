"""The arrows that docs/architecture.md draws: which module may import which. Imports inside functions count."""

from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

from deploy.settings import ROOT
from tests.unit.project import PACKAGES

COMMANDS = "(commands)"  # the modules at the top of a package that its list below does not name
DATASET_FILES = ("contact_sheet", "draw", "listing", "photos", "tables")

# From the top down: a layer imports only layers below it. Members of one set do not import each other.
LAYERS: list[str | set[str]] = [
    "tests",
    "benchmarks",
    {"reports", "traffic", "retrain"},
    {"training", "deploy", "feedback"},
    "dataset",
    "config",
    {"handler", "common"},
]
LAYERS_INSIDE: dict[str, list[str | tuple[str, ...]]] = {
    "deploy": [COMMANDS, "clients", "change", "supervision", "torchserve", "store", "host", "settings"],
    "traffic": [COMMANDS, "shadow", "front"],
    "training": [
        COMMANDS,
        "experiments",
        "cloud",
        "compression",
        "fitting",
        "evaluation",
        "bundles",
        "records",
        "data",
        "models",
    ],
    "dataset": [COMMANDS, "labelling", "auditing", "splitting", DATASET_FILES, "drawing"],
    "feedback": [COMMANDS, "web", "learning", "delivery", "review", "accounts", "storage", "photos", "settings"],
    "retrain": [COMMANDS, "walk"],
    "reports": [COMMANDS, "site", "drawing", "counting", "scoring", "shares", "manifest"],
    "benchmarks": [
        COMMANDS,
        (
            "beside",
            "copies",
            "differential",
            "front",
            "fuzz",
            "gates",
            "groups",
            "nights",
            "pages",
            "reports",
            "uploads",
        ),
        "peers",
        "harness",
    ],
}
MAX_MODULES = 15


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph(*PACKAGES, "tests", include_external_packages=True, cache_dir=None)


def described(dependencies: set[grimp.PackageDependency]) -> list[str]:
    routes = [route for dependency in dependencies for route in dependency.routes]
    return sorted(f"{sorted(route.heads)} import {[*route.middle, *sorted(route.tails)]}" for route in routes)


def test_packages_import_only_packages_below_them(graph: grimp.ImportGraph) -> None:
    layers = [grimp.Layer(*sorted([layer] if isinstance(layer, str) else layer)) for layer in LAYERS]
    assert described(graph.find_illegal_dependencies_for_layers(layers)) == []


@pytest.mark.parametrize("package", LAYERS_INSIDE)
def test_modules_import_only_modules_below_them(package: str, graph: grimp.ImportGraph) -> None:
    children = {child.removeprefix(f"{package}.") for child in graph.find_children(package)}
    layers = [(layer,) if isinstance(layer, str) else layer for layer in LAYERS_INSIDE[package]]
    commands = children.difference(*layers)
    assert not [name for name in commands if graph.find_children(f"{package}.{name}")], "a sub-package needs a layer"
    layers[0] = tuple(commands)
    rows = [grimp.Layer(*names, independent=False) for names in layers]
    assert described(graph.find_illegal_dependencies_for_layers(rows, containers={package})) == []


def test_there_is_no_import_cycle(graph: grimp.ImportGraph) -> None:
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_no_test_imports_another(graph: grimp.ImportGraph) -> None:
    tests = {module for module in graph.modules if module.rpartition(".")[2].startswith("test_")}
    imports = {(importer, test) for test in tests for importer in graph.find_modules_that_directly_import(test)}
    assert imports == set()


def test_click_is_imported_only_by_commands(graph: grimp.ImportGraph) -> None:
    importers = {name for name in graph.find_modules_that_directly_import("click") if not name.startswith("tests.")}
    below = {name for name in importers if name.count(".") > 1 and not runs_with_m(name)}
    assert below == set()
    assert {name for name in importers if name.startswith(("common", "config", "handler"))} == {"common.cli"}


def runs_with_m(module: str) -> bool:
    return 'if __name__ == "__main__":' in (ROOT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")


def folders() -> Iterator[Path]:
    for package in (*PACKAGES, "tests"):
        yield from {path.parent for path in (ROOT / package).rglob("*.py")}


def test_no_folder_has_more_than_fifteen_modules() -> None:
    counts = {
        str(folder): len({path.name for path in folder.glob("*.py")} - {"__init__.py", "__main__.py"})
        for folder in folders()
    }
    assert {folder: count for folder, count in counts.items() if count > MAX_MODULES} == {}
