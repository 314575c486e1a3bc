"""Manifests as people send them: what is read, and what is told with its row."""

import codecs
import csv
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common.errors import InvalidInput
from reports.manifest.checking import Check, Entry
from reports.manifest.dates import BadDate, read_date
from reports.manifest.opening import open_manifest
from reports.manifest.spreadsheet import write_csv

HEADER = "photo_id,url,institution,region,published_at,title\n"
ROW = "{id},https://example.org/{id}.jpg,星河学校,{region},{date},标题\n"


def line(number: int, region: str = "上海市", date: str = "2022-03-14") -> str:
    return ROW.format(id=f"p{number}", region=region, date=date)


def checked(path: Path, data: bytes | str) -> tuple[Check, list[Entry]]:
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    check = open_manifest(path)
    return check, list(check.entries())


def told(check: Check, error: bool = True) -> list[tuple[int, str]]:
    return [(problem.row, problem.column) for problem in check.findings.problems if problem.error is error]


TEXT = HEADER + line(1) + line(2, "Guangdong", "2022/3/15 08:30")


@pytest.mark.parametrize(
    "data",
    [
        TEXT.encode(),
        TEXT.encode("utf-8-sig"),
        TEXT.encode("gbk"),
        codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"),
        TEXT.replace(",", "\t").encode(),
        TEXT.replace(",", ";").replace("\n", "\r\n").encode("gb18030"),
    ],
    ids=["utf-8", "bom", "gbk", "utf-16", "tsv", "semicolons, gb18030"],
)
def test_encodings_and_separators_of_excel_are_read(data: bytes, tmp_path: Path) -> None:
    check, entries = checked(tmp_path / "m.csv", data)
    assert told(check) == []
    assert [(entry.institution, entry.region, entry.extra) for entry in entries] == [
        ("星河学校", "SH", {"title": "标题"}),
        ("星河学校", "GD", {"title": "标题"}),
    ]
    assert entries[1].published_at == datetime(2022, 3, 15, 0, 30, tzinfo=UTC)


def test_parquet_is_read_as_the_same_rows(tmp_path: Path) -> None:
    columns = {"photo_id": [1, 2], "path": ["a.jpg", "b.jpg"], "institution": ["甲", "乙"], "region": ["BJ", None],
               "published_at": [datetime(2022, 3, 14), datetime(2022, 3, 15)], "likes": [3, None]}  # fmt: skip
    pq.write_table(pa.table(columns), tmp_path / "m.parquet")
    check = open_manifest(tmp_path / "m.parquet")
    entries = list(check.entries())
    assert [(entry.photo_id, entry.region, entry.extra["likes"]) for entry in entries] == [
        ("1", "BJ", "3"),
        ("2", "", ""),
    ]
    assert told(check) == []
    assert told(check, error=False) == [(2, "path"), (3, "path"), (3, "region")]


def test_every_error_is_told_with_its_row(tmp_path: Path) -> None:
    text = HEADER + line(1) + line(1) + line(3, date="03/04/2022") + line(4, date="2022-13-01") + line(5, date="soon")
    text += ",https://example.org/x.jpg,甲,BJ,2022-03-14,t\np8,,甲,BJ,2022-03-14,t\np9,ftp://x/y,甲,BJ,2022-03-14,t\n"
    text += "p10,https://example.org/x.jpg,,BJ,2022-03-14,t\np11,https://example.org/x.jpg,甲,BJ,2022-03-14,t,extra\n"
    check, entries = checked(tmp_path / "m.csv", text)
    assert [entry.photo_id for entry in entries] == ["p1"]
    assert told(check) == [
        (3, "photo_id"), (4, "published_at"), (5, "published_at"), (6, "published_at"), (7, "photo_id"), (8, "path"),
        (9, "url"), (10, "institution"), (11, ""),
    ]  # fmt: skip
    assert "row 2 too" in check.findings.problems[0].text


def test_two_encodings_in_one_file_are_told_with_the_row(tmp_path: Path) -> None:
    data = (HEADER + line(1) + line(2)).encode("gbk") + line(3).encode("utf-8") + line(4).encode("gbk")
    check, _ = checked(tmp_path / "m.csv", data)
    assert told(check) == [(4, "")]


