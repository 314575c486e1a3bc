"""Every command of the data team with bad input: one line that names the fix, exit code 1, no partial output."""

import importlib
import shutil
from pathlib import Path

import click.testing
import pytest

from tests.helpers.commands import SHAPES, newest

NOWHERE = "/proc/none"  # a disk that cannot be written, for root too


@pytest.fixture(scope="module")
def place(drawn: Path, runs: Path, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folders by name: photos, empty, one class, a split, a run, a bundle."""
    base = tmp_path_factory.mktemp("refusals")
    (base / "empty").mkdir()
    (base / "labelless" / "disc").mkdir(parents=True)
    for label in ("disc", "stripe", "cross"):
        (base / "bare" / label).mkdir(parents=True)
    shutil.copytree(drawn / "disc", base / "one" / "disc")
    for part in ("train", "val"):
        for label in ("disc", "stripe", "cross"):
            (base / "split" / part / label).mkdir(parents=True)
            for path in sorted((drawn / label).iterdir())[:4]:
                shutil.copy(path, base / "split" / part / label / f"{part}{path.name}")
    (base / "file.txt").write_text("no folder")
    folders = {path.stem: str(path) for path in base.iterdir()}
    pruned, trained = newest(runs, "prune"), newest(runs, "train")
    return {
        **folders,
        "photos": str(drawn),
        "run": str(pruned),
        "trained": str(trained),
        "bundle": str(bundle),
        "recipe": str(SHAPES),
        "nowhere": NOWHERE,
        "photo": str(drawn / "disc" / "0000.jpg"),
    }


CASES = [
    # an empty folder
    ("dataset audit {empty} --recipe {recipe}", "empty"),
    ("dataset stats {empty} --recipe {recipe}", "empty"),
    ("dataset label {empty} --recipe {recipe} --check", "empty"),
    ("dataset split {empty} --recipe {recipe} --out {empty}/s.tsv", "no folder disc"),
    ("dataset balance {empty} --recipe {recipe}", "is not split"),
    ("training train {recipe} --data {empty} --runs {empty}/r", "no folder disc"),
    ("training train {recipe} --data {bare} --runs {empty}/r", "no usable photo of disc"),
    ("training prune {empty} --data {photos}", "is not a complete run"),
    ("training evaluate {empty} --data {photos}", "is not a complete run"),
    ("training evaluate {run} --data {photos} --ambiguous {empty}", "is empty"),
    ("training export {empty} --data {photos}", "is not a complete run"),
    ("training predict {empty} {photo}", "is not a complete run"),
    ("training crossvalidate {recipe} --data {empty} --runs {empty}/r", "no folder disc"),
    # one class
    ("dataset split {one} --recipe {recipe} --out {empty}/s.tsv", "no folder stripe"),
    ("training train {recipe} --data {one} --runs {empty}/r", "no folder stripe"),
    ("training evaluate {run} --data {one}", "no folder stripe"),
    ("training crossvalidate {recipe} --data {one} --runs {empty}/r", "no folder stripe"),
    # a disk that cannot be written
    ("dataset sample {nowhere} --recipe {recipe} --count 1", "cannot be written"),
    ("dataset audit {photos} --recipe {recipe} --out {nowhere}/a.tsv", "cannot be written"),
    ("dataset stats {photos} --recipe {recipe} --out {nowhere}", "cannot be written"),
    ("dataset split {photos} --recipe {recipe} --out {nowhere}/s.tsv", "cannot be written"),
    ("training train {recipe} --data {photos} --runs {nowhere}", "give --runs FOLDER"),
    ("training train {recipe} --data {photos} --runs {nowhere} --sweep smallnet", "give --runs FOLDER"),
    ("training prune {trained} --data {photos} --runs {nowhere}", "give --runs FOLDER"),
    ("training evaluate {run} --data {photos} --no-changes --out {nowhere}", "give --out FOLDER"),
    ("training export {run} --data {photos} --out {nowhere}/x", "give another --out"),
    ("training crossvalidate {recipe} --data {photos} --runs {nowhere}", "give --runs FOLDER"),
    # a wrong argument
    ("dataset sample {empty} --recipe shape", "did you mean shapes?"),
    ("dataset sample {empty} --count none", "--count"),
    ("dataset audit {file} --recipe {recipe}", "file.txt"),
    ("dataset split {photos} --recipe {recipe} --train 2", "--train"),
    ("dataset shuffle {photos}", "No such command 'shuffle'"),
    ("training train {recipe}", "--data"),
    ("training train {recipe} --data {photos} --sweep resnet19", "legal are resnet18"),
    ("training train {recipe} --data {photos} --epochs -1", "--epochs"),
    ("training train {recipe} --data {photos} --data {split}", "some of --data is split and some is not"),
    ("training train {recipe} --data {photos} --init-from {run} --backbone resnet18", "needs a resnet18"),
    ("training prune {trained} --data {photos} --layers document --runs {empty}/r", "use convolutions"),
    ("training prune {run} --data {photos}", "is already pruned"),
    ("training evaluate {run} --data {photos} --part val", "split it first"),
    ("training export {run} --data {split}", "held out other photos"),
    ("training predict {run}", "give at least one photo"),
    ("training summary resnet", "no recipe resnet"),
    ("training runs --delete nothing", "nothing"),
]


@pytest.mark.parametrize(("words", "message"), CASES, ids=[words for words, _ in CASES])
def test_the_error_is_one_line_and_nothing_is_left(place: dict[str, str], words: str, message: str) -> None:
    package, *arguments = words.format(**place).split()
    before = set(Path(place["empty"]).rglob("*"))
    group = importlib.import_module(f"{package}.__main__").main
    done = click.testing.CliRunner().invoke(group, arguments, prog_name=f"python -m {package}")
    assert done.exit_code == 1, done.output
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert message.format(**place) in line
    assert "Traceback" not in done.output
    left = set(Path(place["empty"]).rglob("*")) - before
    assert not [path for path in left if path.is_file() or path.suffix == ".partial"]
