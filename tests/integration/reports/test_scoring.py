"""A job that is killed, loses its workers or meets bad photos: each photo is one row, and nothing else is left."""

import contextlib
import csv
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import Pipe
from pathlib import Path

import click
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests

from common.errors import InvalidInput, UserError
from deploy.settings import ROOT
from feedback.learning.client import FeedbackServer
from reports.build import build
from reports.counting.review import read_review
from reports.drift import drift
from reports.sample import sample
from reports.score import score
from reports.scoring import worker
from reports.scoring.archives import Model
from reports.scoring.job import Job, read_job, read_parts
from reports.scoring.worker import Task, give_back_memory
from reports.scoring.workers import Pool
from tests.helpers.commands import command
from tests.helpers.feedback import PASSWORD, running, site_in
from tests.helpers.reports import HEADER, PART, killed_when, rows, scored, table
from tests.helpers.s3 import free_port, put, s3_server
from tests.helpers.waiting import eventually


def test_each_photo_is_one_row_in_the_order_of_the_manifest(scores: Job, manifest: Path) -> None:
    found = rows(scores)
    assert [row["photo_id"] for row in found] == [f"p{number}" for number in range(39)]
    folders = {"disc", "stripe", "cross"}
    assert all(row["label"] == Path(row["source"]).parent.name for row in found[:36])
    assert {row["label"] for row in found[:36]} == folders
    assert [row["error_code"] for row in found[36:]] == ["corrupt_image", "empty_image", "file_not_found"]


