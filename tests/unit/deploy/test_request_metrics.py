"""The request log, following it, the keeper's metrics, and the alert rules (tested by promtool)."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from common.files import write_json
from deploy.host.locks import OwnerKind, deployment_lock
from deploy.host.log import Tail
from deploy.host.var import claim
from deploy.settings import ROOT, Settings, read_settings
from deploy.store import desired
from deploy.store.desired import ServedVersion
from deploy.store.journal import Journal, JournalEntry, State, entries
from deploy.supervision.front_end import CLOSED
from deploy.supervision.metrics import BUCKETS, FORGET_S, Metrics
from handler import requestlog
from handler.errors import CODES
from tests.helpers.waiting import eventually


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    claim(tmp_path / "var")
    (tmp_path / "var" / "logs").mkdir()
    return read_settings({"SERVE_VAR": str(tmp_path / "var"), "SERVE_STORE": str(tmp_path / "store")})


@pytest.fixture
def log(settings: Settings) -> Path:
    return settings.var / "logs" / "requests.log"


@pytest.fixture
def metrics(settings: Settings, log: Path) -> Iterator[Metrics]:
    log.write_text("")
    running = Metrics(settings)
    running.start()
    yield running
    running.stop()


def line(code: str = "ok", version: str = "1.0", seconds: float = 0.012) -> str:
    status = 200 if code == "ok" else int(CODES[code])
    return requestlog.Line("id", None, "classroom", version, status, code, 1, 1, seconds, 1000).as_json() + "\n"


def add(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    """A sample's value; None where no series has exactly these labels."""
    families = text_string_to_metric_families(metrics.text().decode())
    values = [s.value for family in families for s in family.samples if s.name == name and s.labels == labels]
    assert len(values) < 2
    return values[0] if values else None


def answered(metrics: Metrics, version: str = "1.0", status: str = "200", code: str = "ok") -> float | None:
    return value(metrics, "classifier_requests_total", model="classroom", version=version, status=status, code=code)


class TestTheClientsOwnId:
    @pytest.mark.parametrize("name", ["X-Request-Id", "x-request-id", "X-REQUEST-ID"])
    def test_is_taken_in_any_case_of_its_header(self, name: str) -> None:
        assert requestlog.client_request_id({"other": "no", name: "order 7/a=b"}) == "order 7/a=b"

    @pytest.mark.parametrize("value", ["", "a" * 129, "a\nb", "a\rSet-Cookie: b", "\x1b[2J", "\u8bfe", "\x7f"])
    def test_is_ignored_unless_it_is_short_and_printable(self, value: str) -> None:
        assert requestlog.client_request_id({"X-Request-Id": value}) is None

    def test_may_have_128_characters(self) -> None:
        assert requestlog.client_request_id({"X-Request-Id": "a" * 128}) == "a" * 128

    def test_a_form_field_named_like_the_header_is_ignored(self) -> None:
        assert requestlog.client_request_id({"X-Request-Id": {"content-type": "image/jpeg"}}) is None
        assert requestlog.client_request_id({}) is None


def test_a_log_line_is_one_line_of_ascii() -> None:
    text = requestlog.Line("pre\u2028fix\n:1", None, "a", "1.0", 200, "ok", 1, 1, 0.01, 2).as_json()
    assert text.isascii()
    assert len(text.splitlines()) == 1
    assert text.startswith('{"time": ')  # config/log4j2.xml sends lines by this beginning
    assert json.loads(text)["request_id"] == "pre\u2028fix\n:1"


def test_bytes_are_those_of_the_body_or_of_the_fields_of_grpc() -> None:
    assert requestlog.size({"body": b"12345"}) == 5
    assert requestlog.size({"a": bytearray(b"123"), "image_id": "9", "odd": None}) == 4


