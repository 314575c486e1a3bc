"""Damaged and hostile uploads never break the server, and nothing is written outside of its folder."""

from pathlib import Path

import pytest

from benchmarks.uploads.__main__ import send


@pytest.mark.slow
def test_fuzzed_uploads(tmp_path: Path) -> None:
    report = send(tmp_path, range(300), 7)
    assert (report["broken"], report["outside"], report["pages"]) == ([], [], [200, 200])
    assert set(report["statuses"]) >= {303, 400}, "nothing was accepted, or nothing was refused"
