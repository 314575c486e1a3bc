"""Tables as people save them."""

import codecs
import re
from pathlib import Path

import pytest

from common.errors import InvalidInput
from dataset.photos import read_photos
from dataset.tables import read_lists, read_rows, refused_by

ROWS = [{"path": "a/课.jpg", "label": "offline", "note": "x, y; z"}, {"path": "b.jpg", "label": "online", "note": ""}]
TABS = 'path\tlabel\tnote\r\na/课.jpg\toffline\t"x, y; z"\r\nb.jpg\tonline\t\r\n'
COMMAS = TABS.replace("\t", ",")
SEMICOLONS = TABS.replace("\t", ";")


@pytest.mark.parametrize("text", [TABS, COMMAS, SEMICOLONS], ids=["tabs", "commas", "semicolons"])
@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (b"", "utf-8"),
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ],
)
def test_tables_of_excel_are_read(tmp_path: Path, mark: bytes, encoding: str, text: str) -> None:
    (tmp_path / "t.csv").write_bytes(mark + text.encode(encoding))
    assert read_rows(tmp_path / "t.csv", ("path", "label")) == ROWS


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (TABS.encode("utf-16-le"), "is UTF-16 without a byte order mark, not a table in UTF-8: save it as UTF-8"),
        (codecs.BOM_UTF16_LE + TABS.encode("utf-16-le")[:-1], "is damaged UTF-16"),
        (b"PK\x03\x04\0\0", "is a spreadsheet or another binary file, not a table in UTF-8: save it as UTF-8"),
        (b"name\tkind\n", "has no column path, label: its columns are name, kind"),
        (b"", "t.csv is empty: write its header, with the columns path, label, and its rows"),
        (b"\n\n", "t.csv is empty: write its header"),
        (b"\xd0\xcf" * 1000, "has no column path, label: the table is not UTF-8, it looks like GBK"),
        (b"\xd0\xcf\x10\xe0" * 1000, "t.csv is a binary file, not a table: give a table of text, in UTF-8"),
    ],
)
def test_another_encoding_is_named(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(InvalidInput, match=re.escape(words)) as refused:
        read_rows(tmp_path / "t.csv", ("path", "label"))
    assert len(refused.value.message) < 400


def test_a_folder_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=f"{tmp_path} is a folder, not a table: give the table in it"):
        read_rows(tmp_path)


UNMATCHED = ": the quotation marks of a cell do not match"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('a\tb\t"big\nc\td\te\n', f"t.csv, row 3{UNMATCHED}"),
        ('a\tb\t"big\nc\td\t"k\n', f"t.csv, row 3{UNMATCHED}"),
        ('a\tb\t"big\nc\td\tk"\n', f"t.csv, row 3{UNMATCHED}"),
        ('"a\tb\tc\nd"\te\tf\n', f"t.csv, row 3{UNMATCHED}"),
        ("a\tb\tc\td\n", 'row 3 has more cells than the table has columns: enclose a cell that contains a tab in "'),
    ],
)
def test_a_row_that_would_lose_cells_or_rows_is_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "t.csv").write_text(f"path\tlabel\tnote\nx\ty\tz\n{text}")
    with pytest.raises(InvalidInput, match=re.escape(words)):
        read_rows(tmp_path / "t.csv")


def test_what_spreadsheets_add_is_read(tmp_path: Path) -> None:
    """The line `sep=,`, blanks in the header, empty rows and cells, and cells of several lines."""
    (tmp_path / "t.csv").write_text('sep=,\n\npath, label ,note\na,b,"one\ntwo",,\n\nc\n')
    rows = [{"path": "a", "label": "b", "note": "one\ntwo"}, {"path": "c", "label": "", "note": ""}]
    assert read_rows(tmp_path / "t.csv", ("path", "label")) == rows


