"""A sample in the review of feedback: each label comes back to its own photo, and none that was there is lost."""

import hashlib
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import click
import pytest

from common.errors import InvalidInput, UserError
from dataset.tables import read_rows
from feedback.learning.client import FeedbackServer, read_token
from feedback.web.site import Site
from reports.sample import sample
from reports.scoring.job import Job
from tests.helpers.feedback import PASSWORD, running, site_in
from tests.helpers.reports import LABELS, invoke, job_of
from tests.helpers.s3 import free_port


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return job_of(tmp_path / "scores")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = new_site(tmp_path / "site")
    yield site
    site.database.close()


def new_site(folder: Path) -> Site:
    site = site_in(folder)
    site.classifier.labels = LABELS  # type: ignore[attr-defined]
    return site


class Reviewing:
    """A sample that is sent to a site."""

    def __init__(self, job: Job, folder: Path) -> None:
        self.job, self.folder = job, folder
        self.out, self.token, self.labels = folder / "review", folder / "token", folder / "review/photos/labels.tsv"

    def send(self, site: Site, url: str, *more: object) -> None:
        self.token.write_text(site.people.add_token("reports", "reports"))
        words = ["--out", self.out, "--feedback", url, "--token-file", self.token]
        invoke(sample, self.job.folder, *words, *more)

    def sent(self) -> dict[str, int]:
        content = json.loads((self.out / "sent.json").read_text())
        return {name: row["id"] for name, row in content["photos"].items()}

    def decided(self) -> dict[str, str]:
        return {row["path"]: row["label"] for row in read_rows(self.labels) if row["label"]}


@pytest.fixture
def review(job: Job, tmp_path: Path) -> Reviewing:
    return Reviewing(job, tmp_path)


def agree(site: Site, number: int, label: str) -> None:
    """Two people give a photo a label."""
    for name in ("ann", "ben"):
        known = {person.name: person.id for person in site.people.listed()}
        account = known.get(name) or site.people.add(name, "reviewer", PASSWORD).id
        site.album.review(number, account, f"label:{label}")


def test_a_sample_of_one_site_takes_no_labels_of_another(review: Reviewing, site: Site, tmp_path: Path) -> None:
    other = new_site(tmp_path / "other")
    with running(site) as url, running(other) as there:
        review.send(site, url)
        with pytest.raises(click.ClickException, match=f"was sent to {url}: give --feedback {url}, or remove"):
            review.send(other, there)


def test_an_id_that_the_site_gave_to_another_photo_brings_no_label(
    review: Reviewing, site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(site) as url:
        review.send(site, url)
        content = json.loads((review.out / "sent.json").read_text())
        first, second, *_ = content["photos"].values()
        first["sha256"] = hashlib.sha256(b"forgotten").hexdigest()  # as if its id were reused
        (review.out / "sent.json").write_text(json.dumps(content))
        for row in (first, second):
            agree(site, row["id"], "call")
        review.send(site, url)
    assert list(review.decided()) == [list(content["photos"])[1]]
    assert "the site no longer has 1 photo of the sample" in capsys.readouterr().err


def test_labels_that_somebody_wrote_are_kept(review: Reviewing, site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    with running(site) as url:
        review.send(site, url)
        ids = review.sent()
        own, both, theirs, aside, *_ = ids
        lines = [f"{own}\tcall\t\tann", f"{both}\troom\t\tann", f"{theirs}\t\t\t", f"{aside}\t\tprivate\tann"]
        review.labels.write_text("\n".join(["path\tlabel\tset_aside\tlabelled_by", *lines, ""]))
        for file in (both, theirs, aside):
            agree(site, ids[file], "call")
        review.send(site, url)
    assert review.decided() == {own: "call", both: "room", theirs: "call"}
    assert [row["set_aside"] for row in read_rows(review.labels)] == ["", "", "", "private"]
    assert {row["labelled_by"] for row in read_rows(review.labels)} == {"ann", ""}
    assert f"kept the decision on 2 photos in {review.labels}, for example" in capsys.readouterr().err


def test_a_photo_that_is_missing_from_the_sample_is_one_line(review: Reviewing, site: Site) -> None:
    with running(site) as url:
        invoke(sample, review.job.folder, "--out", review.out)
        next((review.out / "photos").iterdir()).unlink()
        with pytest.raises(click.ClickException, match=r"cannot be read: No such file or directory: put it back, or"):
            review.send(site, url)


def test_a_file_of_an_earlier_version_is_refused_with_the_fix(review: Reviewing, site: Site) -> None:
    with running(site) as url:
        review.send(site, url)
        ids = review.sent()
        (review.out / "sent.json").write_text(json.dumps(ids))
        with pytest.raises(click.ClickException, match=r"or an earlier version wrote it .*: remove it, and run the"):
            review.send(site, url)
        (review.out / "sent.json").unlink()
        review.send(site, url)
    assert review.sent() == ids


def test_other_options_than_the_sample_was_drawn_with_are_refused(review: Reviewing, site: Site) -> None:
    with running(site) as url:
        review.send(site, url, "--count", 10)
        review.send(site, url, "--count", 10)
        review.send(site, url)
        for name, value, former in (("count", 20, 10), ("seed", 1, 0)):
            with pytest.raises(click.ClickException, match=f"drawn with --{name} {former}, not {value}: leave out"):
                review.send(site, url, f"--{name}", value)


@pytest.mark.parametrize(
    "content", [b"", b"\xff\x00\xfe", "密".encode() * 40, b"first-secret-first-secret\nsecond-secret-second-secret\n"]
)
def test_a_file_without_a_token_is_refused_and_not_shown(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(InvalidInput, match="does not hold one token and nothing else: make one with") as caught:
        read_token(tmp_path / "token")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["127.0.0.1:5000", "localhost", "http://", "http://h:x", "http://h:99999", "ftp://h"])
def test_an_address_without_a_scheme_or_host_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match=r"is not an address: write http://HOST:PORT or https://HOST"):
        FeedbackServer(url, "token")


class Page(BaseHTTPRequestHandler):
    """Another program: it answers everything with a page, or sends the browser elsewhere."""

    status = 200

    def do_POST(self) -> None:
        body = b"<html>welcome</html>"
        self.send_response(self.status)
        self.send_header("Location", "/login")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST

    def log_message(self, *_: object) -> None: ...


@pytest.mark.parametrize("status", [200, 302, 400, 404])
def test_the_answer_of_another_program_is_one_line(
    status: int, review: Reviewing, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Page, "status", status)
    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        with pytest.raises(click.ClickException, match=f"^{url}/samples answers {status}: correct the address: these"):
            review.send(site, url)
        with pytest.raises(InvalidInput, match="correct the address: these are not the pages of feedback"):
            list(FeedbackServer(url, "token").agreed())
        server.shutdown()
    assert not review.out.exists()


def test_nothing_is_drawn_if_the_site_does_not_answer_or_refuses_the_token(review: Reviewing, site: Site) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(click.ClickException, match=f"^{url} does not answer: Connection refused: start the pages"):
        review.send(site, url)
    with running(site) as url:
        for scope, status in (("nightly", 403), ("", 401)):
            token = site.people.add_token("x", scope) if scope else "x" * 43
            with pytest.raises(UserError, match=f"answers {status}: .*feedback user token NAME --scope"):
                FeedbackServer(url, token).require_reports()
        review.token.write_text("x" * 43)
        words = ["--out", review.out, "--feedback", url, "--token-file", review.token]
        with pytest.raises(click.ClickException, match="answers 401"):
            invoke(sample, review.job.folder, *words)
    assert not review.out.exists()
