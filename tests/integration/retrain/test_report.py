"""The report of an evaluation: what is wrong and where it comes from, a comparison, and how it looks on a phone."""

import datetime
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploy.archive import pack
from deploy.store import desired
from deploy.store.mar import served_version
from tests.helpers.commands import command, newest
from tests.helpers.running.browser import running_browser

SOURCE = "a source whose name is long " * 3 + "indeed"


@pytest.fixture
def table(drawn: Path, tmp_path: Path) -> Path:
    """Twelve drawn photos; the first two have a wrong label, a very long name and a source."""
    lines = ["path\tlabel\tsource"]
    for label in ("disc", "stripe", "cross"):
        for path in sorted((drawn / label).iterdir())[:4]:
            wrong = label == "disc" and path.stem in ("0000", "0001")
            name = f"{'no-space-' * 20 if wrong else ''}{label}{path.name}"
            shutil.copy(path, tmp_path / name)
            lines.append(f"{name}\t{'cross' if wrong else label}\t{SOURCE if wrong else label}")
    (tmp_path / "labels.tsv").write_text("\n".join(lines) + "\n")
    return tmp_path / "labels.tsv"


def test_the_report_names_errors_and_sources_and_fits_a_phone(runs: Path, table: Path, tmp_path: Path) -> None:
    run, out = newest(runs, "prune"), tmp_path / "report"
    mar = pack(run / "bundle", "1.0", tmp_path / "store")
    words = ("training", "evaluate", run, "--data", table, "--no-changes", "--out", out, "--against", "served")
    desired.write(tmp_path / "var", [served_version(mar)])
    done = command(*words, env={"SERVE_STORE": str(mar.parent), "SERVE_VAR": str(tmp_path / "var")})
    report = json.loads((out / "report.json").read_text())
    wrong = {Path(row["path"]).name: row for row in report["wrong"]}
    assert {name for name in wrong if name.startswith("no-space-")}, "the two wrong labels are not named"
    assert all(row["source"] == SOURCE for name, row in wrong.items() if name.startswith("no-space-"))
    assert report["against"]["photos"] == 12
    assert "compared with shapes-1.0 on the same photos: " in done.stderr
    assert report["against"]["regressions"] + report["against"]["fixes"] <= len(report["against"]["changed"])
    sheet = np.asarray(Image.open(out / "hardest.jpg").convert("RGB"), int)
    red = (sheet[..., 0] > 150) & (sheet[..., 1:].max(2) < 60)
    assert red.sum() > 2 * 4 * 200, "errors have no frame"

    with running_browser() as browser:
        page = browser.new_page(viewport={"width": 360, "height": 740})
        page.goto((out / "report.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        text = page.inner_text("body")
    assert "Wrong answers" in text and next(iter(wrong)) in text and "Compared with shapes-1.0" in text
    assert f"Evaluated {datetime.datetime.now().date().isoformat()}" in text
    assert "Made from 30 disc, 30 stripe, 30 cross" in text and "were held out" in text


def test_a_wrong_model_to_compare_with_is_refused_before_any_photo_is_read(
    runs: Path, drawn: Path, tmp_path: Path
) -> None:
    words = ("training", "evaluate", newest(runs, "prune"), "--data", drawn, "--against")
    refusals = {
        "nope": "--against nope does not exist",
        "shapes-1.9.mar": f"1.9.mar does not exist: did you mean shapes-1.0.mar? {tmp_path} has shapes-1.0.mar",
        "shapes-1.0.mar": "shapes-1.0.mar is not an archive",
        "served": "--against served: no version of shapes is served",
    }
    (tmp_path / "shapes-1.0.mar").touch()
    for name, message in refusals.items():
        done = command(*words, name, check=False, env={"SERVE_VAR": str(tmp_path), "SERVE_STORE": str(tmp_path)})
        assert done.returncode == 1 and message in done.stderr
        assert "predicting" not in done.stderr