class TestTail:
    def test_begins_at_the_end_and_takes_whole_lines(self, log: Path) -> None:
        log.write_text("old\n")
        tail = Tail(log)
        assert tail.lines() == []
        add(log, "one\ntw")
        assert tail.lines() == [b"one"]
        add(log, "o\nthree\n")
        assert tail.lines() == [b"two", b"three"]
        tail.close()

    def test_a_file_that_comes_later_is_read_from_its_start(self, log: Path) -> None:
        tail = Tail(log)
        assert tail.lines() == []
        log.write_text("first\n")
        assert tail.lines() == [b"first"]
        tail.close()

    def test_rotation_loses_no_line_and_doubles_none(self, log: Path) -> None:
        log.write_text("")
        tail = Tail(log)
        add(log, "one\n")
        log.rename(log.with_name("requests.1.log"))
        add(log.with_name("requests.1.log"), "two\n")
        assert tail.lines() == [b"one", b"two"]  # the new file is not there yet
        add(log.with_name("requests.1.log"), "three\n")
        log.write_text("four\n")
        assert tail.lines() == [b"three", b"four"]
        assert tail.lines() == []
        tail.close()

    def test_an_old_file_that_was_packed_and_removed_is_read_to_its_end(self, log: Path) -> None:
        log.write_text("")
        tail = Tail(log)
        add(log, "one\n")
        log.unlink()  # log4j: renamed, packed as .gz, removed
        log.write_text("two\n")
        assert tail.lines() == [b"one", b"two"]
        tail.close()

    def test_a_file_cut_short_is_read_from_its_start(self, log: Path) -> None:
        log.write_text("a long first line\nhalf of a li")
        tail = Tail(log)
        add(log, "ne\nhalf")
        assert tail.lines() == [b"ne"]
        os.truncate(log, 0)
        assert tail.lines() == []
        add(log, "new\n")
        assert tail.lines() == [b"new"]
        tail.close()

    def test_a_half_line_does_not_cross_into_the_next_file(self, log: Path) -> None:
        log.write_text("")
        tail = Tail(log)
        add(log, "never end")
        assert tail.lines() == []
        log.unlink()
        log.write_text("whole\n")
        assert tail.lines() == [b"whole"]
        tail.close()


