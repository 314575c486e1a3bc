"""`dataset stats`: counts, sizes from the headers, the proposed input size, plots."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from rich.cells import cell_len

from common.console import console
from dataset.stats import SizedPhoto, class_table, dense_range, stats
from tests.helpers.pictures import bomb, encode, photo, turned

LABELS = ("disc", "stripe", "cross")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(stats, [str(argument) for argument in arguments])


def plain(width: int, height: int) -> bytes:
    return encode(Image.new("RGB", (width, height)), "PNG")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder, rng = tmp_path / "photos", np.random.default_rng(0)
    lines = ["path\tsource"]
    for label in LABELS:
        (folder / label).mkdir(parents=True)
        for number in range(8):
            (folder / label / f"{number}.png").write_bytes(plain(*map(int, rng.integers(200, 400, 2))))
            lines.append(f"{label}/{number}.png\tphone {number % 2}")
    (folder / "SOURCES.tsv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize("seed", range(5))
def test_the_distribution_of_the_document_gives_its_input_size(seed: int) -> None:
    """Dense between 500 and 1000 and between 250 and 750, thin up to 2000: 750 x 500."""
    rng = np.random.default_rng(seed)
    widths = [*rng.integers(500, 1001, 800), *rng.integers(1000, 2001, 200)]
    heights = [*rng.integers(250, 751, 800), *rng.integers(750, 2001, 200)]
    left, right = dense_range(widths)
    low, high = dense_range(heights)
    assert abs(left - 500) <= 50 and abs(right - 1000) <= 50 and abs(low - 250) <= 50 and abs(high - 750) <= 50
    assert abs((left + right) / 2 - 750) <= 25 and abs((low + high) / 2 - 500) <= 25


@pytest.mark.parametrize(
    ("values", "expected"),
    [([640], (650, 650)), ([32] * 9, (32, 32)), ([32, 33], (31, 34)), ([1920] * 50 + [1280], (1850, 1950))],
)
def test_few_or_equal_sizes_have_a_range(values: list[int], expected: tuple[int, int]) -> None:
    assert np.abs(np.subtract(dense_range(values), expected)).max() <= (1 if values[0] < 200 else 50)


@pytest.mark.slow
def test_photos_without_a_source_are_warned_of(photos: Path, tmp_path: Path) -> None:
    (photos / "SOURCES.tsv").unlink()
    done = run(photos, "--recipe", "shapes", "--out", tmp_path / "out")
    assert "warning: none of the 24 photos names its source" in " ".join(done.stderr.split())


@pytest.mark.slow
def test_counts_plots_and_sizes_are_written(photos: Path, tmp_path: Path) -> None:
    (photos / "disc" / "turned.jpg").write_bytes(turned(6))
    (photos / "disc" / "bad.jpg").write_bytes(b"x")
    (photos / "disc" / "bomb.png").write_bytes(bomb(9000))  # only its header is read
    out = tmp_path / "out"
    done = run(photos, "--recipe", "shapes", "--out", out)
    assert done.exit_code == 0, done.output
    assert "warning" not in done.stderr
    facts = json.loads((out / "stats.json").read_text())
    assert facts["by_class"] == {"disc": 10, "stripe": 8, "cross": 8} and facts["photos"] == 26
    assert facts["by_class_and_source"]["cross"] == {"phone 0": 4, "phone 1": 4} and facts["by_source"]["phone 1"] == 12
    assert facts["unreadable"] == [str(photos / "disc" / "bad.jpg")] and "bad.jpg: unreadable" in done.stdout
    assert facts["quantiles"]["width"][-1] == 9000
    assert facts["recipe"] == {"width": 96, "height": 64}
    for name in ("w_distribu.png", "h_distribu.png", "wh_joint.png"):
        with Image.open(out / name) as plot:
            assert min(plot.size) > 300 and len(set(plot.convert("L").tobytes())) > 20
    proposed = facts["proposed"]
    assert f"proposed input: W {proposed['width']} x H {proposed['height']}" in done.stdout


@pytest.mark.slow
def test_sizes_are_upright(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(turned(8))
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "b.png").write_bytes(encode(photo(), "PNG", exif=exif))
    assert run(tmp_path, "--out", tmp_path / "out").exit_code == 0
    facts = json.loads((tmp_path / "out" / "stats.json").read_text())
    assert set(facts["quantiles"]["width"]) == {240} and set(facts["quantiles"]["height"]) == {320}


@pytest.mark.slow
def test_photos_without_labels_and_with_any_name_are_counted_as_one(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9")).mkdir()
    (tmp_path / os.fsdecode(b"caf\xe9") / "图.png").write_bytes(plain(300, 200))
    (tmp_path / "b.png").write_bytes(plain(310, 210))
    assert run(tmp_path, "--out", tmp_path / "out").exit_code == 0
    assert json.loads((tmp_path / "out" / "stats.json").read_text())["by_class"] == {"unlabelled": 2}


@pytest.mark.slow
def test_linked_photos_are_counted_and_names_match_in_any_composition(tmp_path: Path) -> None:
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "photos"
    elsewhere.mkdir()
    folder.mkdir()
    (elsewhere / "a.png").write_bytes(plain(300, 200))
    (folder / "more").symlink_to(elsewhere)
    (folder / "cafe\u0301.png").write_bytes(plain(310, 210))
    (folder / "SOURCES.tsv").write_text("path\tsource\ncaf\u00e9.png\tphone\n")
    assert run(folder, "--out", tmp_path / "out").exit_code == 0
    assert json.loads((tmp_path / "out" / "stats.json").read_text())["by_source"] == {"phone": 1, "more/a.png": 1}


@pytest.mark.slow
def test_photos_of_no_class_are_counted(photos: Path, tmp_path: Path) -> None:
    (photos / "no_class").mkdir()
    (photos / "no_class" / "a.png").write_bytes(plain(300, 200))
    done = run(photos, "--recipe", "shapes", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    counted = {"disc": 8, "stripe": 8, "cross": 8, "no_class": 1}
    assert json.loads((tmp_path / "out" / "stats.json").read_text())["by_class"] == counted


@pytest.mark.slow
def test_a_split_folder_and_tables_are_read(photos: Path, tmp_path: Path) -> None:
    for part in ("train", "val"):
        (tmp_path / "split" / part).parent.mkdir(exist_ok=True)
        (tmp_path / "split" / part).symlink_to(photos)
    table = tmp_path / "labels.tsv"
    table.write_text("path\tlabel\n" + "".join(f"photos/{label}/1.png\t{label}\n" for label in LABELS))
    audited = tmp_path / "audit.tsv"
    audited.write_text("path\tverdict\nphotos/disc/1.png\tok\nphotos/disc/2.png\tcorrupt\n")
    for place, expected in ((tmp_path / "split", 48), (table, 3), (audited, 1)):
        done = run(place, "--recipe", "shapes", "--out", tmp_path / "out")
        assert done.exit_code == 0, done.output
        assert json.loads((tmp_path / "out" / "stats.json").read_text())["photos"] == expected


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{empty}"], "no photo to count"),
        (["{text}"], "none of the 1 files in"),
        (["{photos}", "--recipe", "shapes", "--out", "/proc/none"], "give another --out"),
        (["{text}", "--recipe", "shape"], "did you mean shapes"),
    ],
)
def test_faults_name_the_fix(photos: Path, tmp_path: Path, arguments: list[str], words: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.jpg").write_bytes(b"x")
    places = {name: str(tmp_path / name) for name in ("empty", "text", "photos")}
    done = run(*[argument.format(**places) for argument in arguments])
    assert done.exit_code == 1 and words in done.stderr and not isinstance(done.exception, OSError)


def test_the_table_of_classes_is_readable_in_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    labels = ["disc", "教室里的课程" * 12, "[bold]", "caf\udce9"]
    photos = [SizedPhoto(Path("a"), label, f"source {n}", 1920, 1080) for n, label in enumerate(labels * 3)]
    console.print(class_table(photos))
    lines = capsys.readouterr().out.splitlines()
    assert all(cell_len(line) <= 80 for line in lines)
    text = "\n".join(lines)
    assert "…" not in text and "[bold]" in text and "caf?" in text
    assert text.count("1920x1080") == 4 and text.count("课") == 12
    assert "median size" in lines[1]
