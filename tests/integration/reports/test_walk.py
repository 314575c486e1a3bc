"""From drawn photos to the report, with the shipped model: nothing is lost, repeated or made up on the way."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import pytest

from config.recipe import NO_CLASS
from reports.build import build
from reports.check import check
from reports.sample import sample
from reports.sample_data import sample_data
from reports.score import score
from reports.scoring.archives import Model
from reports.scoring.job import Job
from reports.scoring.worker import Task
from reports.scoring.workers import Pool
from tests.helpers.commands import SHIPPED
from tests.helpers.reports import HEADER, MONDAY, invoke, job_of, pool_of, rows, scored, table
from tests.helpers.running.browser import running_browser


@pytest.fixture(scope="module")
def mar(shipped: Path) -> Path:
    return shipped


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    sizes = "--regions 2 --institutions 2 --weeks 6 --photos 3 --pictures 6 --seed 1"
    invoke(sample_data, folder, *sizes.split())
    return folder


@pytest.fixture(scope="module")
def started(mar: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Model, Pool]]:
    """One worker process for all tests of this file."""
    with pool_of(mar, tmp_path_factory.mktemp("archive") / "1") as both:
        yield both


@pytest.fixture(scope="module")
def model(started: tuple[Model, Pool]) -> Model:
    return started[0]


@pytest.fixture(scope="module")
def pool(started: tuple[Model, Pool]) -> Pool:
    return started[1]


@pytest.fixture(scope="module")
def scores(drawn: Path, model: Model, pool: Pool, tmp_path_factory: pytest.TempPathFactory) -> Job:
    return scored(drawn / "manifest.csv", tmp_path_factory.mktemp("scores") / "1", model, pool, part=20)


def test_each_photo_is_one_row_with_the_answer_of_the_served_model(drawn: Path, scores: Job, model: Model) -> None:
    found, truth = rows(scores), {row["photo_id"]: row["label"] for row in table(drawn / "truth.csv")}
    assert [row["photo_id"] for row in found] == [row["photo_id"] for row in table(drawn / "manifest.csv")]
    assert [row["row"] for row in found] == list(range(len(truth)))
    classes = [row for row in found if row["label"] and truth[row["photo_id"]] != NO_CLASS]
    right = [row["label"] == truth[row["photo_id"]] for row in classes]
    assert sum(right) >= 0.95 * len(right)
    assert {row["model_digest"] for row in found} == {model.digest}
    assert sum(row["error_code"] == "corrupt_image" for row in found) < 5  # some are damaged on purpose
    for row in found:
        if row["error_code"]:
            continue
        assert row["p_offline"] + row["p_online"] == pytest.approx(1, abs=1e-5)
        assert row["confidence"] == max(row["p_offline"], row["p_online"])
        assert row["title"].startswith(row["institution"])
        assert len(row["sha256"]) == 64
        assert row["phash"]


def test_an_answer_is_that_of_the_archive_over_http(scores: Job, pool: Pool, model: Model) -> None:
    goldens = json.loads((SHIPPED / "goldens.json").read_text())[:3]
    results = list(pool.results(Task(str(SHIPPED / golden["photo"])) for golden in goldens))
    for golden, result in zip(goldens, results, strict=True):
        assert list(result["probabilities"].values()) == pytest.approx(golden["probabilities"], abs=0.01)


def test_a_job_is_not_continued_with_another_manifest_or_archive(
    drawn: Path, mar: Path, scores: Job, tmp_path: Path
) -> None:
    other = tmp_path / "other.csv"
    other.write_bytes((drawn / "manifest.csv").read_bytes() + b"\n")
    with pytest.raises(click.ClickException, match="has changed since"):
        invoke(score, other, "--archive", mar, "--out", scores.folder)
    archive = shutil.copy(mar, tmp_path / "classroom-1.0.mar")
    with subprocess.Popen([sys.executable, "-m", "zipfile", "-c", archive, str(SHIPPED / "MODEL_CARD.md")]):
        pass
    with pytest.raises(click.ClickException, match="is not an archive"):
        invoke(score, drawn / "manifest.csv", "--archive", archive, "--out", scores.folder)


def test_a_bad_manifest_leaves_nothing_behind(mar: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = tmp_path / "m.csv"
    manifest.write_text(HEADER + "1,a.jpg,,x,BJ,2022-03-14\n1,a.jpg,,x,BJ,2022-03-14\n")
    for program, *words in ((check,), (score, "--archive", mar, "--out", tmp_path / "s")):
        with pytest.raises(click.ClickException, match="1 error in 2 rows"):
            invoke(program, manifest, *words)
        assert re.search(r"3\s+photo_id\s+error", capsys.readouterr().out)
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["m.csv"]


@pytest.fixture(scope="module")
def site(drawn: Path, scores: Job, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    invoke(sample, scores.folder, "--count", 60, "--out", folder / "review")
    words = ["--review", folder / "review", "--labels", drawn / "truth.csv", "--out", folder / "site"]
    invoke(build, scores.folder, *words, "--en", "taught online", "--zh", "线上授课")
    return Path(folder / "site")


def test_the_report_counts_what_was_scored(drawn: Path, scores: Job, site: Path) -> None:
    found, shares = rows(scores), table(site / "shares.csv")
    country = [row for row in shares if row["region"] == "CN"]
    assert sum(int(row["photos"]) for row in country) == len(found)
    for row in shares:
        parts = [int(row[name]) for name in ("errors", "out_of_scope", "duplicates", "counted")]
        assert sum(parts) == int(row["photos"])
    assert sum(int(row["duplicates"]) for row in country) >= 1
    assert [row for row in country if row["corrected"]]
    facts = json.loads(re.findall(r'"basis":(\[.*?\]\])', (site / "index.html").read_text())[0])
    assert dict(facts)["drift"].startswith(f"{len({row['day'] for row in table(site / 'drift.csv')})} / ")
    assert len(table(site / "farthest.csv")) <= 20


def test_the_institutions_move_in_the_weeks_of_the_truth(drawn: Path, site: Path) -> None:
    truth = {row["institution"]: int(row["moved"]) for row in table(drawn / "truth.csv")}
    weeks = [row["week"] for row in table(site / "shares.csv") if row["region"] == "CN"]
    found = {row["institution"]: row for row in table(site / "institutions.csv")}
    assert set(found) == set(truth)
    for name, moved in truth.items():
        if moved >= 0:
            assert abs(weeks.index(found[name]["moved"]) - moved) <= 1
        else:
            assert found[name]["moved"] == ""


def test_the_sample_hides_the_answer_and_is_read_back(scores: Job, tmp_path: Path) -> None:
    invoke(sample, scores.folder, "--count", 20, "--out", tmp_path / "review")
    sampled = table(tmp_path / "review" / "sample.csv")
    assert len(sampled) == len(list((tmp_path / "review" / "photos").iterdir())) == 20
    assert {row["positive"] for row in sampled[:10]} >= {"0", "1"}  # in random order
    outside = {row["photo_id"] for row in rows(scores) if row["in_scope"] is False}
    drawn_outside = {row["photo_id"] for row in sampled if row["positive"] == "out_of_scope"}
    assert drawn_outside
    assert drawn_outside == outside & {row["photo_id"] for row in sampled}
    with pytest.raises(click.ClickException, match="label the sample"):
        invoke(build, scores.folder, "--review", tmp_path / "review", "--out", tmp_path / "site")
    assert not (tmp_path / "site").exists()


sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: run make test")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with running_browser() as running:
        yield running


def opened(browser: Any, site: Path, **options: object) -> Any:
    """The page from disk with the network off; a script error or any other request fails the test."""
    page = browser.new_context(offline=True, **{"locale": "en-GB", **options}).new_page()
    page.on("pageerror", lambda error: pytest.fail(str(error)))
    page.on("console", lambda message: pytest.fail(message.text) if message.type == "error" else None)
    url = f"file://{site}/index.html"
    page.on("request", lambda request: None if request.url == url else pytest.fail(request.url))
    page.goto(url)
    page.wait_for_selector("body[data-state=ready]")
    return page


def cells(page: Any, name: str) -> list[list[str]]:
    """The body of a table, as it is shown."""
    script = "table => [...table.tBodies[0].rows].map(row => [...row.cells].map(cell => cell.textContent))"
    found: list[list[str]] = page.locator(f"table#{name}").evaluate(script)
    return found


def expected(rows: list[dict[str, str]], columns: list[str]) -> list[list[str]]:
    return [[row[column] or "–" for column in columns] for row in rows]


def test_the_numbers_of_the_page_are_those_of_the_csv_files(browser: Any, site: Path) -> None:
    page = opened(browser, site)
    shares = table(site / "shares.csv")
    columns = "week photos errors out_of_scope duplicates counted unsure positive raw corrected low high by_institution"
    for region in {row["region"] for row in shares}:
        page.select_option("#region", region)
        shown = [row[:-1] for row in cells(page, "shares")]
        assert shown == expected([row for row in shares if row["region"] == region], columns.split())
    moves = "photos counted positive state moved moved_from moved_to back back_from back_to"
    page.locator("#search").fill("")
    states = {"moved": "moved", "stayed": "did not move", "always": "from the first week", "unclear": "unclear"}
    rows = [{**row, "state": states[row["state"]]} for row in table(site / "institutions.csv")]
    assert cells(page, "list") == expected(rows, ["institution", "region_en", *moves.split()])
    speeds = "institutions moved returned first half most days_to_half days_to_most median_days"
    assert cells(page, "speeds") == expected(table(site / "regions.csv"), ["region_en", *speeds.split()])
    facts = dict(
        page.locator("#basis").evaluate(
            "dl => [...dl.querySelectorAll('dd')].map(d => [d.dataset.fact, d.textContent])"
        )
    )
    country = [row for row in shares if row["region"] == "CN"]
    assert int(facts["counted"]) == sum(int(row["counted"]) for row in country)
    assert int(facts["photos"]) == sum(int(row["photos"]) for row in country)
    counted, positive, outside = (
        sum(int(row[name]) for row in country) for name in ("counted", "positive", "out_of_scope")
    )
    assert outside
    bounds = [round(100 * some / (counted + outside), 1) for some in (positive, positive + outside)]
    assert re.fullmatch(r"[0-3] / [1-9]\d?", facts["outside_reviewed"])  # posters, and some calls that show a slide
    assert re.fullmatch(r"\d+ / \d+( \([a-z_, ]+\))?", facts["drift"])
    assert facts["scope_range"] == f"{bounds[0]} – {bounds[1]} %"


def test_the_map_follows_the_slider_and_a_tile_chooses_its_region(browser: Any, site: Path) -> None:
    page = opened(browser, site)
    assert page.locator("#map button").count() == 34
    shares = {(row["region"], row["week"]): row for row in table(site / "shares.csv")}
    last = page.locator("#shown").text_content().split()[0]
    page.locator("#week").focus()
    page.keyboard.press("Home")
    first = page.locator("#shown").text_content().split()[0]
    assert first < last
    values = page.locator("#map button").evaluate_all("all => all.map(tile => [tile.dataset.code, tile.dataset.value])")
    for code, value in values:
        row = shares.get((code, first))
        assert value == ((row["corrected"] or row["raw"]) if row and row["note"] != "too few" else "")
    page.locator("#map button[data-code=BJ]").press("Enter")
    assert page.locator("#region").input_value() == "BJ"
    assert page.locator("#map button[data-code=BJ]").get_attribute("aria-pressed") == "true"
    page.locator("#search").fill("beijing")
    assert {row[1] for row in cells(page, "list")} == {"Beijing"}


def test_the_page_speaks_chinese_and_prints_on_a4(browser: Any, site: Path, tmp_path: Path) -> None:
    page = opened(browser, site, locale="zh-CN", viewport={"width": 360, "height": 800})
    assert "线上授课" in page.title()
    assert page.locator("html").get_attribute("lang") == "zh-CN"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.locator("#language").click()
    assert "taught online" in page.title()
    assert "{" not in page.locator("body").inner_text()
    pdf = page.pdf(format="A4")
    assert pdf.startswith(b"%PDF")
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 12


@pytest.fixture(scope="module")
def printed(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The text of the pages of a printed report of 16 weeks, in which two of three institutions moved."""
    if not shutil.which("pdftotext"):
        pytest.skip("pdftotext is not installed")
    folder, count = tmp_path_factory.mktemp("printed"), 16 * 12
    moved = [number % 16 > 6 and number % 3 != 0 for number in range(count)]
    job = job_of(
        folder / "scores",
        count,
        published_at=[MONDAY + timedelta(weeks=number % 16) for number in range(count)],
        institution=[f"i{number % 3}" for number in range(count)],
        label=["call" if one else "room" for one in moved],
    )
    invoke(build, job.folder, "--out", folder / "site")
    opened(browser, folder / "site").pdf(path=str(folder / "a.pdf"), format="A4")
    words = ["pdftotext", "-layout", str(folder / "a.pdf"), "-"]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.split("\f")


def test_the_head_of_a_printed_table_is_on_the_page_of_its_first_rows(printed: list[str]) -> None:
    (page,) = [page for page in printed if "All regions" in page]
    assert "W10" in page.partition("All regions")[2]


def test_what_is_unknown_is_not_said_in_the_summary(printed: list[str]) -> None:
    assert "to half of the institutions: 0 days." in printed[0]
    assert "to most" not in printed[0]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_has_no_serious_accessibility_finding(browser: Any, site: Path, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = opened(browser, site, color_scheme=scheme, bypass_csp=True)
    findings = axe.Axe().run(page).response["violations"]
    serious = [(one["id"], one["nodes"][0]["html"]) for one in findings if one["impact"] in ("serious", "critical")]
    assert serious == []
