"""Metrics and logs of a real TorchServe: every request is logged and counted, and every queried metric exists."""

import base64
import http.client
import json
import re
import urllib.parse
import zipfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import promql_parser
import pytest
import requests
import yaml
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from deploy.settings import ROOT, Settings
from deploy.store import desired
from deploy.store.desired import ServedVersion
from deploy.store.journal import Journal, State
from deploy.supervision.metrics import BUCKETS, Metrics
from deploy.torchserve.keys import read_key
from deploy.torchserve.process import Server
from handler.requestlog import cpu_ms
from reports.counting.alarms import as_metrics
from reports.counting.days import Days
from tests.helpers.commands import SHIPPED
from tests.helpers.endpoint import batches_logged
from tests.helpers.waiting import eventually
from traffic import record
from traffic.record import Record
from traffic.record import State as CanaryState
from traffic.verdict import Counts, Step, judge

PHOTO = (SHIPPED / "goldens" / "1_0.jpg").read_bytes()
TEXT = base64.b64encode(PHOTO).decode()
SECRET = "image-id-of-this-test"
JPEG = {"Content-Type": "image/jpeg"}
UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
FOR_PEOPLE = {"console.log"}  # output of Java and the launcher, which is not JSON


class Log:
    """The request log of the running server."""

    def __init__(self, server: Server) -> None:
        self.path = server.logs / "requests.log"

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def of(self, answer: requests.Response) -> dict[str, Any]:
        """The line of an answer."""
        (line,) = self.all_of([answer])
        return line

    def all_of(self, answers: list[requests.Response]) -> list[dict[str, Any]]:
        """The lines of answers; waits for them, because a worker's output reaches its log after the answer."""
        ids = {answer.headers["X-Request-Id"] for answer in answers}

        def complete() -> list[dict[str, Any]]:
            lines = [line for line in self.lines() if line["request_id"] in ids]
            return lines if len(lines) >= len(ids) else []

        lines = eventually(complete)
        assert len(lines) == len(ids)
        return lines


@pytest.fixture(scope="module")
def log(server: Server) -> Log:
    return Log(server)


def ask(server: Server, model: str = "classroom", **arguments: Any) -> requests.Response:
    return server.client.ask("inference", "POST", f"/predictions/{model}", **arguments)


