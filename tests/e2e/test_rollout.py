"""A version replaces another on a real server: steps, refusals, undoing, several changes at once."""

import json
import re
import signal
import subprocess
import threading
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests

from common.errors import UserError
from deploy.change.session import deployment
from deploy.host.locks import OwnerKind, deployment_lock
from deploy.rollout import roll_out
from deploy.settings import read_settings
from deploy.store import copies, desired
from deploy.torchserve.management import drain
from tests.helpers.nodes import Node, begun, change_manifest, in_handle, node, rewrite, wait_for_step
from tests.helpers.waiting import eventually

STEPS = ["check", "register", "goldens", "latency", "default", "drain", "keep"]
LABELS = b"self.spec.labels[int(photo.probabilities.argmax())]"


@pytest.fixture(scope="module")
def here(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node that serves 1.1 and keeps 1.0."""
    with node(bundle, tmp_path_factory.mktemp("node")) as running:
        running.pack("1.0", "1.1")
        running.rollout("1.0", "--why", "the first")
        running.rollout("1.1")
        yield running


def test_a_rollout_serves_the_new_version_and_keeps_the_former(here: Node) -> None:
    assert here.answered_by() == "1.1"
    assert here.registered() == {"1.0": 1, "1.1": 1}
    assert here.manifest() == ["1.1", "1.0"]
    first, second = json.loads(here.deploy("history", "--json").stdout)[:2]
    assert (first["why"], first["previous"], second["previous"]) == ("the first", None, "1.0")
    assert [step["name"] for step in second["steps"]] == STEPS
    assert all(step["seconds"] >= 0 for step in second["steps"])
    assert (second["state"], second["who"]) == ("done", first["who"])
    table = here.deploy("history").stdout
    assert re.search(r"rollout +│ done \d.*\n.* shapes 1\.0 -> 1\.1 ", table)
    assert "reason: the first" in table


def test_status_shows_what_is_served(here: Node) -> None:
    node = json.loads(here.deploy("status", "--json").stdout)
    assert node["serving"] is True
    assert node["at_work"] is None
    rows = {row["version"]: row for row in node["versions"]}
    assert {version: rows[version]["role"] for version in ("1.0", "1.1")} == {"1.0": "kept", "1.1": "default"}
    assert rows["1.1"]["workers"] == rows["1.1"]["wanted"] == 1
    assert "shapes 1.1: default" in here.deploy("status").stdout


def damaged(mar: Path) -> None:
    data = bytearray(mar.read_bytes())
    data[len(data) // 2] ^= 0xFF
    mar.write_bytes(data)


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
    rewrite(mar, in_handle("time.sleep(0.1)"))


REFUSALS: list[tuple[Callable[[Path], None], str]] = [
    (damaged, r"damaged|was edited since it was packed"),
    (cut, r"is damaged \(File is not a zip file\): pack"),
    (added, r"extra\.py was added since it was packed"),
    (edited, r"goldens\.json was edited since it was packed"),
    (of_another, r"has the manifest of shapes 7\.7"),
    (without_manifest, r"\.json is missing or damaged: pack"),
    (failed_gate, r"failed its gate"),
    (edited_with_its_manifest, r"does not load: .*GoldenMismatch: goldens/"),
    (answers_otherwise, r"answers goldens/\S+ differently than when it was packed"),
    (slow, r"is too slow: .* x, at most 1\.5 x"),
]


@pytest.mark.parametrize(("spoil", "message"), REFUSALS, ids=[spoil.__name__ for spoil, _ in REFUSALS])
def test_a_refused_rollout_changes_nothing(here: Node, spoil: Callable[[Path], None], message: str) -> None:
    version = f"3.{[spoil for spoil, _ in REFUSALS].index(spoil)}"
    here.pack(version)
    spoil(here.store / f"shapes-{version}.mar")
    assert_refused(here, message, "rollout", f"shapes-{version}.mar")
    assert here.last().state == "refused"


def assert_refused(here: Node, message: str, *words: str, **env: str) -> None:
    before = here.registered(), (here.var / desired.FILE).read_bytes(), here.answered_by()
    done = here.deploy(*words, check=False, **env)
    assert done.returncode == 1
    assert re.fullmatch(rf"Error: .*(?:{message}).*\n", done.stderr), done.stderr
    assert (here.registered(), (here.var / desired.FILE).read_bytes(), here.answered_by()) == before


def test_a_version_that_exists_is_refused(here: Node) -> None:
    assert_refused(here, "1.1 is registered already and is the default", "rollout", "shapes-1.1.mar")
    assert_refused(
        here, "make it the default with python -m deploy rollback shapes --to 1.0", "rollout", "shapes-1.0.mar"
    )


def test_too_little_memory_is_refused_before_a_worker_starts(here: Node) -> None:
    here.pack("4.0")
    assert_refused(
        here,
        "not enough memory for two versions: .* retire",
        "rollout",
        "shapes-4.0.mar",
        SERVE_MEMORY_RESERVE="9999999",
    )


def test_a_file_outside_the_store_is_refused(here: Node, tmp_path: Path) -> None:
    other = tmp_path / "shapes-5.0.mar"
    other.write_bytes(b"")
    assert_refused(here, "is not in the store: copy it", "rollout", str(other))
    assert_refused(here, "is missing: pack it", "rollout", "shapes-5.5.mar")
    assert_refused(here, "is not an archive: give NAME-VERSION.mar", "rollout", "README.md")


def test_a_dry_run_changes_nothing(here: Node) -> None:
    here.pack("5.1")
    before = here.registered(), here.manifest(), here.last()
    done = here.rollout("5.1", "--dry-run")
    assert "1.1 -> 5.1" in done.stdout
    assert (here.registered(), here.manifest(), here.last()) == before
    assert here.rollout("1.1", "--dry-run", check=False).returncode == 1


def test_a_second_change_is_refused_and_the_message_names_the_first(here: Node) -> None:
    here.pack("6.0", "6.1")
    with begun(here.env, "rollout", "shapes-6.0.mar") as first:
        wait_for_step(here.var, "register")
        for words in (("rollout", "shapes-6.1.mar"), ("rollback",), ("retire", "shapes", "1.0")):
            done = here.deploy(*words, check=False)
            assert done.returncode == 1
            assert re.search(rf"rollout of shapes 6\.0 \(process {first.pid} of .* is running", done.stderr)
        answer = json.loads(here.deploy("status", "--json").stdout)["at_work"]
        assert (answer["pid"], answer["what"]) == (first.pid, "rollout of shapes 6.0")
        assert first.wait(timeout=60) == 0
    assert here.answered_by() == "6.0"
    assert here.manifest() == ["6.0", "1.1"]  # the recipe keeps one: 1.0 is retired
    assert here.registered() == {"6.0": 1, "1.1": 1}
    assert (here.store / "shapes-1.0.mar").is_file()


def test_rollback_never_returns_to_a_version_that_was_rolled_back_from(here: Node) -> None:
    assert (here.answered_by(), here.manifest()) == ("6.0", ["6.0", "1.1"])
    done = here.deploy("rollback", "--why", "6.0 is worse")
    assert "shapes 1.1 is the default again" in done.stdout
    assert here.answered_by() == "1.1"
    assert here.manifest() == ["1.1", "6.0"]
    assert here.last().why == "6.0 is worse"
    assert_refused(here, "no version left to roll back to; 6.0 was rolled back from: .* --to 6.0", "rollback", "shapes")
    assert_refused(here, "no version 1.0 for rollback .kept: 6.0.", "rollback", "--to", "1.0")
    assert_refused(
        here,
        "6.0 is registered already: make it the default with python -m deploy rollback",
        "rollout",
        "shapes-6.0.mar",
    )
    answer = json.loads(here.deploy("rollback", "shapes", "--to", "6.0", "--json").stdout)
    assert (answer["version"], answer["previous"], answer["state"]) == ("6.0", "1.1", "done")
    assert [step["name"] for step in answer["steps"]] == ["prove", "default"]
    assert here.answered_by() == "6.0"
    here.deploy("rollback")
    assert here.answered_by() == "1.1"


def test_rollback_waits_for_the_keeper_and_needs_no_archive_in_the_store(here: Node) -> None:
    (here.store / "shapes-6.0.mar").write_bytes(b"damaged")
    (here.store / "shapes-1.1.mar").unlink()
    with ExitStack() as repair:
        repair.enter_context(deployment_lock(here.var).hold(OwnerKind.REPAIR))
        with begun(here.env, "rollback", "--to", "6.0", stderr=subprocess.PIPE) as process:
            assert process.stderr is not None
            assert process.stderr.readline().startswith(b"waiting for the keeper's repair")
            assert (process.poll(), here.answered_by()) == (None, "1.1")
            repair.close()
            assert process.wait(timeout=60) == 0
    assert here.answered_by() == "6.0"
    here.deploy("rollback")
    assert here.answered_by() == "1.1"
    for version in ("1.1", "6.0"):
        assert copies.put_back(here.var, f"shapes-{version}.mar", here.store)


@pytest.mark.parametrize("words", [("rollout", "shapes-6.1.mar"), ("rollback", "--to", "6.0")])
def test_no_change_begins_during_make_down(here: Node, words: tuple[str, ...]) -> None:
    with deployment_lock(here.var).hold(OwnerKind.DOWN):
        assert_refused(here, r"make down \(process \d+ of .*\) is running: run this again when it is over", *words)


def test_rollback_refuses_a_version_without_workers(here: Node) -> None:
    here.client.scale("shapes", "6.0", 0)
    assert_refused(here, "6.0 has no ready worker, and nothing was changed", "rollback", "--to", "6.0")
    here.client.scale("shapes", "6.0", 1)


def test_retire_unregisters_a_kept_version_and_refuses_the_default(here: Node) -> None:
    assert_refused(here, "shapes 1.1 is the default: roll out another version first", "retire", "shapes", "1.1")
    assert_refused(here, "shapes 9.9 is not served .served: 1.1, 6.0.", "retire", "shapes", "9.9")
    answer = json.loads(here.deploy("retire", "shapes", "6.0", "--json").stdout)
    assert (answer["action"], answer["version"], answer["state"]) == ("retire", "6.0", "done")
    assert here.registered() == {"1.1": 1}
    assert here.manifest() == ["1.1"]
    assert (here.store / "shapes-6.0.mar").is_file()
    assert {path.stem for path in (here.var / copies.FOLDER).iterdir()} == {"shapes-1.1"}


def test_a_full_disk_at_the_switch_leaves_the_former_version(here: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    here.pack("6.2")
    before = here.registered(), here.manifest()

    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device", str(here.var / desired.FILE))

    monkeypatch.setattr("deploy.store.desired.write", no_room)
    with pytest.raises(UserError, match=r"served\.json cannot be written: No space left"):
        roll_out(here.settings, Path("shapes-6.2.mar"))
    monkeypatch.undo()
    assert (here.registered(), here.manifest(), here.answered_by()) == (*before, "1.1")
    here.rollout("6.2")
    assert here.answered_by() == "6.2"
    here.deploy("rollback")
    here.deploy("retire", "shapes", "6.2")


def test_ctrl_c_before_the_switch_undoes(here: Node) -> None:
    here.pack("6.3")
    before = here.registered(), here.manifest()
    with begun(here.env, "rollout", "shapes-6.3.mar") as process:
        wait_for_step(here.var, "goldens")
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 1
    assert (here.registered(), here.manifest(), here.answered_by()) == (*before, "1.1")


def queued(here: Node, version: str) -> int:
    status = (here.client.describe("shapes", version) or {}).get("jobQueueStatus", {})
    return int(status.get("pendingRequests", 0))


def test_draining_waits_for_queued_and_running_requests(here: Node) -> None:
    """Three requests of half a second each: all are answered when it returns."""
    busy = "end = time.perf_counter() + 0.5 * (len(data) == 1)\n        while time.perf_counter() < end: pass"
    here.pack("7.0", edits=in_handle(busy))
    here.client.register("shapes-7.0.mar", "shapes")
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(here.predict, "7.0", image_id=str(number)) for number in range(3)]
        eventually(lambda: queued(here, "7.0"))
        assert not any(future.done() for future in waiting)
        assert not drain(here.client, "shapes", "7.0", 0.1)
        assert drain(here.client, "shapes", "7.0", 30)
        assert all(future.done() and future.result().ok for future in waiting)
    assert_refused(here, "take it out with python -m deploy retire shapes 7.0", "rollout", "shapes-7.0.mar")
    here.deploy("retire", "shapes", "7.0")


def test_a_rollout_loses_no_request_of_the_former_version(here: Node) -> None:
    """The former version takes half a second per request, so that some are queued when it is replaced."""
    slow = "end = time.perf_counter() + 0.5 * ('slow' in str(data[0])[:200])"
    slow += "\n        while time.perf_counter() < end: pass"
    here.pack("7.1", edits=in_handle(slow))
    here.pack("7.2")
    here.rollout("7.1", "--keep", "0")
    over = threading.Event()

    def ask() -> list[requests.Response]:
        answers = [here.predict(image_id="slow")]
        while not over.is_set():
            answers.append(here.predict(image_id="slow"))
        return answers

    with ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(ask) for _ in range(4)]
        try:
            here.rollout("7.2", "--keep", "0")
        finally:
            over.set()
    answers = [answer for client in clients for answer in client.result()]
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["model_version"] for answer in answers} == {"7.1", "7.2"}
    assert here.registered() == {"7.2": 1}


def test_the_replacement_of_a_dead_default_is_kept_and_the_dead_one_is_not(here: Node) -> None:
    """The keeper replaces a default that it cannot restore; then a person rolls out another version."""
    here.pack("8.0", "8.1")
    kill_after_the_switch(here, "8.0")
    dead(here, "8.0")
    assert_refused(here, "answers 503 to goldens", "rollout", "shapes-8.0.mar")  # the same command again
    assert (here.answered_by(), here.last().state) == ("7.2", "failed")
    assert_refused(here, "8.0 is the default: roll out another version first", "retire", "shapes", "8.0")
    here.rollout("8.1")
    assert here.manifest() == ["8.1", "7.2"]
    assert here.registered() == {"8.1": 1, "7.2": 1}


def test_a_lost_manifest_is_written_again_by_a_rollout_of_what_serves(here: Node) -> None:
    before = here.registered()
    (here.var / desired.FILE).write_text("{")
    assert_refused(here, r"served\.json is damaged: remove it", "rollout", "shapes-8.1.mar")
    (here.var / desired.FILE).unlink()
    here.rollout("8.1")
    assert (here.manifest()[0], here.registered(), here.answered_by()) == ("8.1", before, "8.1")


def test_a_killed_rollout_that_is_then_refused_leaves_nothing(here: Node) -> None:
    here.pack("8.2")
    with begun(here.env, "rollout", "shapes-8.2.mar"):
        wait_for_step(here.var, "goldens")  # and is killed with the block
    manifest = here.store / "shapes-8.2.json"
    manifest.rename(here.store / "away")
    assert here.rollout("8.2", check=False).returncode == 1
    assert "8.2" not in here.registered()
    (here.store / "away").rename(manifest)
    here.rollout("8.2")
    assert here.answered_by() == "8.2"


def test_an_archive_that_vanished_is_restored_when_its_version_is_retired(here: Node) -> None:
    kept = here.manifest()[1]
    (here.store / f"shapes-{kept}.mar").unlink()
    done = here.deploy("retire", "shapes", kept, check=False)
    assert "vanished from the store when its version was retired: it was restored from its copy" in done.stderr
    assert (here.store / f"shapes-{kept}.mar").is_file()
    assert kept not in here.registered()


def kill_after_the_switch(here: Node, version: str) -> None:
    with begun(here.env, "rollout", f"shapes-{version}.mar"):
        wait_for_step(here.var, "drain")


def dead(here: Node, version: str) -> None:
    """The state in which the keeper leaves a default that it cannot restore: the kept version is the default."""
    here.client.set_default("shapes", here.manifest()[1])
    here.client.scale("shapes", version, 0)


def test_without_a_server_nothing_is_written(bundle: Path, tmp_path: Path) -> None:
    settings = read_settings({"SERVE_VAR": str(tmp_path / "var"), "SERVE_INFERENCE_PORT": "1"})
    with pytest.raises(UserError, match="is the server running"), deployment(settings, "rollout", "a", "1"):
        pass
    assert not (tmp_path / "var" / "history").exists()
