"""The comparison with other systems: arithmetic, table, loads and processes, on small servers."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner

from benchmarks import compare
from benchmarks.peers import install, load, work
from benchmarks.peers.comparison import (
    BEGIN,
    END,
    Point,
    as_json,
    between_markers,
    chart,
    points,
    read_former,
    spread,
    summary,
    table,
)
from benchmarks.peers.running import Running, free_ports, label, running
from benchmarks.peers.systems import Command, Place, System, systems
from common.errors import UserError
from deploy.clients.generator import NUMBER
from deploy.host.processes import alive, interruptible
from deploy.settings import ROOT

KNOWN = {system.name: system for system in systems()}


def figures(p50: float, rate: float, p99: float = 0.0, errors: int = 0) -> dict[str, Any]:
    return {"rate": rate, "errors": errors, "p50_ms": p50, "p90_ms": p50, "p99_ms": p99 or p50}


def measured(p50: float, rate: float, **more: Any) -> dict[str, Any]:
    return {
        "start_s": 4.0,
        "memory_mb": 900.0,
        "archive_mb": None,
        "one": figures(p50, 1000 / p50),
        "eight": figures(8000 / rate, rate, 9000 / rate),
        "half": figures(p50, rate / 2, 2 * p50),
        "big": figures(5 * p50, 10),
        **more,
    }


def example() -> dict[str, list[dict[str, Any]]]:
    return {
        "ours": [measured(p50, 100, archive_mb=2.0) for p50 in (9.0, 10.0, 30.0)],
        "former": [measured(30, 30, archive_mb=3.0, memory_mb=1000.0)],
        "document": [measured(130, 7)],
        "document-tuned": [measured(120, 8)],
        "fastapi:document": [measured(60, 80)],
        "fastapi:ours": [measured(12, 90)],
        "litserve:ours": [measured(12, 300, eight=figures(30, 300, errors=1))],
        "floor-pillow-openvino:ours": [{"one": figures(7, 140), "big": figures(30, 30)}],
        "floor-opencv-openvino:ours": [{"one": figures(5, 200), "big": figures(30, 30)}],
        "floor-opencv-openvino:document": [{"one": figures(1, 1000), "big": figures(30, 30)}],
    }


def test_a_summary_has_the_median_and_the_spread_of_all_rounds() -> None:
    ours = summary(example())["ours"]
    assert ours["one"]["p50_ms"] == {"median": 10.0, "min": 9.0, "max": 30.0}
    assert spread([1.0, 2.0, 3.0, 10.0]) == {"median": 2.5, "min": 1.0, "max": 10.0}


def test_errors_of_all_loads_and_rounds_are_added() -> None:
    rows = [measured(10, 100, eight=figures(1, 100, errors=2)), measured(10, 100, half=figures(1, 50, errors=3))]
    medians = summary({"ours": rows})["ours"]
    assert (medians["eight"]["errors"], medians["half"]["errors"]) == (2, 3)
    (point,) = (point for point in points({"ours": medians}) if point.text == "errors of ours")
    assert (point.value, point.kept) == (5.0, False)


def test_the_bounds_compare_medians_with_the_right_system() -> None:
    by_text = {point.text: point for point in points(summary(example()))}
    values = {text: round(point.value, 3) for text, point in by_text.items() if point.value is not None}
    assert values["p50 at 1 client, the document's chain / ours"] == 13.0
    assert values["p50 at 1 client, ours / the best bare script"] == 2.0  # 10 / 5: the best system with our model
    assert values["requests/s at 8 clients, ours / the better chain"] == 12.5
    assert values["requests/s at 8 clients, ours / fastapi:document"] == 1.25
    # litserve does 300 requests a second, but not without errors
    assert values["requests/s at 8 clients, ours / the best with our model (fastapi:ours)"] == 1.111
    assert values["p99 at 8 clients, ours / fastapi:ours"] == 0.9
    assert values["p99 / p50 of ours at half load, constant rate"] == 2.0
    assert values["p50 of ours, 4000 x 3000 / 1000 x 750"] == 15.0 * 10 / 30  # median of 45, 50, 150 over 10
    assert values["memory_mb, ours / former"] == 0.9
    assert {text for text, point in by_text.items() if point.kept is False} == {
        "p50 at 1 client, ours / the best bare script",
        "requests/s at 8 clients, ours / fastapi:document",
    }


def test_a_bound_without_a_measurement_is_neither_kept_nor_missed() -> None:
    assert all(point.kept is None for point in points({}))
    assert str(points({})[0]).endswith("not measured")
    assert Point("x", 3.0, 3.0, at_least=False).kept is True
    assert Point("x", 3.0, 3.01, at_least=True).kept is False


def report() -> dict[str, Any]:
    medians = summary(example())
    absent = {"pytriton:ours": "does not install: no wheel"}
    frame = {"rounds": 3, "seconds": 8.0, "warm_s": 4.0, "cores": 2, "cpu": "a processor"}
    return {**frame, "systems": medians, "points": as_json(points(medians)), "absent": absent}


def test_the_table_has_systems_bounds_and_missing_systems() -> None:
    text = table(list(KNOWN.values()), json.loads(json.dumps(report())))
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    (ours,) = (row for row in rows if row.startswith("| **this project"))
    assert ours.split(" | ")[1:5] == ["10 (9 to 30)", "100 (33.3333 to 111.111)", "100 (100 to 100)", "90 (90 to 90)"]
    assert len({row.count("|") for row in rows if " to " in row or row.startswith("| system")}) == 1
    assert "fastapi:document" in text and "pytriton:ours: does not install: no wheel" in text
    assert "NOT KEPT" in text


def test_a_chart_is_drawn(tmp_path: Path) -> None:
    chart(list(KNOWN.values()), report()["systems"], tmp_path / "compare.png")
    assert (tmp_path / "compare.png").read_bytes().startswith(b"\x89PNG")


def test_only_the_text_between_the_markers_is_replaced() -> None:
    text = between_markers(f"a\n{BEGIN}\nold\n{END}\nb\n", "new")
    assert text == f"a\n{BEGIN}\nnew\n{END}\nb\n"
    assert between_markers(text, "new") == text
    for bad in ("", BEGIN, f"{END} {BEGIN}", f"{BEGIN}{END}{BEGIN}{END}"):
        with pytest.raises(ValueError, match="once each"):
            between_markers(bad, "new")


def test_only_a_complete_run_replaces_the_kept_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, page = tmp_path / "results", tmp_path / "benchmarks.md"
    kept.mkdir()
    page.write_text(f"{BEGIN}\nold\n{END}")
    monkeypatch.setattr(compare, "RESULTS", kept)
    monkeypatch.setattr(compare, "PAGE", page)
    results = (list(KNOWN.values()), report(), "new")
    compare.save(*results, None, complete=False)
    compare.save(*results, tmp_path / "out", complete=True)
    assert not list(kept.iterdir())
    assert "old" in page.read_text()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"compare.json", "compare.png"}
    compare.save(*results, None, complete=True)
    assert [path.name for path in kept.iterdir()] == ["compare.json"]
    assert (tmp_path / "images" / "compare.png").is_file()
    assert "new" in page.read_text()


def test_the_page_has_the_markers() -> None:
    assert "new table" in between_markers(compare.PAGE.read_text(encoding="utf-8"), "new table")


def test_the_kept_figures_of_the_first_model_are_a_row_and_a_baseline() -> None:
    former = read_former()
    row = measured(10, 100, archive_mb=2.0)
    plan = compare.Plan(1, 1, {}, {}, Path(), Path())
    content = compare.report_of(list(KNOWN.values()), {"ours": [row]}, {}, plan)
    assert content["systems"]["former"] == former["figures"]
    (start,) = (point for point in content["points"] if point["text"] == "start_s, ours / former")
    assert start["value"] == 4.0 / former["figures"]["start_s"]["median"]
    text = table(list(KNOWN.values()), content)
    assert f"| {former['text']} ({former['measured']}) | 39.78 (38.7 to 40.17) |" in text
    assert "former" not in compare.report_of(list(KNOWN.values()), {}, {}, plan)["systems"]


def test_the_commands_of_every_system_name_code_of_this_project(tmp_path: Path) -> None:
    """The Python modules of every command, including MODULE:NAME of gunicorn and uvicorn."""
    for system in KNOWN.values():
        words = [
            str(word) for line in system.commands(system, Place(tmp_path, 8000, tmp_path, tmp_path)) for word in line
        ]
        modules = [word.partition(":")[0] for word in words if word.startswith("benchmarks.")]
        if (settings := tmp_path / "model-settings.json").is_file():
            modules.append(json.loads(settings.read_text())["implementation"].rpartition(".")[0])
            settings.unlink()
        assert modules, system.name
        for module in modules:
            assert (ROOT / (module.replace(".", "/") + ".py")).is_file(), module


def test_every_system_has_one_name_and_its_requirements() -> None:
    listed = systems()
    assert len({system.name for system in listed}) == len(listed)
    for system in listed:
        if system.environment:
            assert (install.REQUIREMENTS / f"{system.environment}.txt").is_file(), system.name


def test_systems_are_chosen_by_peer_or_form() -> None:
    listed = systems()
    assert [s.name for s in compare.choose(listed, "fastapi")] == ["fastapi:document", "fastapi:ours"]
    assert [s.name for s in compare.choose(listed, "litserve:ours, document")] == ["document", "litserve:ours"]
    assert len(compare.choose(listed, "floor")) == 6
    assert compare.choose(listed, "") == listed
    done = CliRunner().invoke(compare.main, ["--systems", "flask"])
    assert (done.exit_code, "no system 'flask'" in done.output) == (1, True)


def test_a_label_is_read_in_both_protocols() -> None:
    assert label({"result": "online"}) == "online"
    assert label({"outputs": [{"name": "result", "data": ["offline"]}]}) == "offline"
    with pytest.raises(ValueError, match="no label"):
        label({"error": "x"})


def test_wrong_refused_and_lost_answers_are_errors() -> None:
    result = {
        "answers": 100,
        "right": 90,
        "refused": 10,
        "lost": 2,
        "seconds": 10.0,
        "p50_ms": 1.0,
        "p90_ms": 2.0,
        "p99_ms": 3.0,
    }
    assert load.read_closed(result) == {"rate": 9.0, "errors": 12, "p50_ms": 1.0, "p90_ms": 2.0, "p99_ms": 3.0}


def test_the_photos_are_what_the_table_says() -> None:
    from io import BytesIO

    from PIL import Image

    photos = {name: load.decoded(photo) for name, photo in load.photos().items()}
    assert {name: Image.open(BytesIO(data)).size for name, data in photos.items()} == {
        "small": (1000, 750),
        "big": (4000, 3000),
    }
    assert 2_000_000 < len(photos["big"]) < 2_600_000
    assert not any(NUMBER in photo for photo in load.photos().values())


SERVER = """
import http.server, json, subprocess, sys
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        number = request["image_id"]
        label = "online" if number.isdigit() and int(number) % 4 == 0 else "offline"
        content = json.dumps({"image_id": number, "result": label}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def small(code: str = SERVER) -> System:
    def commands(system: System, place: Place) -> list[Command]:
        return [(sys.executable, "-c", code, place.port)]

    return System("small", work.DOCUMENT, "a small server", commands)


def place(folder: Path) -> Place:
    return Place(folder, free_ports(), folder, folder)


def test_a_system_is_measured_and_all_its_processes_end(tmp_path: Path) -> None:
    with running(small(), place(tmp_path), "abc") as it:
        assert it.ask("abc")["result"] == "offline"
        family = it.family()
        assert len(family) == 2  # its child left the process group, and is found nevertheless
        assert it.memory_mb() > 5
        result = load.constant(it, "abc", "offline", 40, 1.0)
        port = it.place.port
    assert result["sent"] > 8
    assert result["errors"] == result["sent"] // 4  # every fourth number is answered wrongly
    assert not any(map(alive, family))
    with socket.socket() as free:
        assert free.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.skipif(not shutil.which("wrk"), reason="wrk is not installed")
def test_wrk_counts_wrong_answers(tmp_path: Path) -> None:
    with running(small(), place(tmp_path), "abc") as it:
        result = load.closed(it, "abc", "offline", 2, 1)
    answers = result["rate"] * 1 + result["errors"]
    assert result["errors"] == pytest.approx(answers / 4, rel=0.2)
    assert 0 < result["p50_ms"] <= result["p99_ms"]


@pytest.mark.skipif(not shutil.which("wrk"), reason="wrk is not installed")
def test_a_load_without_an_answer_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hangs = SERVER.replace("label =", "__import__('time').sleep(60 * (number != 'first'))\n        label =")
    first = replace(small(hangs), request=lambda photo: {"image_id": "first" if photo == "first" else NUMBER})
    with running(first, place(tmp_path), "first") as it, pytest.raises(UserError, match="no answer within"):
        load.closed(it, "abc", "offline", 1, 1)


def test_a_system_that_does_not_start_is_reported_and_the_others_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = replace(small("raise SystemExit('no such model')"), name="bad")
    good = replace(small(), name="good")
    row = {"one": figures(1, 1), "eight": figures(1, 1), "start_s": 1.0, "memory_mb": 1.0}
    monkeypatch.setattr(compare, "loads", lambda *_: row)
    photos = {"small": "abc", "big": "abc"}
    expected = {name: {"offline": 0.9, "online": 0.1} for name in photos}
    results, absent = compare.measure([bad, good], 2, compare.Plan(1.0, 1.0, photos, expected, tmp_path, tmp_path))
    assert results == {"good": [row, row]}
    assert "no such model" in absent["bad"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_reports_the_complete_rounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    left = 5  # measurements of two systems before the interruption: two and a half rounds

    def one_round(system: System, plan: compare.Plan) -> dict[str, Any]:
        nonlocal left
        left -= 1
        if left < 0:
            signal.raise_signal(number)
        return {"left": left}

    monkeypatch.setattr(compare, "one_round", one_round)
    plan = compare.Plan(1, 1, {}, {}, tmp_path, tmp_path)
    both = [replace(small(), name=name) for name in ("a", "b")]
    with interruptible():
        results, _ = compare.measure(both, 9, plan)
    assert results == {"a": [{"left": 4}, {"left": 1}], "b": [{"left": 3}, {"left": 2}]}
    left = 1
    with interruptible(), pytest.raises(KeyboardInterrupt):
        compare.measure(both, 9, plan)


def test_a_peer_with_our_model_must_answer_as_our_graph() -> None:
    system = replace(small(), form=work.OURS)
    plan = compare.Plan(1, 1, {"a": "x"}, {"a": {"offline": 0.9, "online": 0.1}}, Path(), Path())

    class FixedAnswer(Running):
        answer: dict[str, Any]

        def ask(self, photo: str, **more: Any) -> dict[str, Any]:
            return self.answer

    peer = FixedAnswer(system, Place(Path(), 1, Path(), Path()))
    peer.answer = {"result": "offline", "probabilities": {"offline": 0.905, "online": 0.095}}
    assert compare.checked_label(peer, plan, "a") == "offline"
    for wrong in ({"result": "online"}, {"result": "offline", "probabilities": {"offline": 0.8}}, {"result": "cat"}):
        peer.answer = wrong
        with pytest.raises(UserError):
            compare.checked_label(peer, plan, "a")


def test_ctrl_c_stops_all_processes(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; sys.path.insert(0, '.')\n"
        "from tests.integration.test_compare import place, small\n"
        "from benchmarks.peers.running import running\n"
        f"with running(small(), place(Path({str(tmp_path)!r})), 'abc') as it:\n"
        "    print(*[p.pid for p in it.family()], flush=True); time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored where tests run in the background
    ) as it:
        assert it.stdout
        pids = [int(word) for word in it.stdout.readline().split()]
        assert len(pids) == 2 and all(map(psutil.pid_exists, pids))
        os.kill(it.pid, signal.SIGINT)
        it.wait(60)
    assert not any(psutil.pid_exists(pid) and alive(psutil.Process(pid)) for pid in pids)


def test_a_peer_that_cannot_be_installed_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "peer.txt").write_text("./no-such-folder\n")
    monkeypatch.setattr(install, "REQUIREMENTS", tmp_path / "requirements")
    monkeypatch.setattr(install, "ENVIRONMENTS", tmp_path / "environments")
    assert install.absent("peer") == "not installed: make bench"
    reason = install.install("peer")
    assert reason and re.match("does not install: .*no-such-folder", reason)
    assert install.absent("peer") == reason
    (tmp_path / "environments" / "peer.txt").write_text(install._stamp("peer"))
    assert install.absent("peer") is None
    (tmp_path / "requirements" / "peer.txt").write_text("another==1.0\n")
    assert install.absent("peer") == "outdated: make bench"
    imported = subprocess.run([install.python("peer"), "-c", "import psutil"], capture_output=True)
    assert imported.returncode == 0  # the environment's packages, then the project's


def test_the_reason_of_an_absent_system_is_one_line_without_local_paths() -> None:
    reason = 'it ended:\n  File "/home/me/lib/tracker.py", line 9\n  ' + "x" * 300 + "\n  OSError: http://127.0.0.1/a b"
    result = compare.short(reason)
    assert result.startswith('it ended: File "tracker.py", line 9') and result.endswith("OSError: http://127.0.0.1/a b")
    assert len(result) <= 200 and compare.short("no  wrk") == "no wrk"
