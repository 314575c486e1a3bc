"""The drawn example: a folder holds the photos of one set of options, so that its truth is that of its photos."""

from pathlib import Path

import click
import pytest

from reports.sample_data import sample_data

SMALL = ("--regions", "1", "--institutions", "1", "--weeks", "4", "--photos", "1", "--pictures", "1")


def draw(folder: Path, *words: str) -> dict[str, bytes]:
    """The files that were drawn."""
    sample_data.main([str(folder), *SMALL, *words], standalone_mode=False)
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_is_continued_only_with_the_options_it_was_drawn_with(tmp_path: Path) -> None:
    drawn = draw(tmp_path / "drawn")
    next((tmp_path / "drawn").rglob("*.jpg")).unlink()
    assert draw(tmp_path / "drawn") == drawn
    with pytest.raises(click.ClickException, match="was drawn with --weeks 4, not 5; --seed 0, not 1: give the same"):
        draw(tmp_path / "drawn", "--weeks", "5", "--seed", "1")
    (tmp_path / "drawn" / "options.json").unlink()
    with pytest.raises(click.ClickException, match=r"has data, but no options.json .*: give another folder"):
        draw(tmp_path / "drawn")
    assert (tmp_path / "drawn" / "truth.csv").read_bytes() == drawn["truth.csv"]
