"""`python -m benchmarks.compare` on the shipped archive and a real TorchServe, as in `make bench`."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.settings import ROOT


@pytest.mark.skipif(not shutil.which("wrk"), reason="wrk is not installed")
def test_ours_is_measured_without_an_error_and_docs_stay_unchanged(tmp_path: Path) -> None:
    before = (ROOT / "docs" / "benchmarks.md").read_bytes()
    words = [sys.executable, "-m", "benchmarks.compare", "--systems", "ours", "--quick", "--out", str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "compare.json").read_text())
    assert report["absent"] == {}
    ours = report["systems"]["ours"]
    for load in ("one", "eight", "half", "big"):
        assert ours[load]["errors"] == 0, load
        assert ours[load]["p50_ms"]["median"] > 0, load
    assert ours["memory_mb"]["median"] > 100
    assert (tmp_path / "compare.png").is_file()
    assert (ROOT / "docs" / "benchmarks.md").read_bytes() == before