class TestRequests:
    def test_are_counted_by_version_status_and_code(self, metrics: Metrics, log: Path) -> None:
        add(log, line() + line() + line("corrupt_image") + line(version="1.1"))
        assert answered(metrics) == 2
        assert answered(metrics, status="400", code="corrupt_image") == 1
        assert answered(metrics, version="1.1") == 1
        assert answered(metrics, version="1.2") is None

    def test_requests_answered_before_the_start_are_not_counted(self, settings: Settings, log: Path) -> None:
        log.write_text(line())
        metrics = Metrics(settings)
        metrics.start()
        add(log, line())
        assert answered(metrics) == 1
        metrics.stop()

    def test_are_counted_across_rotation_truncation_and_absence(self, metrics: Metrics, log: Path) -> None:
        add(log, line())
        log.rename(log.with_name("requests.1.log"))
        assert answered(metrics) == 1
        log.write_text(line() + line())
        assert answered(metrics) == 3
        os.truncate(log, 0)
        assert answered(metrics) == 3
        add(log, line())
        assert answered(metrics) == 4

    def test_the_log_is_read_between_scrapes(
        self, metrics: Metrics, log: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        metrics.stop()
        monkeypatch.setattr("deploy.supervision.metrics.POLL_S", 0.01)
        metrics.start()
        labels = {"model": "classroom", "version": "1.0", "status": "200", "code": "ok"}

        def counted(count: int) -> bool:
            return metrics._registry.get_sample_value("classifier_requests_total", labels) == count

        for number in range(1, 4):  # two rotations: reading only at a scrape would lose the first two files
            add(log, line())
            eventually(partial(counted, number))
            log.unlink()
            log.write_text("")
        assert answered(metrics) == 3

    @pytest.mark.parametrize(
        "odd", ["no json\n", "[]\n", "3\n", "{}\n", '{"model": "a"}\n', "\n", "\u2028\n", '{"seconds": null}\n']
    )
    def test_a_foreign_line_is_ignored(self, metrics: Metrics, log: Path, odd: str) -> None:
        add(log, odd + line())
        assert answered(metrics) == 1

    def test_handler_time_falls_into_the_right_buckets(self, metrics: Metrics, log: Path) -> None:
        for seconds in (0.0019, 0.004, 0.012, 0.03, 7.0, 11.0):
            add(log, line(seconds=seconds))
        add(log, line(version="2.0", seconds=0.2))
        labels = {"model": "classroom", "version": "1.0"}
        name = "classifier_handler_seconds"
        expected = {"0.002": 1, "0.005": 2, "0.01": 2, "0.015": 3, "0.02": 3, "0.03": 4, "5.0": 4, "10.0": 5, "+Inf": 6}
        for le, count in expected.items():
            assert value(metrics, f"{name}_bucket", **labels, le=le) == count, le
        assert value(metrics, f"{name}_sum", **labels) == pytest.approx(18.0479)
        assert value(metrics, f"{name}_count", model="classroom", version="2.0") == 1

    def test_buckets_are_in_order(self) -> None:
        assert list(BUCKETS) == sorted(set(BUCKETS))
        assert (BUCKETS[0], BUCKETS[-1]) == (0.002, 10)

    def test_two_instances_share_nothing(self, metrics: Metrics, settings: Settings, log: Path) -> None:
        add(log, line())
        assert answered(metrics) == 1
        assert answered(Metrics(settings)) is None


def serve(settings: Settings, *entries: ServedVersion) -> None:
    desired.write(settings.var, list(entries))


ONE = ServedVersion("classroom", "1.0", "classroom-1.0.mar", "d")
TWO = ServedVersion("classroom", "1.1", "classroom-1.1.mar", "d", default=True)


class TestWhatIsServed:
    def test_default_and_kept(self, metrics: Metrics, settings: Settings) -> None:
        serve(settings, ONE, TWO)
        labels = {"model": "classroom"}
        assert value(metrics, "classifier_served", **labels, version="1.1", default="true") == 1
        assert value(metrics, "classifier_served", **labels, version="1.0", default="false") == 1
        serve(settings, TWO)
        assert value(metrics, "classifier_served", **labels, version="1.0", default="false") is None

    def test_an_archive_that_is_missing_from_the_store(self, metrics: Metrics, settings: Settings) -> None:
        serve(settings, ONE)
        labels = {"model": "classroom", "version": "1.0"}
        assert value(metrics, "classifier_archive_present", **labels) == 0
        settings.store.mkdir()
        (settings.store / ONE.archive).touch()
        assert value(metrics, "classifier_archive_present", **labels) == 1

    @pytest.mark.parametrize("damage", ["", "{", "[1]", '[{"name": 1}]'])
    def test_a_damaged_manifest_does_not_break_a_scrape(
        self, metrics: Metrics, settings: Settings, damage: str
    ) -> None:
        serve(settings, TWO)
        metrics.workers_ready("classroom", "1.1", 1)
        assert value(metrics, "classifier_manifest_damaged") == 0
        (settings.var / "served.json").write_text(damage)
        assert value(metrics, "classifier_manifest_damaged") == 1
        assert value(metrics, "classifier_workers_ready", model="classroom", version="1.1") == 1

    def test_workers_of_versions_that_are_no_longer_served_disappear(
        self, metrics: Metrics, settings: Settings
    ) -> None:
        serve(settings, ONE, TWO)
        metrics.workers_ready("classroom", "1.0", 1)
        metrics.workers_ready("classroom", "1.1", 2)
        assert value(metrics, "classifier_workers_ready", model="classroom", version="1.1") == 2
        serve(settings, TWO)
        assert value(metrics, "classifier_workers_ready", model="classroom", version="1.0") is None
        assert value(metrics, "classifier_workers_ready", model="classroom", version="1.1") == 2

    def test_series_begin_at_0_so_that_the_first_error_is_an_increase(
        self, metrics: Metrics, settings: Settings
    ) -> None:
        serve(settings, TWO)
        assert answered(metrics, version="1.1") == 0
        for code, status in CODES.items():
            assert answered(metrics, version="1.1", status=str(int(status)), code=code) == 0

    def test_a_version_that_is_long_gone_loses_its_series(
        self, metrics: Metrics, settings: Settings, log: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        serve(settings, TWO)
        add(log, line(version="0.9") + line(version="1.1"))
        assert answered(metrics, version="0.9") == 1
        later = time.monotonic() + FORGET_S + 1
        monkeypatch.setattr("deploy.supervision.metrics.time.monotonic", lambda: later)
        assert answered(metrics, version="0.9") is None
        assert value(metrics, "classifier_handler_seconds_count", model="classroom", version="0.9") is None
        assert answered(metrics, version="1.1") == 1  # served: it keeps its series without requests


class TestWhatTheKeeperSays:
    def test_ready(self, metrics: Metrics) -> None:
        assert value(metrics, "classifier_ready") == 0
        metrics.ready(True)
        assert value(metrics, "classifier_ready") == 1
        metrics.ready(False)
        assert value(metrics, "classifier_ready") == 0

    def test_repairs_are_counted_by_kind(self, metrics: Metrics) -> None:
        metrics.keeper_action("revive")
        metrics.keeper_action("revive")
        assert value(metrics, "classifier_keeper_actions_total", action="revive") == 2

    def test_closed_requests_are_counted_from_the_log_of_the_program_that_closes_them(
        self, metrics: Metrics, settings: Settings
    ) -> None:
        name, path = "classifier_unfinished_requests_closed_total", settings.var / "logs" / "torchserve.log"
        assert value(metrics, name) == 0
        add(path, json.dumps({"time": "now", "event": CLOSED, "count": 3}) + "\n[]\nno json\n")
        add(
            path, json.dumps({"time": "now", "event": CLOSED, "count": 1}) + "\n" + json.dumps({"event": "else"}) + "\n"
        )
        assert value(metrics, name) == 4
        assert value(metrics, "classifier_front_end_resident_bytes") is None


class TestDeployments:
    def count(self, metrics: Metrics, action: str, state: str) -> float | None:
        return value(metrics, "classifier_deployments_total", action=action, state=state)

    def test_begin_at_0(self, metrics: Metrics) -> None:
        assert self.count(metrics, "rollout", "failed") == 0
        assert value(metrics, "classifier_deployment_running") == 0

    def test_are_counted_when_they_have_ended(self, metrics: Metrics, settings: Settings) -> None:
        with deployment_lock(settings.var).hold(OwnerKind.ROLLOUT, "classroom 1.1"):
            journal = Journal(settings.var, "rollout", "classroom", "1.1")
            assert value(metrics, "classifier_deployment_running") == 1
            assert self.count(metrics, "rollout", "done") == 0
            journal.end(State.DONE)
            assert self.count(metrics, "rollout", "done") == 1
        Journal(settings.var, "rollback", "classroom", "1.0").end(State.FAILED, "no worker")
        assert self.count(metrics, "rollback", "failed") == 1
        assert value(metrics, "classifier_deployment_running") == 0
        seconds = value(metrics, "classifier_deployment_seconds", action="rollout")
        assert seconds is not None
        assert 0 <= seconds < 10

    def test_one_whose_process_died_is_interrupted(self, metrics: Metrics, settings: Settings) -> None:
        with deployment_lock(settings.var).hold(OwnerKind.ROLLOUT, "classroom 1.1"):
            Journal(settings.var, "rollout", "classroom", "1.1")
            assert self.count(metrics, "rollout", "interrupted") == 0
        assert self.count(metrics, "rollout", "interrupted") == 1  # no file has changed: only the lock is free

    def test_the_journal_is_read_again_only_when_it_changed(
        self, metrics: Metrics, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        read: list[Path] = []

        def counted(var: Path) -> list[JournalEntry]:
            read.append(var)
            return entries(var)

        monkeypatch.setattr("deploy.supervision.metrics.entries", counted)
        Journal(settings.var, "rollout", "classroom", "1.1").end(State.DONE)
        metrics.text()
        metrics.text()
        assert len(read) == 1
        Journal(settings.var, "rollout", "classroom", "1.2").end(State.DONE)
        assert self.count(metrics, "rollout", "done") == 2
        assert len(read) == 2

    @pytest.mark.parametrize("damage", [{}, [], {"state": "done"}, 3])
    def test_a_damaged_entry_does_not_break_a_scrape(self, metrics: Metrics, settings: Settings, damage: Any) -> None:
        Journal(settings.var, "rollout", "classroom", "1.1").end(State.DONE)
        assert self.count(metrics, "rollout", "done") == 1
        write_json(settings.var / "history" / "odd.json", damage)
        assert self.count(metrics, "rollout", "done") == 1


PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is missing: apt-get install prometheus")


def promtool(*arguments: object) -> None:
    assert PROMTOOL
    done = subprocess.run(
        [PROMTOOL, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr


ALERTS = ROOT / "config" / "alerts.yml"
RULES: list[dict[str, Any]] = yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_alert_has_a_severity_and_a_command(rule: dict[str, Any]) -> None:
    assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert set(rule["annotations"]) == {"summary", "fix"}
    packages = tuple(f"python -m {name} " for name in ("deploy", "reports", "traffic"))
    commands = (*packages, "make ", "tail ", "grep ", "cp ", "rm ", "top")
    assert any(command in rule["annotations"]["fix"] for command in commands)


def test_the_example_scrapes_both_default_ports() -> None:
    config = yaml.safe_load((ROOT / "config" / "prometheus.yml").read_text())
    ports = read_settings({}).ports
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in config["scrape_configs"]}
    assert targets == {
        "torchserve": [f"127.0.0.1:{ports['metrics_address']}"],
        "classifier": [f"127.0.0.1:{ports['keeper_port']}"],
    }
    assert config["rule_files"] == [ALERTS.name]


@needs_promtool
def test_promtool_accepts_the_rules_and_the_example() -> None:
    promtool("check", "rules", ALERTS)
    promtool("check", "config", ROOT / "config" / "prometheus.yml")


SERVED = 'classifier_served{instance="k",job="classifier",model="classroom",version="1.1",default="true"}'
WORKERS = 'classifier_workers_ready{instance="k",job="classifier",model="classroom",version="1.1"}'
REQUESTS = (
    'classifier_requests_total{instance="k",job="classifier",model="classroom",version="%s",status="200",code="ok"}'
)
BUCKET = 'classifier_handler_seconds_bucket{instance="k",model="classroom",version="1.1",le="%s"}'
CANARY_STATE = 'classifier_canary_state{instance="k",model="classroom",version="1.2",state="%s"}'
CANARY_SHARE = 'classifier_canary_share{instance="k",model="classroom",version="1.2"}'
CANARY_REQUESTS = 'classifier_canary_requests{instance="k",model="classroom",version="1.2",arm="control"}'
SHADOW_DROPPED = 'classifier_shadow_dropped{instance="k",model="classroom",version="1.2"}'
SHADOW_PAIRS = 'classifier_shadow_pairs{instance="k",model="classroom",version="1.2",outcome="same"}'
ACTION = 'classifier_keeper_actions_total{instance="k",action="%s"}'
DRIFT = 'photoloop_drift_alarm{measure="brightness",source="served",model="classroom"}'
CASES: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    # alert -> series (what Prometheus saw every minute: START+STEPxTIMES), labels of the alert after 30 minutes
    "TargetDown": ({'up{job="classifier",instance="k"}': "0x30"}, {"job": "classifier", "instance": "k"}),
    "NotReady": ({'classifier_ready{instance="k"}': "0x30"}, {"instance": "k"}),
    "NoWorker": (
        {SERVED: "1x30", WORKERS: "1x20 0x10"},
        {"instance": "k", "job": "classifier", "model": "classroom", "version": "1.1", "default": "true"},
    ),
    "ServerErrors": (
        {'Requests5XX{instance="t"}': "0+2x30", 'ts_inference_requests_total{instance="t"}': "0+100x30"},
        {"instance": "t"},
    ),
    "InternalErrors": (
        {
            REQUESTS % "1.1": "0+9x30",
            (REQUESTS % "1.1").replace('"200"', '"500"').replace("ok", "internal_error"): "0+1x30",
        },
        {"instance": "k", "model": "classroom", "version": "1.1"},
    ),
    "Slow": (
        {BUCKET % "0.25": "0+98x30", BUCKET % "1.0": "0+100x30", BUCKET % "+Inf": "0+100x30"},
        {"instance": "k", "model": "classroom", "version": "1.1"},
    ),
    "ArchiveMissing": ({'classifier_archive_present{model="classroom"}': "1x10 0x20"}, {"model": "classroom"}),
    "ManifestDamaged": ({'classifier_manifest_damaged{instance="k"}': "0x10 1x20"}, {"instance": "k"}),
    "DeploymentFailed": (
        {'classifier_deployments_total{action="rollout",state="failed"}': "0x25 1x5"},
        {"action": "rollout", "state": "failed"},
    ),
    "KeeperMendsAgainAndAgain": ({ACTION % "revive": "0+1x30"}, {"instance": "k", "action": "revive"}),
    "WrongVersionAnswers": (
        {SERVED: "1x30", REQUESTS % "1.0": "0+5x30", REQUESTS % "1.1": "0+5x30"},
        {"instance": "k", "model": "classroom", "version": "1.0"},
    ),
    "CanaryStopped": (
        {CANARY_STATE % "sharing": "1x20 0x10", CANARY_STATE % "stopped": "0x20 1x10"},
        {"instance": "k", "model": "classroom", "version": "1.2", "state": "stopped"},
    ),
    "ShadowDropsRequests": (
        {SHADOW_DROPPED: "0+5x30", SHADOW_PAIRS: "0+20x30"},
        {"instance": "k", "model": "classroom", "version": "1.2"},
    ),
    "CanaryNotJudged": (
        {CANARY_SHARE: "0.05x30", CANARY_REQUESTS: "0+9x5 45x25"},
        {"instance": "k", "model": "classroom", "version": "1.2"},
    ),
    "Drift": ({DRIFT: "0x25 1x5"}, {"measure": "brightness", "source": "served", "model": "classroom"}),
}
QUIET = {
    DRIFT: "0x30",
    SERVED: "1x30",
    WORKERS: "1x30",
    REQUESTS % "1.1": "0+100x30",
    'up{job="classifier"}': "1x30",
    "classifier_ready": "1x30",
    "classifier_archive_present": "1x30",
    "classifier_manifest_damaged": "0x30",
    BUCKET % "0.05": "0+100x30",
    BUCKET % "+Inf": "0+100x30",
    'Requests5XX{job="torchserve"}': "5+0x30",
    'ts_inference_requests_total{job="torchserve"}': "0+100x30",
    'classifier_deployments_total{action="rollout",state="failed"}': "3+0x30",
    'classifier_deployments_total{action="rollout",state="done"}': "0+1x30",
    ACTION % "revive": "0x10 1x20",
    ACTION % "restore": "0x10 1x20",
    CANARY_STATE % "sharing": "1x30",
    CANARY_STATE % "stopped": "0x30",
    CANARY_SHARE: "0.05x30",
    CANARY_REQUESTS: "0+9x30",
    SHADOW_DROPPED: "3x30",
    SHADOW_PAIRS: "0+20x30",
}


def rehearse(folder: Path, series: dict[str, str], alerts: dict[str, list[dict[str, str]]]) -> None:
    """Check with promtool which alerts fire after half an hour of these series."""
    severity = {rule["alert"]: rule["labels"]["severity"] for rule in RULES}
    expected = [
        {
            "eval_time": "30m",
            "alertname": name,
            "exp_alerts": [{"exp_labels": {**labels, "severity": severity[name]}} for labels in firing],
        }
        for name, firing in alerts.items()
    ]
    write_json(folder / "alerts.json", {"groups": [{"name": "all", "rules": _bare(RULES)}]})
    case = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": expected,
    }
    write_json(folder / "case.json", {"rule_files": ["alerts.json"], "evaluation_interval": "1m", "tests": [case]})
    promtool("test", "rules", folder / "case.json")


def _bare(rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without annotations, which promtool would compare word for word."""
    return [{key: value for key, value in rule.items() if key != "annotations"} for rule in rules]


def test_every_alert_has_its_case() -> None:
    assert set(CASES) == {rule["alert"] for rule in RULES}


@needs_promtool
@pytest.mark.parametrize("name", CASES)
def test_an_alert_fires_when_it_should(name: str, tmp_path: Path) -> None:
    series, labels = CASES[name]
    rehearse(tmp_path, series, {name: [labels]})


@needs_promtool
def test_three_starts_of_torchserve_in_half_an_hour_are_too_many(tmp_path: Path) -> None:
    kept = SERVED.replace("true", "false").replace("1.1", "1.0")
    series = {SERVED: "1x30", kept: "1x30", ACTION % "restore": "0x5 2x9 4x9 6x7"}
    rehearse(tmp_path, series, {"KeeperMendsAgainAndAgain": [{"instance": "k", "action": "restore"}]})


@needs_promtool
def test_no_alert_fires_on_a_healthy_node(tmp_path: Path) -> None:
    rehearse(tmp_path, QUIET, {rule["alert"]: [] for rule in RULES})