@pytest.mark.parametrize(
    ("encoding", "line", "words"),
    [
        ("gb18030", "课.jpg\toffline", "there is no such file: the table is not UTF-8, it looks like GBK (课.jpg)"),
        ("gb18030", "镕一.jpg\toffline", "it looks like GBK (镕一.jpg)"),
        ("gb18030", "a.jpg\t线下", "the table is not UTF-8, it looks like GBK (线下): save it as UTF-8"),
        ("cp1252", "a.jpg\tétude", "it looks like Windows-1252 (étude): save it as UTF-8 (in Excel: CSV UTF-8)"),
    ],
)
def test_the_encoding_of_an_unknown_cell_is_named(tmp_path: Path, encoding: str, line: str, words: str) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    (tmp_path / "t.tsv").write_bytes(f"path\tlabel\n{line}\n".encode(encoding))
    with pytest.raises(InvalidInput, match=re.escape(words)):
        read_photos(tmp_path / "t.tsv", ("offline", "online"))


def lists(folder: Path, *lines: str) -> Path:
    (folder / "a.jpg").write_bytes(b"x")
    (folder / "labels.txt").write_text("\ufeffoffline\nonline\n", encoding="utf-8")
    (folder / "trainval.txt").write_text("\n".join(lines))
    return folder


def test_lists_with_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    read = read_lists(lists(tmp_path, "0 a.jpg", "0 ./a.jpg"), ("offline", "online"))
    assert read == [{"path": "a.jpg", "label": "offline", "split": ""}]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("1 ./a.jpg", "trainval.txt:2: a.jpg is online here and offline before: delete one of the lines"),
        ("1 b.jpg", "trainval.txt:2: b.jpg: there is no such file: paths are relative to "),
        (f"1 {'x' * 300}.jpg", "the file cannot be opened (File name too long)"),
    ],
)
def test_a_line_of_a_list_that_is_no_photo_is_refused(tmp_path: Path, line: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(words)):
        read_lists(lists(tmp_path, "0 a.jpg", line), ("offline", "online"))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("b.jpg\tok\n", "audit.tsv lists none of the 1 photos: give the table of their audit"),
        ("b.jpg\tok\na.jpg\tcorrupt\n", ""),
    ],
)
def test_an_audit_of_other_photos_is_refused(tmp_path: Path, rows: str, words: str) -> None:
    (tmp_path / "audit.tsv").write_text(f"path\tverdict\n{rows}")
    if not words:
        assert refused_by(tmp_path / "audit.tsv", [tmp_path / "a.jpg"]) == {tmp_path / "a.jpg"}
        return
    with pytest.raises(InvalidInput, match=re.escape(words)):
        refused_by(tmp_path / "audit.tsv", [tmp_path / "a.jpg"])


def test_photos_that_an_audit_does_not_list_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "audit.tsv").write_text("path\tverdict\nb.jpg\tok\n")
    assert refused_by(tmp_path / "audit.tsv", [tmp_path / "a.jpg", tmp_path / "b.jpg"]) == frozenset()
    assert "1 photo is not in" in capsys.readouterr().err


def test_misspelt_labels_are_counted(tmp_path: Path) -> None:
    rows = "".join(f"{number}.jpg\tOfline\n" for number in range(176))
    (tmp_path / "t.tsv").write_text(f"path\tlabel\n{rows}a.jpg\tofline\n")
    with pytest.raises(InvalidInput, match=r"0.jpg: unknown label Ofline \(176 rows\), ofline: use one of offline"):
        read_photos(tmp_path / "t.tsv", ("offline", "online"))


def test_an_unknown_label_says_how_to_leave_a_photo_out(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("path\tlabel\na.jpg\tunclear\n")
    words = "unknown label unclear: use one of offline, online, no_class, or leave the label empty to leave a photo out"
    with pytest.raises(InvalidInput, match=words + r" \(the column set_aside may then say broken or unclear\)"):
        read_photos(tmp_path / "t.tsv", ("offline", "online"))
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "t.tsv").write_text("path\tlabel\tset_aside\na.jpg\t\tunclear\nb.jpg\toffline\nc.jpg\tonline\n")
    assert [photo.path.name for photo in read_photos(tmp_path / "t.tsv", ("offline", "online"))] == ["b.jpg", "c.jpg"]