class TestRequestLog:
    def test_a_request_is_one_line(self, server: Server, log: Log) -> None:
        body = json.dumps({"image_id": SECRET, "image_base64": TEXT})
        line = log.of(ask(server, data=body, headers={"Content-Type": "application/json"}))
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d", line.pop("time"))
        assert re.fullmatch(UUID, line.pop("request_id"))
        assert 0 < line.pop("seconds") < 60
        ((label, confidence),) = line.pop("results")
        assert label == "online" and 0.8 < confidence <= 1
        ((brightness, contrast),), (in_scope,) = line.pop("light"), line.pop("in_scope")
        assert 0 < brightness < 255 and 0 < contrast < 128 and 0 < in_scope <= 1
        assert line == {
            "client_request_id": None,
            "model": "classroom",
            "version": "1.0",
            "status": 200,
            "code": "ok",
            "photos": 1,
            "batch": 1,
            "bytes": len(body),
            "unsure": 0,
            "out_of_scope": 0,
            "capture_lost": 0,
        }

    @pytest.mark.parametrize(
        ("body", "status", "code", "photos"),
        [
            ({"image_base64": "%%"}, 400, "invalid_base64", 1),
            ({"image_base64": base64.b64encode(b"GIF89a").decode()}, 415, "unsupported_format", 1),
            ({"data": [{"data": TEXT}, {"data": TEXT}]}, 200, "ok", 2),
            ({"data": [{"data": TEXT}, {"data": "!"}, {"image_id": {}}]}, 200, "invalid_base64", 3),
            ({"data": [{"image_id": {}}, {"data": "!"}]}, 400, "invalid_image_id", 2),
        ],
    )
    def test_status_and_first_code(
        self, server: Server, log: Log, body: dict[str, Any], status: int, code: str, photos: int
    ) -> None:
        answer = ask(server, json=body)
        line = log.of(answer)
        assert (answer.status_code, line["status"]) == (status, status)
        assert (line["code"], line["photos"]) == (code, photos)

    @pytest.mark.parametrize("model", ["shapes", "shapes/1.0", "shapes_batched"])
    def test_the_version_is_the_real_one_for_every_address(self, server: Server, log: Log, model: str) -> None:
        line = log.of(ask(server, model, data=PHOTO, headers=JPEG))
        assert (line["model"], line["version"]) == (model.partition("/")[0], "1.0")

    def test_a_clients_id_is_logged_and_echoed(self, server: Server, log: Log) -> None:
        answer = ask(server, data=PHOTO, headers={**JPEG, "X-Request-Id": "order 7/a=b"})
        assert answer.headers["X-Client-Request-Id"] == "order 7/a=b"
        assert log.of(answer)["client_request_id"] == "order 7/a=b"

    def test_the_answer_to_a_request_for_detail_has_its_cpu_time(self, server: Server) -> None:
        body = {"image_id": "1", "image_base64": TEXT}
        with_detail, without = (ask(server, json=body | more) for more in ({"detail": True}, {}))
        cpu = cpu_ms(with_detail.headers["Server-Timing"])
        assert cpu and 0 < cpu < 60_000
        assert "Server-Timing" not in without.headers

    @pytest.mark.parametrize("value", [b"a" * 129, "\u8bfe".encode(), b"a\tb", b"\x01"])
    def test_an_id_that_is_long_or_not_printable_is_ignored(self, server: Server, log: Log, value: bytes) -> None:
        answer = ask(server, data=PHOTO, headers={**JPEG, "X-Request-Id": value})
        assert answer.ok
        assert "X-Client-Request-Id" not in answer.headers
        assert log.of(answer)["client_request_id"] is None

    def test_the_request_id_of_an_answer_is_always_torchserves(self, server: Server) -> None:
        """0.12.0 sets the header after the handler, and the prefix header of its source's later state is not in it."""
        for name in ("X-Request-Id", "X-Request-Id-Prefix"):
            answer = ask(server, data=PHOTO, headers={**JPEG, name: "order-7"})
            assert re.fullmatch(UUID, answer.headers["X-Request-Id"])

    def test_every_request_of_a_batch_keeps_its_id(self, server: Server, log: Log) -> None:
        batches = batches_logged(server)
        sent = [(f"client-{number}", PHOTO if number % 3 else b"no picture") for number in range(24)]

        def post(entry: tuple[str, bytes]) -> requests.Response:
            return ask(server, "classroom_batched", data=entry[1], headers={**JPEG, "X-Request-Id": entry[0]})

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(post, sent))
        assert len({answer.headers["X-Request-Id"] for answer in answers}) == len(sent)
        for (name, data), answer in zip(sent, answers, strict=True):
            line = log.of(answer)
            assert answer.headers["X-Client-Request-Id"] == line["client_request_id"] == name
            assert (line["bytes"], line["status"]) == (len(data), answer.status_code)
            assert answer.status_code == (200 if data == PHOTO else 415)
        assert batches_logged(server) > batches

    def test_bytes_of_a_form_are_those_of_its_body(self, server: Server, log: Log) -> None:
        answer = ask(server, files={"a": ("a.jpg", PHOTO), "b": ("b.jpg", PHOTO)})
        line = log.of(answer)
        assert (line["photos"], line["bytes"]) == (2, int(answer.request.headers["Content-Length"]))


