"""A version replaces another on a real server: steps, refusals, undoing, several changes at once."""

import json
import os
import re
import signal
import threading
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests

from benchmarks.harness.versions import change_manifest, rewrite
from common.errors import UserError
from deploy.change.session import deployment
from deploy.host.locks import OwnerKind, deployment_lock
from deploy.host.processes import cmdline
from deploy.rollout import roll_out
from deploy.settings import read_settings
from deploy.store import copies, desired
from deploy.torchserve.management import drain
from tests.helpers.light import write_coloured_photos
from tests.helpers.nodes import (
    Node,
    begun,
    damage,
    in_handle,
    running_node,
    settle,
    suspended,
    wait_for_step,
)
from tests.helpers.running.idle import needs_idle_class
from tests.helpers.waiting import eventually

STEPS = ["check", "register", "goldens", "latency", "default", "drain", "keep"]
LABELS = b"self.spec.labels[int(photo.answer.probabilities.argmax())]"


@pytest.fixture(scope="module")
def node(light: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node that serves 1.1 and keeps 1.0."""
    with running_node(light, tmp_path_factory.mktemp("node")) as running:
        running.pack("1.0", "1.1")
        running.rollout("1.0", "--why", "the first")
        running.rollout("1.1")
        yield running


def test_a_rollout_serves_the_new_version_and_keeps_the_former(node: Node) -> None:
    assert node.answered_by() == "1.1"
    assert node.registered() == {"1.0": 1, "1.1": 1}
    assert node.manifest() == ["1.1", "1.0"]
    first, second = json.loads(node.deploy("history", "--json").stdout)[:2]
    assert (first["why"], first["previous"], second["previous"]) == ("the first", None, "1.0")
    assert [step["name"] for step in second["steps"]] == STEPS
    assert all(step["seconds"] >= 0 for step in second["steps"])
    assert (second["state"], second["who"]) == ("done", first["who"])
    table = node.deploy("history").stdout
    assert re.search(r"rollout +│ done \d.*\n.* shapes 1\.0 -> 1\.1 ", table)
    assert "reason: the first" in table


@needs_idle_class
def test_workers_start_in_idle_time_and_serve_at_the_usual_priority(node: Node) -> None:
    log = (node.var / "logs" / "model_log.log").read_text()
    assert len(re.findall(r"shapes 1\.\d ready .*, started in idle time", log)) == 2
    assert node.server.java
    started = node.server.java.children(recursive=True)
    assert [("model_service_worker.py" in " ".join(cmdline(process))) for process in started].count(True) == 2
    threads = [int(thread.name) for process in started for thread in Path(f"/proc/{process.pid}/task").iterdir()]
    assert {os.sched_getscheduler(thread) for thread in threads} == {os.SCHED_OTHER}


def test_status_shows_what_is_served(node: Node) -> None:
    status = json.loads(node.deploy("status", "--json").stdout)
    assert status["serving"] is True
    assert status["at_work"] is None
    rows = {row["version"]: row for row in status["versions"]}
    assert {version: rows[version]["role"] for version in ("1.0", "1.1")} == {"1.0": "kept", "1.1": "default"}
    assert rows["1.1"]["workers"] == rows["1.1"]["wanted"] == 1
    assert "shapes 1.1: default" in node.deploy("status").stdout


def cut(mar: Path) -> None:
    mar.write_bytes(mar.read_bytes()[:1000])


def added(mar: Path) -> None:
    with zipfile.ZipFile(mar, "a") as file:
        file.writestr("extra.py", "")


def of_another(mar: Path) -> None:
    change_manifest(mar, version="7.7")


def without_manifest(mar: Path) -> None:
    mar.with_suffix(".json").unlink()


def failed_gate(mar: Path) -> None:
    change_manifest(mar, gate={"passed": False})


def edited(mar: Path) -> None:
    rewrite(mar, {"goldens.json": lambda text: text + b" "}, manifest=False)


def edited_with_its_manifest(mar: Path) -> None:
    """Goldens of another model: the worker refuses to start."""
    rewrite(mar, {"goldens.json": lambda text: re.sub(rb"0\.9\d+", b"0.123", text, count=1)})


def answers_otherwise(mar: Path) -> None:
    """The graph is right, the answer is not: only a prediction shows it."""
    rewrite(mar, {"handler/service.py": lambda text: text.replace(LABELS, b"self.spec.labels[0]")})


def slow(mar: Path) -> None:
    rewrite(mar, in_handle("time.sleep(0.15)"))


REFUSALS: list[tuple[Callable[[Path], object], str]] = [
    (damage, r"damaged|was edited since it was packed"),
    (cut, r"is damaged \(File is not a zip file\): pack"),
    (added, r"extra\.py was added since it was packed"),
    (edited, r"goldens\.json was edited since it was packed"),
    (of_another, r"has the manifest of shapes 7\.7"),
    (without_manifest, r"\.json is missing or damaged: pack"),
    (failed_gate, r"failed its gate"),
    (edited_with_its_manifest, r"does not load: .*GoldenMismatch: goldens/"),
    (answers_otherwise, r"answers goldens/\S+ differently than when it was packed"),
    (slow, r"is too slow: .* x, at most 5\.0 x"),
]


@pytest.mark.parametrize(("spoil", "message"), REFUSALS, ids=[spoil.__name__ for spoil, _ in REFUSALS])
def test_a_refused_rollout_changes_nothing(node: Node, spoil: Callable[[Path], object], message: str) -> None:
    version = f"3.{[spoil for spoil, _ in REFUSALS].index(spoil)}"
    node.pack(version)
    spoil(node.store / f"shapes-{version}.mar")
    assert_refused(node, message, "rollout", f"shapes-{version}.mar")
    assert node.last().state == "refused"


def assert_refused(node: Node, message: str, *words: str, **env: str) -> None:
    before = node.registered(), (node.var / desired.FILE).read_bytes(), node.answered_by()
    done = node.deploy(*words, check=False, **env)
    assert done.returncode == 1
    assert re.fullmatch(rf"Error: .*(?:{message}).*\n", done.stderr), done.stderr
    assert (node.registered(), (node.var / desired.FILE).read_bytes(), node.answered_by()) == before


def test_a_version_that_exists_is_refused(node: Node) -> None:
    settle(node, "1.1", "1.0")
    assert_refused(node, "1.1 is registered already and is the default", "rollout", "shapes-1.1.mar")
    assert_refused(
        node, "make it the default with python -m deploy rollback shapes --to 1.0", "rollout", "shapes-1.0.mar"
    )


def test_too_little_memory_is_refused_before_a_worker_starts(node: Node) -> None:
    node.pack("4.0")
    assert_refused(
        node,
        "not enough memory for two versions: .* retire",
        "rollout",
        "shapes-4.0.mar",
        SERVE_MEMORY_RESERVE="9999999",
    )


def test_a_file_outside_the_store_is_refused(node: Node, tmp_path: Path) -> None:
    other = tmp_path / "shapes-5.0.mar"
    other.write_bytes(b"")
    assert_refused(node, "is not in the store: copy it", "rollout", str(other))
    assert_refused(node, "does not exist: .*packs a new one", "rollout", "shapes-5.5.mar")
    assert_refused(node, "is not an archive: give NAME-VERSION.mar", "rollout", "README.md")


def test_photos_compare_the_versions_before_anything_changes(node: Node, tmp_path: Path) -> None:
    photos = write_coloured_photos(tmp_path / "photos")
    node.pack("5.2")
    node.pack("5.3", edits={"recipe.json": turned})
    same = node.rollout("5.2", "--photos", photos, "--dry-run").stdout
    assert "0 regressions, 0 fixes, difference +0.0 points (95 %: -" in " ".join(same.split())
    worse = node.rollout("5.3", "--photos", photos, check=False)
    assert worse.returncode == 1
    assert re.search(r"shapes 5\.3 is less accurate than 1\.1: .* regressions, .* leave out --photos", worse.stderr)
    assert node.answered_by() == "1.1" and "5.3" not in node.registered()
    steps = json.loads(node.deploy("history", "--json").stdout)[-1]["steps"]
    assert [step["name"] for step in steps] == ["check", "compare"]


def turned(recipe: bytes) -> bytes:
    """A recipe whose labels are in another order, so that all answers are wrong."""
    content = json.loads(recipe)
    content["labels"] = [*content["labels"][1:], content["labels"][0]]
    return json.dumps(content).encode()


def test_a_dry_run_changes_nothing(node: Node) -> None:
    settle(node, "1.1", "1.0")
    node.pack("5.1")
    before = node.registered(), node.manifest(), node.last()
    done = node.rollout("5.1", "--dry-run")
    assert "1.1 -> 5.1" in done.stdout
    assert (node.registered(), node.manifest(), node.last()) == before
    assert node.rollout("1.1", "--dry-run", check=False).returncode == 1


def test_a_second_change_is_refused_and_the_message_names_the_first(node: Node) -> None:
    settle(node, "1.1", "1.0")
    node.pack("6.0", "6.1")
    with begun(node.env, "rollout", "shapes-6.0.mar") as first:
        wait_for_step(node.var, "register")
        with suspended(first):
            for words in (("rollout", "shapes-6.1.mar"), ("rollback",), ("retire", "shapes", "1.0")):
                done = node.deploy(*words, check=False)
                assert done.returncode == 1
                assert re.search(rf"rollout of shapes 6\.0 \(process {first.pid} of .* is running", done.stderr)
            answer = json.loads(node.deploy("status", "--json").stdout)["at_work"]
        assert (answer["pid"], answer["what"]) == (first.pid, "rollout of shapes 6.0")
        assert first.wait(timeout=60) == 0
    assert node.answered_by() == "6.0"
    assert node.manifest() == ["6.0", "1.1"]  # the recipe keeps one: 1.0 is retired
    assert node.registered() == {"6.0": 1, "1.1": 1}
    assert (node.store / "shapes-1.0.mar").is_file()


def test_rollback_never_returns_to_a_version_that_was_rolled_back_from(node: Node) -> None:
    settle(node, "6.0", "1.1")
    done = node.deploy("rollback", "--why", "6.0 is worse")
    assert "shapes 1.1 is the default again" in done.stdout
    assert node.answered_by() == "1.1"
    assert node.manifest() == ["1.1", "6.0"]
    assert node.last().why == "6.0 is worse"
    assert_refused(node, "no version left to roll back to; 6.0 was rolled back from: .* --to 6.0", "rollback", "shapes")
    assert_refused(node, "no version 1.0 for rollback .kept: 6.0.", "rollback", "--to", "1.0")
    assert_refused(
        node,
        "6.0 is registered already: make it the default with python -m deploy rollback",
        "rollout",
        "shapes-6.0.mar",
    )
    answer = json.loads(node.deploy("rollback", "shapes", "--to", "6.0", "--json").stdout)
    assert (answer["version"], answer["previous"], answer["state"]) == ("6.0", "1.1", "done")
    assert [step["name"] for step in answer["steps"]] == ["prove", "default"]
    assert node.answered_by() == "6.0"
    node.deploy("rollback")
    assert node.answered_by() == "1.1"


def test_rollback_waits_for_the_keeper_and_needs_no_archive_in_the_store(node: Node) -> None:
    settle(node, "1.1", "6.0")
    (node.store / "shapes-6.0.mar").write_bytes(b"damaged")
    (node.store / "shapes-1.1.mar").unlink()
    with ExitStack() as repair:
        repair.enter_context(deployment_lock(node.var).hold(OwnerKind.REPAIR))
        said, writing = os.pipe()
        with begun(node.env, "rollback", "--to", "6.0", stderr=writing) as process, os.fdopen(said) as stderr:
            os.close(writing)
            assert stderr.readline().startswith("waiting for the keeper's repair")
            assert (process.poll(), node.answered_by()) == (None, "1.1")
            repair.close()
            assert process.wait(timeout=60) == 0
    assert node.answered_by() == "6.0"
    node.deploy("rollback")
    assert node.answered_by() == "1.1"
    for version in ("1.1", "6.0"):
        assert copies.put_back(node.var, f"shapes-{version}.mar", node.store)


@pytest.mark.parametrize("words", [("rollout", "shapes-6.1.mar"), ("rollback", "--to", "6.0")])
def test_no_change_begins_during_make_down(node: Node, words: tuple[str, ...]) -> None:
    with deployment_lock(node.var).hold(OwnerKind.DOWN):
        assert_refused(node, r"make down \(process \d+ of .*\) is running: run this again when it is over", *words)


def test_rollback_refuses_a_version_without_workers(node: Node) -> None:
    settle(node, "1.1", "6.0")
    node.client.scale("shapes", "6.0", 0)
    assert_refused(node, "6.0 has no ready worker, and nothing was changed", "rollback", "--to", "6.0")
    node.client.scale("shapes", "6.0", 1)


def test_retire_unregisters_a_kept_version_and_refuses_the_default(node: Node) -> None:
    settle(node, "1.1", "6.0")
    assert_refused(node, "shapes 1.1 is the default: roll out another version first", "retire", "shapes", "1.1")
    assert_refused(node, "shapes 9.9 is not served .served: 1.1, 6.0.", "retire", "shapes", "9.9")
    answer = json.loads(node.deploy("retire", "shapes", "6.0", "--json").stdout)
    assert (answer["action"], answer["version"], answer["state"]) == ("retire", "6.0", "done")
    assert node.registered() == {"1.1": 1}
    assert node.manifest() == ["1.1"]
    assert (node.store / "shapes-6.0.mar").is_file()
    assert {path.stem for path in (node.var / copies.FOLDER).iterdir()} == {"shapes-1.1"}
    log = (node.var / "logs" / "access_log.log").read_text()
    changes = re.findall(r"(PUT|DELETE) /models/shapes/6\.0(\?min_worker=0)?", log)
    assert changes[-2:] == [("PUT", "?min_worker=0"), ("DELETE", "")], "its worker ends before it is unregistered"


def test_a_full_disk_at_the_switch_leaves_the_former_version(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    settle(node, "1.1")
    node.pack("6.2")
    before = node.registered(), node.manifest()

    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device", str(node.var / desired.FILE))

    monkeypatch.setattr("deploy.store.desired.write", no_room)
    with pytest.raises(UserError, match=r"served\.json cannot be written: No space left"):
        roll_out(node.settings, Path("shapes-6.2.mar"))
    monkeypatch.undo()
    assert (node.registered(), node.manifest(), node.answered_by()) == (*before, "1.1")
    node.rollout("6.2")
    assert node.answered_by() == "6.2"
    node.deploy("rollback")
    node.deploy("retire", "shapes", "6.2")


def test_ctrl_c_before_the_switch_undoes(node: Node) -> None:
    settle(node, "1.1")
    node.pack("6.3")
    before = node.registered(), node.manifest()
    with begun(node.env, "rollout", "shapes-6.3.mar") as process:
        wait_for_step(node.var, "goldens")
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 1
    assert (node.registered(), node.manifest(), node.answered_by()) == (*before, "1.1")


def queued(node: Node, version: str) -> int:
    status = (node.client.describe("shapes", version) or {}).get("jobQueueStatus", {})
    return int(status.get("pendingRequests", 0))


def test_draining_waits_for_queued_and_running_requests(node: Node) -> None:
    """Five requests in batches of two that take half a second: some are queued; all are answered when it returns."""
    busy = "end = time.perf_counter() + 0.5\n        while time.perf_counter() < end: pass"
    node.pack("7.0", edits=in_handle(busy))
    node.client.register("shapes-7.0.mar", "shapes")
    with ThreadPoolExecutor(5) as pool:
        waiting = [pool.submit(node.predict, "7.0", image_id=str(number)) for number in range(5)]
        eventually(lambda: queued(node, "7.0"))
        assert not any(future.done() for future in waiting)
        assert not drain(node.client, "shapes", "7.0", 0.1)
        assert drain(node.client, "shapes", "7.0", 30)
        assert all(future.done() and future.result().ok for future in waiting)
    assert_refused(node, "remove it with python -m deploy retire shapes 7.0", "rollout", "shapes-7.0.mar")
    node.deploy("retire", "shapes", "7.0")


def test_a_rollout_loses_no_request_of_the_former_version(node: Node) -> None:
    """The former version takes half a second per request, so that some are queued when it is replaced."""
    node.pack("7.1", edits=in_handle("time.sleep(0.5 * ('slow' in str(data[0])[:200]))"))
    node.pack("7.2")
    node.rollout("7.1", "--keep", "0")
    over = threading.Event()

    def ask() -> list[requests.Response]:
        answers = [node.predict(image_id="slow")]
        while not over.is_set():
            answers.append(node.predict(image_id="slow"))
        return answers

    with ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(ask) for _ in range(4)]
        try:
            node.rollout("7.2", "--keep", "0")
        finally:
            over.set()
    answers = [answer for client in clients for answer in client.result()]
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["model_version"] for answer in answers} == {"7.1", "7.2"}
    assert node.registered() == {"7.2": 1}


def test_the_replacement_of_a_dead_default_is_kept_and_the_dead_one_is_not(node: Node) -> None:
    """The keeper replaces a default that it cannot restore; then a person rolls out another version."""
    settle(node, "7.2")
    node.pack("8.0", "8.1")
    kill_after_the_switch(node, "8.0")
    dead(node, "8.0")
    assert_refused(node, "answers 503 to goldens", "rollout", "shapes-8.0.mar")  # the same command again
    assert (node.answered_by(), node.last().state) == ("7.2", "failed")
    assert_refused(node, "8.0 is the default: roll out another version first", "retire", "shapes", "8.0")
    node.rollout("8.1")
    assert node.manifest() == ["8.1", "7.2"]
    assert node.registered() == {"8.1": 1, "7.2": 1}


def test_a_lost_manifest_is_written_again_by_a_rollout_of_what_serves(node: Node) -> None:
    settle(node, "8.1", "7.2")
    before = node.registered()
    (node.var / desired.FILE).write_text("{")
    assert_refused(node, r"served\.json is damaged: remove it", "rollout", "shapes-8.1.mar")
    (node.var / desired.FILE).unlink()
    node.rollout("8.1")
    assert (node.manifest()[0], node.registered(), node.answered_by()) == ("8.1", before, "8.1")


def test_a_killed_rollout_that_is_then_refused_leaves_nothing(node: Node) -> None:
    node.pack("8.2")
    with begun(node.env, "rollout", "shapes-8.2.mar"):
        wait_for_step(node.var, "goldens")  # and is killed with the block
    manifest = node.store / "shapes-8.2.json"
    manifest.rename(node.store / "away")
    assert node.rollout("8.2", check=False).returncode == 1
    assert "8.2" not in node.registered()
    (node.store / "away").rename(manifest)
    node.rollout("8.2")
    assert node.answered_by() == "8.2"


def test_an_archive_that_vanished_is_restored_when_its_version_is_retired(node: Node) -> None:
    settle(node, "8.2", "8.1")
    kept = node.manifest()[1]
    (node.store / f"shapes-{kept}.mar").unlink()
    done = node.deploy("retire", "shapes", kept, check=False)
    assert "vanished from the store when its version was retired: it was restored from its copy" in done.stderr
    assert (node.store / f"shapes-{kept}.mar").is_file()
    assert kept not in node.registered()


def kill_after_the_switch(node: Node, version: str) -> None:
    with begun(node.env, "rollout", f"shapes-{version}.mar"):
        wait_for_step(node.var, "drain")


def dead(node: Node, version: str) -> None:
    """The state in which the keeper leaves a default that it cannot restore: the kept version is the default."""
    node.client.set_default("shapes", node.manifest()[1])
    node.client.scale("shapes", version, 0)


def test_without_a_server_nothing_is_written(tmp_path: Path) -> None:
    settings = read_settings({"SERVE_VAR": str(tmp_path / "var"), "SERVE_INFERENCE_PORT": "1"})
    with pytest.raises(UserError, match="is the server running"), deployment(settings, "rollout", "a", "1"):
        pass
    assert not (tmp_path / "var" / "history").exists()