def test_a_relative_folder_is_unpacked_where_workers_find_it(
    mar: Path, manifest: Path, scores: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [str(manifest), "--archive", str(mar), "--out", "scores/1", "--jobs", "1", "--part", str(PART)]
    score.main(words, standalone_mode=False)
    assert rows(read_job(tmp_path / "scores" / "1")) == rows(scores)


def test_arrow_allocates_with_malloc_because_its_own_allocator_asks_for_huge_pages() -> None:
    code = "import reports.score, pyarrow; print(pyarrow.default_memory_pool().backend_name)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True).stdout == b"system\n"


def test_freed_memory_is_given_back() -> None:
    """Every hundredth piece stays, so that the end of the heap is in use."""
    pieces = [bytes(600) for _ in range(200_000)]
    kept, pieces = pieces[::100], []
    before = allocated()
    give_back_memory()
    assert allocated() < before - 50_000
    assert len(kept) == 2000


def test_a_worker_gives_memory_back_every_256_photos(monkeypatch: pytest.MonkeyPatch) -> None:
    answered: list[Task] = []
    given_back_after: list[int] = []
    monkeypatch.setattr(worker, "give_back_memory", lambda: given_back_after.append(len(answered)))

    def classify(task: Task) -> worker.Result:
        answered.append(task)
        return {}

    ours, theirs = Pipe()
    thread = threading.Thread(target=worker.answer, args=(theirs, classify))
    thread.start()
    for _ in range(20):
        ours.send([Task(path="photo.jpg")] * 32)
        assert ours.recv() == [{}] * 32
    ours.close()
    thread.join(timeout=10)
    assert not thread.is_alive()
    assert given_back_after == [256, 512]


def test_a_worker_ends_without_a_traceback_when_nobody_waits_for_its_answer() -> None:
    ours, theirs = Pipe()

    def classify(_: Task) -> worker.Result:
        ours.close()
        return {}

    ours.send([Task(path="photo.jpg")])
    worker.answer(theirs, classify)
    assert ours.closed


def allocated() -> int:
    """Memory of this process without the files that it maps, in KB."""
    return int(Path("/proc/self/status").read_text().partition("RssAnon:")[2].split()[0])


def test_workers_have_one_heap(started: tuple[Model, Pool]) -> None:
    for process in started[1].pids():
        assert b"MALLOC_ARENA_MAX=1\0" in Path(f"/proc/{process}/environ").read_bytes()


def test_a_job_killed_at_every_step_ends_with_the_rows_of_an_undisturbed_one(
    manifest: Path, mar: Path, scores: Job, tmp_path: Path
) -> None:
    out, temporary = tmp_path / "s", tmp_path / "tmp"
    temporary.mkdir()
    steps: list[Callable[[], bool]] = [
        lambda: (tmp_path / ".s.archive").exists(),  # unpacking
        lambda: out.exists() or any(tmp_path.glob(".s.????????")),  # checking the manifest
        out.exists,  # starting the worker
        lambda: (out / "parts" / "00000.parquet").exists(),
        lambda: (out / "parts" / f"{scores.parts - 2:05d}.parquet").exists(),
    ]
    words = ["score", manifest, "--archive", mar, "--out", out, "--part", PART, "--jobs", 1]
    for reached in steps:
        killed_when(reached, [*map(str, words)], temporary)
    left = read_job(out)
    assert 0 < len(left.missing()) < left.parts
    with pytest.raises(InvalidInput, match=r"incomplete: \d part"):
        read_parts(left)
    done = command("reports", *words, env={"TMPDIR": str(temporary)})
    assert "39 photos in 5 parts" in done.stdout
    assert rows(left) == rows(scores)
    assert {path.name for path in tmp_path.iterdir()} == {"s", "tmp", ".s.lock"}
    assert not list((out / "parts").glob(".*"))
    assert {path.name for path in temporary.iterdir()} <= {".ses"}  # onnxruntime's, in every process


def test_a_dead_worker_costs_no_photo(started: tuple[Model, Pool], manifest: Path, scores: Job, tmp_path: Path) -> None:
    model, _ = started
    asked: list[Task] = []

    def fetch_and_kill(task: Task) -> Task:
        asked.append(task)
        if len(asked) in (1, 20):
            for process in pool.pids():
                os.kill(process, signal.SIGKILL)
        return task

    with Pool(model.folder, model.name, model.version, 1, fetch_and_kill) as pool:
        before = pool.pids()
        made = scored(manifest, tmp_path / "s", model, pool)
        assert pool.pids() != before
    assert rows(made) == rows(scores)


class Web(BaseHTTPRequestHandler):
    """A host of photos, and of what a scraper meets."""

    photo = b""

    def do_GET(self) -> None:
        if self.path == "/slow.jpg":
            time.sleep(2)
        if self.path in ("/private.jpg", "/name.jpg", "/file.jpg", "/loop.jpg"):
            target = {
                "/private.jpg": "http://169.254.169.254/x",
                "/name.jpg": f"http://localhost:{self.server.server_port}/ok.jpg",  # type: ignore[attr-defined]
                "/file.jpg": "file:///etc/passwd",
                "/loop.jpg": "/loop.jpg",
            }
            self.send_response(302)
            self.send_header("Location", target[self.path])
            self.end_headers()
            return
        assert self.path.isascii()
        body = b"\xff\xd8" + b"x" * (11 * 2**20) if self.path == "/large.jpg" else self.photo
        self.send_response(404 if self.path == "/gone.jpg" else 200)
        self.end_headers()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the client stops at its limit
            self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def photo(manifest: Path) -> bytes:
    return (manifest.parent / "disc" / "0.jpg").read_bytes()


@pytest.fixture
def web(photo: bytes) -> Iterator[str]:
    Web.photo = photo
    server = ThreadingHTTPServer(("127.0.0.1", 0), Web)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_bad_and_remote_photos_are_rows_with_a_code(
    web: str, photo: bytes, started: tuple[Model, Pool], tmp_path: Path
) -> None:
    files = {
        "good.jpg": photo, "empty.jpg": b"", "cut.jpg": photo[: len(photo) // 2], "anim.gif": b"GIF89a" + bytes(60),
        "json.jpg": b'[{"image_base64": "x"}, {"image_base64": "y"}]', "text.jpg": "不是照片".encode(),
        "big.jpg": photo + bytes(11 * 2**20),
    }  # fmt: skip
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    remote = ["ok", "slow", "private", "name", "file", "loop", "large", "gone"]
    lines = [f"{name},{name},,x,BJ,2022-03-14\n" for name in [*files, "absent.jpg"]]
    lines += [f"{name}-remote,,{web}/{name}.jpg,x,BJ,2022-03-14\n" for name in remote]
    lines += [f"named,,{web}/北 京/照片.jpg?a=一,x,BJ,2022-03-14\n"]
    lines += [f"meta,,http://localhost:{web.rpartition(':')[2]}/ok.jpg,x,BJ,2022-03-14\n"]
    (tmp_path / "m.csv").write_text(HEADER + "".join(lines), encoding="utf-8")
    found = {row["photo_id"]: row for row in rows(scored(tmp_path / "m.csv", tmp_path / "s", *started))}
    assert {name: row["error_code"] for name, row in found.items()} == {
        "good.jpg": "", "empty.jpg": "empty_image", "cut.jpg": "corrupt_image", "anim.gif": "unsupported_format",
        "json.jpg": "unsupported_format", "text.jpg": "unsupported_format", "big.jpg": "image_too_large",
        "absent.jpg": "file_not_found", "ok-remote": "", "slow-remote": "fetch_timeout",
        "private-remote": "fetch_blocked", "name-remote": "fetch_blocked", "file-remote": "fetch_blocked",
        "large-remote": "image_too_large", "loop-remote": "fetch_failed", "gone-remote": "http_404",
        "meta": "fetch_blocked", "named": "",
    }  # fmt: skip
    assert found["ok-remote"]["sha256"] == found["good.jpg"]["sha256"]
    assert found["ok-remote"]["p_disc"] == found["good.jpg"]["p_disc"]
    assert all(row["error"] and row["label"] is None for row in found.values() if row["error_code"])


def test_photos_in_object_storage_are_rows_too(
    photo: bytes, started: tuple[Model, Pool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with s3_server("posts") as env:
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        put(env, "posts", {"2022/照片.jpg": photo, "empty.jpg": b"", "large.jpg": photo + bytes(10 * 2**20)})
        names = {"ok": "posts/2022/照片.jpg", "empty": "posts/empty.jpg", "large": "posts/large.jpg"}
        names |= {"absent": "posts/absent.jpg", "bucket": "no-such-bucket/1.jpg"}
        lines = [f"{name},,s3://{place},x,BJ,2022-03-14\n" for name, place in names.items()]
        (tmp_path / "m.csv").write_text(HEADER + "".join(lines), encoding="utf-8")
        found = {row["photo_id"]: row for row in rows(scored(tmp_path / "m.csv", tmp_path / "s", *started))}
    assert {name: row["error_code"] for name, row in found.items()} == {
        "ok": "", "empty": "empty_image", "large": "image_too_large", "absent": "file_not_found",
        "bucket": "file_not_found",
    }  # fmt: skip
    assert found["ok"]["label"] == "disc"
    assert found["ok"]["sha256"] == hashlib.sha256(photo).hexdigest()


def test_explore_serves_the_rows_read_only_and_on_this_machine_only(scores: Job) -> None:
    address = f"http://127.0.0.1:{(port := free_port())}"
    words = [sys.executable, "-m", "reports", "explore", str(scores.folder), "--port", str(port)]
    with subprocess.Popen(words, cwd=ROOT, stdout=-3, stderr=-3) as running:
        try:
            eventually(lambda: answers(running, f"{address}/-/versions.json"))
            found = requests.get(f"{address}/scores/scores.json?_shape=array&_size=max", timeout=30).json()
            assert [row["photo_id"] for row in found] == [f"p{number}" for number in range(39)]
            grouped = "select label, count(*) as n from scores where label != '' group by label order by label"
            counts = requests.get(f"{address}/scores.json", {"sql": grouped, "_shape": "array"}, timeout=30).json()
            assert counts == [{"label": label, "n": 12} for label in ("cross", "disc", "stripe")]
            assert not requests.get(f"{address}/-/databases.json", timeout=30).json()[0]["is_mutable"]
            deleted = requests.get(f"{address}/scores.json", {"sql": "delete from scores"}, timeout=30)
            assert deleted.status_code == 400
            assert requests.get(f"{address}/scores.db", timeout=30).status_code == 403
            listening = psutil.Process(running.pid).net_connections()
            assert {one.laddr for one in listening if one.status == "LISTEN"} == {("127.0.0.1", port)}
        finally:
            running.kill()


def answers(running: "subprocess.Popen[bytes]", url: str) -> bool:
    assert running.poll() is None
    with contextlib.suppress(requests.ConnectionError):
        return requests.get(url, timeout=30).ok
    return False


def test_the_sample_is_reviewed_by_two_people_and_its_labels_come_back(scores: Job, tmp_path: Path) -> None:
    site = site_in(tmp_path / "feedback")
    site.classifier.labels = scores.labels  # type: ignore[attr-defined]
    (tmp_path / "token").write_text(site.people.add_token("reports", "reports"))
    people = [site.people.add(name, "reviewer", PASSWORD).id for name in ("ann", "ben")]
    review, words = tmp_path / "review", ["--count", "12", "--label", "disc", "--token-file", str(tmp_path / "token")]
    with running(site) as url:
        words = [str(scores.folder), "--out", str(review), "--feedback", url, *words]
        sample.main(words, standalone_mode=False)
        sent = json.loads((review / "sent.json").read_text())["photos"]
        drawn = {row["file"]: row for row in table(review / "sample.csv")}
        assert sent.keys() == drawn.keys()
        assert table(review / "photos" / "labels.tsv") == []
        for file, row in sent.items():
            for person in people:
                site.album.review(row["id"], person, f"label:{drawn[file]['label']}")
        sample.main(words, standalone_mode=False)
    assert json.loads((review / "sent.json").read_text())["photos"] == sent
    with (review / "photos" / "labels.tsv").open() as file:
        labels = {row["path"]: row["label"] for row in csv.DictReader(file, delimiter="\t")}
    assert labels == {name: row["label"] for name, row in drawn.items()}
    assert read_review(review, None, scores, "disc").unlabelled == 0


def test_a_token_without_the_scope_sends_no_sample(tmp_path: Path, photo: bytes) -> None:
    site = site_in(tmp_path)
    with running(site) as url:
        server = FeedbackServer(url, site.people.add_token("nightly", "nightly"))
        with pytest.raises(UserError, match="answers 403"):
            server.send_sample(photo, "1.jpg", "disc", 0.9, 0.5)
        server = FeedbackServer(url, site.people.add_token("reports", "reports"))
        for data, probability in ((photo, 0.0), (b"not a photo", 0.5)):
            with pytest.raises(UserError, match="answers 400"):
                server.send_sample(data, "1.jpg", "disc", 0.9, probability)


def test_parts_of_another_model_and_damaged_parts_are_refused(scores: Job, tmp_path: Path) -> None:
    mixed = read_job(shutil.copytree(scores.folder, tmp_path / "mixed"))
    part = pq.read_table(mixed.part_path(1))
    column = pa.array(["f" * 64] * len(part))
    place = part.schema.names.index("model_digest")
    pq.write_table(part.set_column(place, "model_digest", column), mixed.part_path(1))
    said = "00001.parquet was scored by the model ffffffffffff, and not by shapes 1.0"
    for program, words in (
        (build, ["--out", tmp_path / "site"]),
        (drift, []),
        (sample, ["--out", tmp_path / "review"]),
    ):
        with pytest.raises(click.ClickException, match=said):
            program.main([str(mixed.folder), *map(str, words)], standalone_mode=False)
    mixed.part_path(1).write_bytes(b"PAR1")
    with pytest.raises(InvalidInput, match="is damaged"):
        read_parts(mixed)
    assert not (tmp_path / "site").exists()
