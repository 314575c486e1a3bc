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
from reports.manifest.folders import PATTERN
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
    data = (
        (HEADER + line(1) + line(2).replace("标题", '"一\n二"')).encode("gbk")
        + line(3).encode("utf-8")
        + line(4).encode("gbk")
    )
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


@pytest.mark.parametrize(("year", "warnings"), [(1991, [(2, "published_at")]), (2013, []), (2014, [])])
def test_a_date_that_is_years_from_all_others_is_told(
    year: int, warnings: list[tuple[int, str]], tmp_path: Path
) -> None:
    text = (
        HEADER
        + line(1, date=f"{year}-05-01")
        + "".join(line(number, date=f"{2008 + number}-05-01") for number in range(2, 16))
    )
    check, _ = checked(tmp_path / "m.csv", text + line(16) + line(17))
    assert (told(check), told(check, error=False)) == ([], warnings)


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
        (
            HEADER + line(1).replace("标题", '"6寸合照') + line(2),
            "row 2: the quotation marks",
        ),
        (HEADER + line(1).replace("标题", '"6寸') + line(2).replace("标题", '15" 屏幕'), "row 2: the quotation marks"),
        (HEADER + line(1).replace("标题", '"6寸') + line(2).replace("标题", '15"'), "row 2: the quotation marks"),
        (
            HEADER + line(1) + line(2).replace("星河学校", '"星河') + line(3).replace("学校", '"'),
            "row 3: the quotation marks",
        ),
        (HEADER.replace("title", '"title') + line(1), "row 1: the quotation marks"),
        (HEADER + line(1) + "p2,\0\n", "NUL byte in line 3"),
        (b"PK\3\4\0\0", "a spreadsheet"),
        (HEADER.encode() + b"p1,\xff\xff\xff,\x80\n", "line 2 is neither UTF-8 nor GBK"),
    ],
)
def test_a_file_that_is_no_manifest_is_refused(data: bytes | str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as error:
        checked(tmp_path / "m.csv", data)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        HEADER.replace("title", '"title;note;a;b;c;d;e"') + line(1),
        "\n,,,,\n" + HEADER + line(1),
        "sep=,\n" + HEADER + line(1),
        "," + HEADER + "0," + line(1),
        HEADER.replace("\n", ",,\n") + line(1).replace("\n", ",,,\n"),
        HEADER + line(1).replace("标题", '"高一, 2022-03-14\n高二"'),
    ],
    ids=["semicolons in a name", "empty lines", "sep", "index of pandas", "columns without a name", "a line break"],
)
def test_what_other_programs_add_to_a_table_does_not_matter(text: str, tmp_path: Path) -> None:
    check, entries = checked(tmp_path / "m.csv", text)
    assert (told(check), [(entry.photo_id, len(entry.extra)) for entry in entries]) == ([], [("p1", 1)])


