"""The reviewed sample, of scores that are written without a model: labels go to their photos, or an error says why."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import pytest

from common.errors import InvalidInput, NotFound
from common.files import write_json
from reports.build import build
from reports.counting.review import Reviewed, read_review
from reports.sample import sample, suffix_of
from reports.scoring.job import Job, read_job
from tests.helpers.reports import MONDAY, invoke, job_of, table


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return job_of(tmp_path / "scores")


@pytest.fixture
def review(job: Job, tmp_path: Path) -> Path:
    invoke(sample, job.folder, "--count", 40, "--out", tmp_path / "review")
    return tmp_path / "review"


def labelled(review: Path, job: Job, lines: str) -> Reviewed:
    """The review with the labels of a table."""
    (review / "labels.csv").write_text(lines, encoding="utf-8")
    return read_review(review, review / "labels.csv", job, "call")


def truth(review: Path, key: str, before: str = "", after: str = "") -> str:
    """A table in which every label is the answer."""
    return f"{key},label\n" + "".join(
        f"{before}{row[key]}{after},{row['label']}\n" for row in table(review / "sample.csv")
    )


def right(found: Reviewed) -> list[int]:
    return [stratum.right for stratum in found.strata]


def test_photo_ids_that_look_like_files_of_the_sample_keep_their_labels(tmp_path: Path) -> None:
    """Number N of the manifest is not file N of the sample, and what is called so there is another photo."""
    job = job_of(tmp_path / "scores", photo_id=[f"{number:04d}.jpg" for number in range(1, 41)])
    invoke(sample, job.folder, "--count", 40, "--out", tmp_path / "review")
    review = tmp_path / "review"
    assert any(row["file"] != row["photo_id"] for row in table(review / "sample.csv"))
    for key in ("file", "photo_id"):
        assert right(labelled(review, job, truth(review, key))) == [20, 20]
    elsewhere = truth(review, "file", "elsewhere/").replace("file,", "path,")
    with pytest.raises(InvalidInput, match="no row is of a photo of"):
        labelled(review, job, elsewhere)
    assert right(labelled(review, job, elsewhere.replace("elsewhere/", "photos/"))) == [20, 20]


def test_a_label_in_blanks_and_a_photo_id_that_looks_like_a_formula_are_found(tmp_path: Path) -> None:
    job = job_of(tmp_path / "scores", photo_id=[f"{'-@='[number % 3]}x{number}" for number in range(40)])
    invoke(sample, job.folder, "--count", 40, "--out", tmp_path / "review")
    lines = truth(tmp_path / "review", "photo_id").replace("'", "").replace("\n", " \n")
    found = labelled(tmp_path / "review", job, lines)
    assert (right(found), found.unlabelled, found.notes) == ([20, 20], 0, ())


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ("photo_id,label\np1,room\np2,Call\n", "row 3: unknown label 'Call': write room, call, or no_class if"),
        ("photo_id,label\np1,线上\n", "row 2: unknown label '线上'"),
        ("photo_id,label\np1,room\np2,room\np1,call\n", r"row 4: \d+.jpg has the label call, but room in row 2"),
        ("photo_id,label\nq1,room\n", "no row is of a photo of .*review: name them as .*sample.csv does"),
        ("name,label\np1,room\n", "has no column photo_id, path or file: its columns are name, label"),
    ],
)
def test_labels_that_cannot_be_used_are_an_error_that_names_the_row(
    review: Path, job: Job, lines: str, problem: str
) -> None:
    with pytest.raises(InvalidInput, match=problem):
        labelled(review, job, lines)


def test_labels_of_other_photos_are_counted_and_repeated_ones_accepted(review: Path, job: Job) -> None:
    found = labelled(review, job, "photo_id,label\np1,call\np1,call\nq1,anything\np2,no_class\np3,\n")
    assert (right(found), found.neither, found.unlabelled) == ([1, 0], 1, 38)
    assert [text.partition(": ")[2] for text in found.notes] == [
        "ignored 1 row of photos that are not in the sample, for example row 4"
    ]


@pytest.mark.parametrize(
    ("facts", "label", "problem"),
    [
        ({}, "room", "was drawn for the label call, not room: give --label call, or draw another sample"),
        ({"manifest_digest": "n"}, "call", "was drawn from scores of another manifest than"),
        ({"digest": "e" * 64}, "call", "was drawn from scores of another model than"),
    ],
)
def test_a_review_of_other_scores_or_of_another_label_is_refused(
    review: Path, job: Job, facts: dict[str, str], label: str, problem: str
) -> None:
    write_json(job.folder / "job.json", {**json.loads((job.folder / "job.json").read_text()), **facts})
    with pytest.raises(InvalidInput, match=problem):
        read_review(review, review / "sample.csv", read_job(job.folder), label)
    (review / "token").write_text("x")
    if "digest" not in facts:  # of which the parts disagree with the job
        words = ["--label", label, "--feedback", "http://127.0.0.1:9", "--token-file", review / "token"]
        with pytest.raises(click.ClickException, match=problem):
            invoke(sample, job.folder, "--out", review, *words)


def test_a_review_of_an_earlier_version_is_accepted_with_a_note(review: Path, job: Job) -> None:
    (review / "sample.json").unlink()
    found = labelled(review, job, truth(review, "photo_id"))
    assert right(found) == [20, 20]
    assert found.notes == (f"{review} does not say what it was drawn from: make sure that it is {job.folder}",)


@pytest.mark.parametrize(("column", "cell"), [("photos", ""), ("photos", "20.0"), ("positive", "yes"), ("file", "")])
def test_a_damaged_row_of_the_sample_is_named(review: Path, job: Job, column: str, cell: str) -> None:
    rows = table(review / "sample.csv")
    rows[1][column] = cell
    lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
    (review / "sample.csv").write_text("\n".join(lines))
    with pytest.raises(InvalidInput, match=f"row 3: {column} is '{cell}'"):
        labelled(review, job, "photo_id,label\np1,call\n")
    (review / "sample.csv").unlink()
    with pytest.raises(NotFound, match=r"has no sample.csv: draw it with"):
        labelled(review, job, "photo_id,label\np1,call\n")


def built(job: Job, review: Path, lines: str, out: Path) -> dict[str, Any]:
    """What the page of a reviewed report says about the review and the period."""
    (review / "labels.csv").write_text(lines)
    invoke(build, job.folder, "--review", review, "--labels", review / "labels.csv", "--out", out)
    data = json.loads(re.findall(r'id="data">(.*?)</script>', (out / "index.html").read_text())[0])
    return {**data["facts"], **dict(data["basis"])}


def test_the_report_says_how_many_photos_were_reviewed_and_why_shares_are_not_corrected(
    review: Path, job: Job, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    every = truth(review, "photo_id")
    swapped = every.replace("room", "x").replace("call", "room").replace("x", "call")
    cases = {
        "few": (
            "photo_id,label\np1,call\n",
            "uncorrected_few",
            "reviewed 1 of 40 photos\nshares are not corrected: few",
        ),
        "poor": (swapped, "uncorrected_poor", "reviewed 40 of 40 photos\nshares are not corrected: the classifier"),
        "good": (every, None, "reviewed 40 of 40 photos\n"),
        "none": ("photo_id,label\np1,\n", "uncorrected_few", "reviewed 0 of 40 photos\nshares are not corrected: few"),
    }
    words = json.loads(Path("reports/site/words.json").read_text())
    for name, (lines, reason, said) in cases.items():
        facts = built(job, review, lines, tmp_path / name)
        assert facts["uncorrected"] == reason
        assert said in capsys.readouterr().out
        assert reason is None or words["en"][reason] != words["zh"][reason]
        assert (facts["sensitivity"] is None) == (name == "none")
        notes = {row["note"] for row in table(tmp_path / name / "shares.csv")}
        assert notes == {"not corrected" if reason else ""}
    assert facts["period"] == "2022-03-07 – 2022-03-20 (Asia/Shanghai)"


def test_one_date_far_from_all_others_is_refused_with_its_photo(tmp_path: Path) -> None:
    job = job_of(tmp_path / "scores", 2, published_at=[datetime(1899, 12, 29, 17, tzinfo=UTC), MONDAY])
    with pytest.raises(click.ClickException, match=r"spans 6377 weeks, from 1899-12-30 \(p0\) to 2022-03-07 \(p1\)"):
        invoke(build, job.folder, "--out", tmp_path / "site")
    assert not (tmp_path / "site").exists()


def test_photos_that_cannot_be_read_are_left_out_and_none_at_all_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder.jpg").mkdir()
    kept = tmp_path / "scores" / "0.jpg"
    sources = [str(kept), str(tmp_path / "folder.jpg"), str(tmp_path / "gone.jpg"), "http://127.0.0.1/1.jpg"]
    job = job_of(tmp_path / "scores", 4, source=sources)
    invoke(sample, job.folder, "--out", tmp_path / "review")
    said = capsys.readouterr()
    assert "1 photo to review: 0 answered call, 1 answered otherwise, 0 out of scope" in said.out
    assert "left out 3 photos:" in said.err
    assert f"{tmp_path / 'gone.jpg'}: there is no such file any more" in said.err
    assert "127.0.0.1 is an address of a private network" in said.err
    kept.unlink()
    with pytest.raises(click.ClickException, match=r"none of the 4 photos drawn from .* can be used: put them back"):
        invoke(sample, job.folder, "--out", tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_a_photo_that_changed_since_it_was_scored_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = job_of(tmp_path / "scores")
    for number in range(30):
        (tmp_path / "scores" / f"{number}.jpg").write_bytes(b"another photo")
    invoke(sample, job.folder, "--out", tmp_path / "review")
    said = capsys.readouterr()
    assert {row["photo_id"] for row in table(tmp_path / "review" / "sample.csv")} == {f"p{n}" for n in range(30, 40)}
    assert "left out 30 photos, the first 5 of them:" in said.err
    assert said.err.count("it has changed since it was scored") == 5


@pytest.mark.parametrize(
    ("source", "suffix"),
    [
        ("a/b.PNG", ".png"),
        ("x.md", ".jpg"),
        ("https://h/a.jpg_large?x=1", ".jpg"),
        ("s3://b/c", ".jpg"),
        ("a.jpeg", ".jpeg"),
    ],
)
def test_the_files_of_the_sample_have_the_suffix_of_a_picture(source: str, suffix: str) -> None:
    assert suffix_of(source) == suffix
