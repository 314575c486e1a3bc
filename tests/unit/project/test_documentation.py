"""README.md and docs/: the site builds, links lead somewhere, and messages that the pages quote exist in the source."""

import functools
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.settings import ROOT
from tests.unit.project import PACKAGES

ZENSICAL = Path(sys.executable).with_name("zensical")
README = ROOT / "README.md"
PAGES = [
    README,
    ROOT / "CONTRIBUTING.md",
    ROOT / "models" / "classroom" / "MODEL_CARD.md",
    *sorted((ROOT / "docs").glob("*.md")),
]


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    words = [str(ZENSICAL), "build", "--strict", "--clean"]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "docs", folder / "docs")
    shutil.copy(ROOT / "zensical.toml", folder)
    return folder


@pytest.mark.slow
def test_the_site_builds_without_warnings(site: Path) -> None:
    done = build(site)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {page.with_suffix(".html").name for page in (site / "docs").glob("*.md")} <= {
        page.name for page in (site / "site").glob("*.html")
    }


BROKEN = ("[x](absent.md)", "[x](api.md#absent)", "[x][absent]")


@pytest.mark.slow
def test_broken_links_fail_the_build(site: Path) -> None:
    page = site / "docs" / "glossary.md"
    before = page.read_text(encoding="utf-8")
    page.write_text("\n\n".join([before, *BROKEN, ""]), encoding="utf-8")
    try:
        done = build(site)
    finally:
        page.write_text(before, encoding="utf-8")
    assert done.returncode != 0
    assert f"{len(BROKEN)} issues found" in done.stdout + done.stderr


def without_code(page: Path) -> str:
    return re.sub(r"^```.*?^```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub and the site give to a page's headings."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(page)):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{page.name}: {link}"
        assert page.parent != ROOT / "docs" or target.is_relative_to(page.parent), f"{link} is not part of the site"
        assert not anchor or anchor in anchors(target), f"{page.name}: {link}"


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "index.md" or f"({page.name})" in index, page.name


def test_the_recording_is_small_and_shows_a_rollout_under_load() -> None:
    """Made by `python -m scripts.record_terminal`."""
    picture = ROOT / "docs" / "images" / "terminal.svg"
    assert picture.stat().st_size < 60_000
    text = re.sub(r"<[^>]+>|&#160;", " ", picture.read_text(encoding="utf-8"))
    assert "make serve" in text
    assert "rollout" in text


def test_the_readme_is_short() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 160
    assert len(text.encode()) <= 10_000
    prose = [line for line in without_code(README).splitlines() if not line.startswith("|")]
    assert [line for line in prose if len(line) > 120] == []


def quoted_messages() -> list[str]:
    table = (
        (ROOT / "docs" / "operate.md")
        .read_text(encoding="utf-8")
        .partition("## Troubleshooting")[2]
        .partition("### ")[0]
    )
    return re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)


@pytest.mark.parametrize("message", quoted_messages())
def test_every_message_of_the_troubleshooting_table_is_in_the_source(message: str) -> None:
    """`...` stands for a variable part of a message; the parts between must be in one source file."""
    parts = [part.strip() for part in message.split("...") if part.strip()]
    assert parts, message
    assert any(all(part in text for part in parts) for text in sources()), message


@functools.cache
def sources() -> list[str]:
    """The source files, with adjacent string literals on two lines joined."""
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    return [re.sub(r"\"\s*\n\s*f?\"", "", path.read_text(encoding="utf-8")) for path in paths]


def test_the_table_of_messages_was_found() -> None:
    assert len(quoted_messages()) > 10


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_source_file_that_a_page_names_exists(page: Path) -> None:
    if page.name == "log.md":
        return  # it uses the names that files had at that time
    tops = "|".join((*PACKAGES, "tests", "scripts", "docs", "models", "requirements"))
    for name in re.findall(rf"`((?:{tops})/[\w./-]+)`", page.read_text(encoding="utf-8")):
        assert "NAME" in name or (ROOT / name).exists(), f"{page.name}: {name}"