class TestEveryLog:
    @pytest.fixture(scope="class", autouse=True)
    def troubled(self, server: Server) -> Iterator[None]:
        """Requests in every form, and a version that cannot start: its worker leaves a stack trace."""
        ask(server, json={"image_id": SECRET, "image_base64": TEXT})
        ask(server, json={"image_id": SECRET, "image_base64": TEXT[:-50]})
        ask(server, data=json.dumps({"image_id": SECRET, "image_base64": TEXT})[:-1], headers={"X-Image-Id": SECRET})
        ask(server, data=PHOTO, headers={**JPEG, "X-Image-Id": SECRET})
        ask(server, files={"photo": (f"{SECRET}.jpg", PHOTO)}, data={"image_id": SECRET})
        ask(server, f"classroom?image_id={SECRET}&image_base64={TEXT[:2000]}", data=PHOTO, headers=JPEG)
        ask(server, "nobody", json={"image_id": SECRET, "image_base64": TEXT})
        form = {"Content-Type": "application/x-www-form-urlencoded"}  # curl's default
        assert ask(server, data=f"{SECRET}%zz".encode() + PHOTO, headers=form).status_code == 400
        assert ask(server, data=f"image_base64={SECRET}%zz{TEXT}", headers=form).status_code == 400
        parts = urllib.parse.urlsplit(server.settings.url("inference"))
        connection = http.client.HTTPConnection(parts.netloc, timeout=60)  # requests sends no such path
        connection.request(
            "POST", "*", headers={"Authorization": f"Bearer {read_key(server.settings.var, 'inference')}"}
        )
        assert connection.getresponse().status == 500
        broken = server.settings.store / "broken-1.0.mar"
        _without_graph(broken.with_name("shapes-1.0.mar"), broken)
        query = {"url": broken.name, "model_name": "broken", "initial_workers": 1, "synchronous": "true"}
        assert not server.client.ask("management", "POST", "/models", params=query).ok
        yield
        broken.unlink()

    def test_is_json_line_by_line_stack_traces_too(self, server: Server) -> None:
        paths = {path.name: path for path in server.logs.glob("*.log") if path.name not in FOR_PEOPLE}
        assert set(paths) == {"requests.log", "access_log.log", "model_log.log", "ts_log.log"}
        for name, path in paths.items():
            lines = [json.loads(line) for line in path.read_text().split("\n")[:-1]]
            assert lines, name
            assert all("time" in line for line in lines), name
        assert any("exception" in json.loads(line) for line in paths["ts_log.log"].read_text().splitlines())
        assert "Traceback" in paths["model_log.log"].read_text()

    def test_logs_contain_no_photo_no_file_name_and_no_key(self, server: Server) -> None:
        keys = [entry["key"] for entry in json.loads((server.settings.var / "key_file.json").read_text()).values()]
        for path in server.logs.iterdir():
            text = path.read_text(errors="replace")
            for secret in (SECRET, TEXT[100:160], TEXT[-60:], "JFIF", *keys):
                assert secret not in text, path.name

    def test_lines_of_requests_are_in_their_own_file_alone(self, server: Server) -> None:
        assert "client_request_id" not in (server.logs / "model_log.log").read_text()
        assert all(set(line) >= {"request_id", "client_request_id"} for line in Log(server).lines())

    def test_lines_that_repeat_the_request_log_are_left_out(self, server: Server) -> None:
        for name in ("ts_log.log", "model_log.log"):
            text = (server.logs / name).read_text()
            assert "[METRICS]" not in text
            assert "Backend received inference" not in text

    def test_the_reason_of_a_failed_worker_start_is_one_line(self, server: Server) -> None:
        why = server.why_no_worker()
        assert re.match(r"RuntimeError: model.onnx cannot be loaded by .*\n\(see .*model_log.log\)", why), why
        assert '"' not in why.splitlines()[0][-3:]


def _without_graph(mar: Path, target: Path) -> None:
    with zipfile.ZipFile(mar) as whole, zipfile.ZipFile(target, "w") as cut:
        for name in whole.namelist():
            cut.writestr(name, b"no graph" if name == "model.onnx" else whole.read(name))


# ----------------------------------------------------------------- metrics