@pytest.mark.parametrize(
    ("text", "errors", "warnings"),
    [
        (HEADER + "\n\n" + line(1) + line(1), [(5, "photo_id")], []),
        ("\nsep=,\n" + HEADER + line(1) + line(1), [(4, "photo_id")], []),
        (HEADER + line(1) + ",,,,,\n , ,,,,\n" + line(1), [(5, "photo_id")], [(3, "")]),
    ],
)
def test_rows_are_numbered_as_a_spreadsheet_does(
    text: str, errors: list[tuple[int, str]], warnings: list[tuple[int, str]], tmp_path: Path
) -> None:
    check, _ = checked(tmp_path / "m.csv", text)
    assert (told(check), told(check, error=False), check.findings.rows) == (errors, warnings, 2)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("x" * 300, "cannot be opened (File name too long)"),
        ("~/a.jpg", "write the folder's name instead of ~"),
        ("file:///a.jpg", "without file://"),
        ("https://example.org/[a.jpg", "in the column url"),
        ("photos\\a.jpg", "write / instead of \\"),
        ("folder", "this is a folder"),
        ("a.jpg", "there is no such file; it will be"),
    ],
)
def test_a_path_without_a_photo_is_explained(path: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    check, entries = checked(tmp_path / "m.csv", HEADER.replace("url", "path") + f"p1,{path},甲,BJ,2022-03-14,t\n")
    assert (len(entries), told(check, error=False)) == (1, [(2, "path")])
    assert words in check.findings.problems[0].text


@pytest.mark.parametrize("url", ["http://[bad/1.jpg", "http:///1.jpg", "https://example.org:99999/1.jpg", "ftp://x/1"])
def test_a_url_that_leads_nowhere_is_an_error(url: str, tmp_path: Path) -> None:
    check, _ = checked(tmp_path / "m.csv", HEADER + f"p1,{url},甲,BJ,2022-03-14,t\n")
    assert told(check) == [(2, "url")]


def test_odd_values_of_parquet(tmp_path: Path) -> None:
    moments = pa.array([-62135596800, 10**12, 1647216000], pa.timestamp("s", "UTC"))  # the years 1, 33658 and 2022
    columns = {"photo_id": [1.0, 2.0, 3.0], "path": [b"\xd6.jpg", b"b.jpg", "丙.jpg".encode()], "published_at": moments,
               "institution": ["甲"] * 3, "region": [float("nan"), 110000.0, 310000.0], "": [1, 2, 3]}  # fmt: skip
    pq.write_table(pa.table(columns), tmp_path / "m.parquet")
    check = open_manifest(tmp_path / "m.parquet")
    entries = [(entry.photo_id, Path(entry.source).name, entry.region, entry.extra) for entry in check.entries()]
    assert entries == [("3", "丙.jpg", "SH", {})]
    assert told(check) == [(2, "path"), (2, "published_at"), (3, "published_at")]
    assert check.findings.unknown_regions == {"": 1}


def test_a_damaged_page_of_parquet_is_told(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    names = ("photo_id", "url", "institution", "region", "published_at")
    pq.write_table(pa.table({name: [str(number) for number in range(999)] for name in names}), path)
    data = bytearray(path.read_bytes())
    data[4:400] = bytes(396)
    path.write_bytes(data)
    with pytest.raises(InvalidInput, match="is damaged below row 1"):
        list(open_manifest(path).entries())


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
    assert [problem.text for problem in check.findings.problems if problem.error] == [
        f"logo.png: the name does not match {PATTERN!r}: rename the file, or give --pattern"
    ]


def test_files_of_a_folder_that_cannot_be_scored_are_told(tmp_path: Path) -> None:
    photo = tmp_path / "武汉校区英语学科12期开班合照.jpg"
    photo.write_bytes(b"x")
    (tmp_path / "link.jpg").symlink_to(photo)
    (tmp_path / "\udcce\udce4").mkdir()
    (tmp_path / "\udcce\udce4" / photo.name).write_bytes(b"x")
    check = open_manifest(tmp_path)
    assert len(list(check.entries())) == 1
    assert [problem.text for problem in check.findings.problems if problem.column in ("photo_id", "path")] == [
        f"\\udcce\\udce4/{photo.name}: not UTF-8: rename the file, or correct the cell",
        "1 link left out, for example link.jpg: copy the files instead",
    ]
    assert [error for _, error in told(check)] == ["photo_id"]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2022-03-14", datetime(2022, 3, 13, 16, tzinfo=UTC)),
        ("2022/3/14 8:05", datetime(2022, 3, 14, 0, 5, tzinfo=UTC)),
        ("2022年3月14日", datetime(2022, 3, 13, 16, tzinfo=UTC)),
        ("20220314", datetime(2022, 3, 13, 16, tzinfo=UTC)),
        ("2022-03-14 08:31:00+00", datetime(2022, 3, 14, 8, 31, tzinfo=UTC)),
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


@pytest.mark.parametrize("text", ["0001-01-01", "9999-12-31 23:00-08:00", "1899-12-30", "1970-01-01"])
def test_a_date_that_cannot_be_one_of_a_photo_is_refused(text: str) -> None:
    with pytest.raises(BadDate, match=r"does not exist|is before 1990"):
        read_date(text)


def test_the_number_of_a_date_in_excel_is_told() -> None:
    with pytest.raises(BadDate, match=r"'44634.5' looks like Excel's number of a date: write it as 2022-03-14"):
        read_date("44634.5")