def test_warnings_say_what_will_happen(tmp_path: Path) -> None:
    text = HEADER + line(1) + line(2, region="火星") + line(3, region="火星") + line(4, date="2022年3月14日")
    text += line(5, date="14.3.2022"[::1].replace("14.3.2022", "2022.3.14")) + line(6).replace(
        "标题", "=cmd|' /C calc'!A0"
    )
    check, entries = checked(tmp_path / "m.csv", text)
    assert len(entries) == 6
    assert told(check) == []
    assert told(check, error=False) == [(3, "region"), (7, "title"), (5, "published_at"), (6, "published_at")]
    assert check.findings.unknown_regions == {"火星": 2}


@pytest.mark.parametrize("cell", ["=cmd|' /C calc'!A0", "+1+cmd", "-2+3", "@SUM(1)", " =1", "＝1+1", "\t=1"])
def test_a_written_table_shows_a_formula_and_does_not_run_it(cell: str, tmp_path: Path) -> None:
    write_csv(tmp_path / "out.csv", ("name", cell), [{"name": cell, cell: 1}, {"name": "-1.5", cell: -2}])
    data = (tmp_path / "out.csv").read_bytes()
    assert data.startswith(codecs.BOM_UTF8)  # or Excel reads it as GBK
    lines = list(csv.reader(data.decode("utf-8-sig").splitlines()))
    assert lines == [["name", f"'{cell}"], [f"'{cell}", "1"], ["-1.5", "-2"]]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("photo_id,path,region,published_at\n1,a,BJ,2022-01-01\n", "no column institution"),
        ("photo_id,institution,region,published_at\n1,a,BJ,2022-01-01\n", "path (or url)"),
        ("id,path,institution,region,date,Date\n", "'date' twice"),
        ("", "is empty"),
        (HEADER, "no row"),
        (b"PK\3\4\0\0", "a spreadsheet"),
        (HEADER.encode() + b"p1,\xff\xff\xff,\x80\n", "row 2 is neither UTF-8 nor GBK"),
    ],
)
def test_a_file_that_is_no_manifest_is_refused(data: bytes | str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as error:
        checked(tmp_path / "m.csv", data)
    assert message in str(error.value)


def test_chinese_headers_are_known(tmp_path: Path) -> None:
    text = "照片编号,链接,机构名称,省份,发布日期\n1,https://example.org/1.jpg,甲,京,2022-03-14\n"
    check, entries = checked(tmp_path / "m.csv", text)
    assert (entries[0].institution, entries[0].region, told(check)) == ("甲", "BJ", [])


def test_a_folder_is_read_by_the_names_of_its_files(tmp_path: Path) -> None:
    for name in ("武汉校区英语学科12期开班合照.jpg", "广东省/天河校区数学学科3期开班合照(2).png", "logo.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    check = open_manifest(tmp_path, published_at="2022-03-14")
    entries = list(check.entries())
    assert [(entry.institution, entry.region, *entry.extra.values()) for entry in entries] == [
        ("天河", "GD", "天河", "数学", "3"),
        ("武汉", "HB", "武汉", "英语", "12"),
    ]
    assert [problem.column for problem in check.findings.problems if problem.error] == ["institution"]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2022-03-14", datetime(2022, 3, 13, 16, tzinfo=UTC)),
        ("2022/3/14 8:05", datetime(2022, 3, 14, 0, 5, tzinfo=UTC)),
        ("2022年3月14日", datetime(2022, 3, 13, 16, tzinfo=UTC)),
        ("20220314", datetime(2022, 3, 13, 16, tzinfo=UTC)),
        ("2022-03-14T08:00:00Z", datetime(2022, 3, 14, 8, tzinfo=UTC)),
        ("2022-03-14T08:00:00.123+05:30", datetime(2022, 3, 14, 2, 30, tzinfo=UTC)),
        ("1647216000", datetime(2022, 3, 14, tzinfo=UTC)),
        ("1647216000000", datetime(2022, 3, 14, tzinfo=UTC)),
    ],
)
def test_dates(text: str, moment: datetime) -> None:
    assert read_date(text).moment == moment


@pytest.mark.parametrize("text", ["", "3/14/2022", "14-03-22", "2022-02-30", "March", "44634", "2022-3"])
def test_a_date_that_would_be_a_guess_is_refused(text: str) -> None:
    with pytest.raises(BadDate, match="write it as 2022-03-14"):
        read_date(text)