@pytest.fixture(scope="module")
def node(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The running server, with a separate manifest and journal for this module."""
    var = tmp_path_factory.mktemp("node")
    (var / "logs").symlink_to(server.logs)
    return replace(server.settings, var=var)


@pytest.fixture(scope="module")
def followed(server: Server, node: Settings, log: Log) -> Iterator[tuple[Metrics, list[dict[str, Any]]]]:
    """Metrics that followed good and bad requests to two models, and the lines of those requests."""
    names = ("classroom", "shapes", "classroom_batched", "shapes_batched")
    log.all_of([ask(server, name, data=PHOTO, headers=JPEG) for name in names])  # earlier requests are logged by now
    metrics = Metrics(node)
    metrics.start()
    sent = [ask(server, name, data=PHOTO, headers=JPEG) for name in ("classroom", "shapes") for _ in range(6)]
    sent += [ask(server, data=b"no picture", headers=JPEG), ask(server, json={"image_base64": "%"})]
    sent += [ask(server, data=b"", headers=JPEG) for _ in range(3)]
    _fail_in_the_front_end(server)
    entries = [ServedVersion(name, "1.0", f"{name}-1.0.mar", "d", default=True) for name in ("classroom", "shapes")]
    desired.write(node.var, entries)
    for entry in entries:
        metrics.workers_ready(entry.name, entry.version, server.client.ready(entry.name, entry.version))
    metrics.ready(True)
    metrics.keeper_action("revive")
    Journal(node.var, "rollout", "classroom", "1.0").end(State.DONE)
    Journal(node.var, "rollout", "classroom", "1.1").end(State.FAILED, "no worker")
    counts = [Step(0.05, Counts({"ok": 95}), Counts({"ok": 4, "internal_error": 1}, server_errors=1))]
    verdict = judge(counts).as_json()
    record.write(node.var, Record("shapes", "1.1", "shapes-1.1.mar", CanaryState.STOPPED, 5.0, steps=tuple(counts),
                                  findings=tuple(verdict["findings"])))  # fmt: skip
    yield metrics, log.all_of(sent)
    metrics.stop()


def _fail_in_the_front_end(server: Server) -> None:
    """A 503 that no handler sees: a version without a worker."""
    idle = {"url": "shapes-1.0.mar", "model_name": "idle", "initial_workers": 0}
    server.client.manage("POST", "/models", params=idle)
    assert ask(server, "idle", data=PHOTO, headers=JPEG).status_code == 503
    server.client.unregister("idle", "1.0")


def read(text: str) -> list[Sample]:
    """A scrape's samples; without their types, for which this parser would rename TorchServe's counters NAME_total."""
    bare = "\n".join(line for line in text.splitlines() if not line.startswith("#")) + "\n"
    return [sample for family in text_string_to_metric_families(bare) for sample in family.samples]


def of_ours(metrics: Metrics) -> list[Sample]:
    return read(metrics.text().decode())


def samples(scrape: list[Sample], name: str, **labels: str) -> list[Sample]:
    return [s for s in scrape if s.name == name and labels.items() <= s.labels.items()]


Followed = tuple[Metrics, list[dict[str, Any]]]


def test_every_request_is_counted_under_its_version_status_and_code(followed: Followed) -> None:
    scrape = of_ours(followed[0])
    counts = {
        ("classroom", "200", "ok"): 6,
        ("shapes", "200", "ok"): 6,
        ("classroom", "415", "unsupported_format"): 1,
        ("classroom", "400", "invalid_base64"): 1,
        ("classroom", "400", "empty_image"): 3,
    }
    for sample in samples(scrape, "classifier_requests_total"):
        key = (sample.labels["model"], sample.labels["status"], sample.labels["code"])
        assert sample.value == counts.pop(key, 0), key
        assert sample.labels["version"] == "1.0"
    assert not counts


def test_answers_are_counted_by_label_and_confidence(followed: Followed) -> None:
    scrape = of_ours(followed[0])
    for model in ("classroom", "shapes"):
        results = [result for line in followed[1] if line["model"] == model for result in line["results"]]
        labels = {s.labels["label"]: s.value for s in samples(scrape, "classifier_answers_total", model=model)}
        assert labels == Counter(label for label, _ in results) and sum(labels.values()) == 6
        (below,) = samples(scrape, "classifier_confidence_bucket", model=model, le="0.9")
        assert below.value == sum(confidence <= 0.9 for _, confidence in results)


def test_handler_times_are_in_the_buckets_of_the_log(followed: Followed) -> None:
    scrape = of_ours(followed[0])
    for model in ("classroom", "shapes"):
        times = [line["seconds"] for line in followed[1] if line["model"] == model]
        buckets = {s.labels["le"]: s.value for s in samples(scrape, "classifier_handler_seconds_bucket", model=model)}
        assert len(buckets) == len(BUCKETS) + 1
        for le, count in buckets.items():
            assert count == sum(seconds <= float(le) for seconds in times), (model, le)
        assert buckets["+Inf"] == len(times)
    refused = [line["seconds"] for line in followed[1] if line["code"] == "empty_image"]
    assert max(refused) < BUCKETS[-1]


# ------------------------------------------ what the dashboard queries

DASHBOARD: dict[str, Any] = json.loads((ROOT / "config" / "dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
VARIABLES = {"$__rate_interval": "5m", "$__interval": "1m", "$model": ".+"}


def expressions() -> dict[str, str]:
    """Every PromQL expression of the dashboard and the alerts, by its place."""
    queries = {f"{panel['title']} {t['refId']}": t["expr"] for panel in PANELS for t in panel["targets"]}
    queries |= {f"annotation {entry['name']}": entry["expr"] for entry in DASHBOARD["annotations"]["list"]}
    groups = yaml.safe_load((ROOT / "config" / "alerts.yml").read_text())["groups"]
    queries |= {f"alert {rule['alert']}": rule["expr"] for group in groups for rule in group["rules"]}
    queries |= {
        f"variable {entry['name']}": "{1}{{{0}!=''}}".format(*_label_values(entry["definition"]))
        for entry in DASHBOARD["templating"]["list"]
        if entry["type"] == "query"
    }
    return {where: _filled(text) for where, text in queries.items()}


def _label_values(definition: str) -> tuple[str, str]:
    match = re.fullmatch(r"label_values\((\w+), (\w+)\)", definition)
    assert match, definition
    return match[2], match[1]


def _filled(text: str) -> str:
    for name, value in VARIABLES.items():
        text = text.replace(name, value)
    assert "$" not in text, text
    return text


def selectors(expression: str) -> list[promql_parser.VectorSelector]:
    selected: list[promql_parser.VectorSelector] = []

    def visit(node: Any) -> None:
        if isinstance(node, promql_parser.MatrixSelector):
            selected.append(node.vector_selector)
        elif isinstance(node, promql_parser.VectorSelector):
            selected.append(node)

    promql_parser.walk(promql_parser.parse(expression), visit)
    return selected


def matches(matcher: promql_parser.Matcher, labels: dict[str, str]) -> bool:
    """Whether a sample has the label, and its value fulfils the matcher."""
    op, value = str(matcher.op), labels.get(matcher.name)
    if value is None:
        return False
    same = re.fullmatch(matcher.value, value) is not None if "Re" in op else value == matcher.value
    return same is not ("Not" in op)


@pytest.fixture(scope="module")
def scraped(server: Server, followed: Followed) -> list[Sample]:
    """Both sources, once TorchServe has measured its machine (it does so after its start, then every minute)."""

    def both() -> list[Sample]:
        answer = requests.get(server.settings.url("metrics") + "/metrics", timeout=10)
        days = Days([date(2022, 3, 14)], np.ones(1, np.int64), np.zeros((1, 1)), np.zeros((1, 1)))
        quiet = np.zeros((1, 1)), np.zeros((1, 1), bool)
        drift = as_metrics(days, *quiet, ("size",), 'source="served",model="classroom"')
        scrape = read(answer.text) + read(drift) + of_ours(followed[0])
        return scrape if samples(scrape, "CPUUtilization") else []

    return eventually(both, 90)


@pytest.mark.parametrize("where", expressions())
def test_every_queried_metric_and_label_exists(where: str, scraped: list[Sample]) -> None:
    selected = selectors(expressions()[where])
    assert selected
    for selector in selected:
        if selector.name == "up":  # a metric of Prometheus itself; its jobs are those of the example
            jobs = yaml.safe_load((ROOT / "config" / "prometheus.yml").read_text())["scrape_configs"]
            samples_of = [Sample("up", {"job": job["job_name"]}, 1) for job in jobs]
        else:
            samples_of = [sample for sample in scraped if sample.name == selector.name]
        assert samples_of, selector.name
        for matcher in selector.matchers.matchers:
            assert any(matches(matcher, sample.labels) for sample in samples_of), (selector.name, matcher)


def test_labels_that_legends_and_sums_name_exist(scraped: list[Sample]) -> None:
    known = {label for sample in scraped for label in sample.labels} | {"instance"}
    for where, text in expressions().items():
        for group in re.findall(r"(?:by|on|group_left) \(([\w, ]*)\)", text):
            assert set(filter(None, group.split(", "))) <= known, where
    legends = [target["legendFormat"] for panel in PANELS for target in panel["targets"]]
    assert {name for legend in legends for name in re.findall(r"{{(\w+)}}", legend)} <= known


def test_the_parser_finds_every_selector() -> None:
    """The tests above rely on this parser."""
    selected = selectors(
        'sum(rate(a{b="1"}[5m])) / on () group_left () scalar(c) > 0 unless (max_over_time(d[1h:1m]) > 1)'
    )
    assert {selector.name for selector in selected} == {"a", "c", "d"}
    with pytest.raises(ValueError):
        selectors("sum(rate(a[5m])")


def test_the_dashboard_has_the_fields_that_grafana_needs() -> None:
    assert DASHBOARD["schemaVersion"] >= 39
    assert {entry["type"] for entry in DASHBOARD["templating"]["list"]} == {"datasource", "query"}
    identities = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(identities)) == len(identities)
    for panel in PANELS:
        assert panel["title"], panel["id"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, panel["title"]


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert max(x for x, _ in cells) < 24, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells
