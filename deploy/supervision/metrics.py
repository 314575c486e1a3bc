"""The metrics of a node, in addition to TorchServe's own: http://127.0.0.1:8083/metrics.

Three sources: the request log, followed from the start of the keeper (a restart sets these counters to 0, which
Prometheus handles); the manifest, the store and the journal, read at every scrape; and the keeper.

classifier_requests_total{model,version,status,code}      answered requests; code "ok" or one of handler/errors.py
classifier_out_of_scope_total{model,version}              photos that show no class, of models that know it
classifier_answers_total{model,version,label}             photos that got this label
classifier_confidence{model,version}                      histogram of their confidence; no photo, no image_id
classifier_capture_lost_total{model,version}              photos that could not be captured (recipe: capture)
classifier_handler_seconds{model,version}                 histogram: handler time of the request's batch
classifier_served{model,version,default}                  1 for each version that must be served
classifier_archive_present{model,version}                 1 if a served version's archive lies in the store
classifier_manifest_damaged                               1 if served.json cannot be read
classifier_workers_ready{model,version}                   workers that can answer, as the keeper counted them
classifier_ready                                          1 if every name's default version answers
classifier_keeper_actions_total{action}                   repairs by the keeper
classifier_deployments_total{action,state}                ended changes of versions, since the node exists
classifier_deployment_seconds{action}                     duration of the last one
classifier_deployment_running                             1 while versions are being changed

deploy/supervision/front_end.py adds those of TorchServe's own process, and other programs add the texts in var/metrics
(traffic/record.py: canaries).
"""

import contextlib
import json
import threading
import time
from collections import Counter as Tally
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from common.errors import UserError
from deploy.host.locks import deployment_lock
from deploy.host.log import Tail
from deploy.host.var import METRICS
from deploy.settings import Settings
from deploy.store import desired
from deploy.store.desired import ServedVersion
from deploy.store.journal import FOLDER, State, entries
from deploy.supervision import repair_plan
from deploy.supervision.front_end import FrontEnd
from handler.errors import CODES

CONTENT_TYPE = CONTENT_TYPE_LATEST
LOG = "requests.log"
POLL_S = 1.0
FORGET_S = 3600.0
"""A version that is not served and got no request for this long loses its series."""

# Seconds: from a refused request (0.2 ms) and a small photo on a fast core to one that no client waits for.
BUCKETS = (0.002, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10)
CONFIDENCES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999)
REPAIRS = tuple(action.name for action in repair_plan.ACTIONS)  # of the keeper
ACTIONS = ("rollout", "rollback", "retire", *REPAIRS)
ENDED = (State.DONE, State.REFUSED, State.FAILED, State.INTERRUPTED)
_VERSION = ("model", "version")


class Metrics:
    """The metrics of one node. Several threads may use it; it has no state that is global to the process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._lock = threading.Lock()
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "classifier_requests",
            "Answered requests, by HTTP status and error code.",
            (*_VERSION, "status", "code"),
            registry=self._registry,
        )
        self._out_of_scope = Counter(
            "classifier_out_of_scope", "Photos that are out of scope.", _VERSION, registry=self._registry
        )
        self._capture_lost = Counter(
            "classifier_capture_lost", "Photos that could not be captured.", _VERSION, registry=self._registry
        )
        self._seconds = Histogram(
            "classifier_handler_seconds",
            "Handler time of the request's batch.",
            _VERSION,
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._answers = Counter("classifier_answers", "Photos by label.", (*_VERSION, "label"), registry=self._registry)
        self._confidence = Histogram(
            "classifier_confidence", "Confidence of answers.", _VERSION, buckets=CONFIDENCES, registry=self._registry
        )
        self._actions = Counter(
            "classifier_keeper_actions", "Repairs by the keeper.", ("action",), registry=self._registry
        )
        for action in REPAIRS:
            self._actions.labels(action)
        self._node = Node(settings)
        self._registry.register(self._node)
        self._front_end = FrontEnd(settings)
        self._registry.register(self._front_end)
        self._last_request: dict[tuple[str, str], float] = {}
        self._tail: Tail | None = None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    def start(self) -> None:
        """Follow the request log from its end, in a new thread."""
        self._tail = Tail(self.settings.var / "logs" / LOG)
        self._stopping.clear()
        self._thread = threading.Thread(target=self._follow, name="request log", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop following; `text` continues to return what is known."""
        self._stopping.set()
        if self._thread:
            self._thread.join()
        with self._lock:
            if self._tail:
                self._tail.close()
            self._tail = self._thread = None
            self._front_end.close()

    def text(self) -> bytes:
        """All metrics in the text format of Prometheus (`CONTENT_TYPE`), up to the last line of the request log."""
        with self._lock:
            self._catch_up()
            self._node.refresh()
            self._keep_series()
            return generate_latest(self._registry) + _of_others(self.settings.var)

    def keeper_action(self, action: str) -> None:
        """Count a repair by the keeper, for example `revive`."""
        self._actions.labels(action).inc()

    def workers_ready(self, model: str, version: str, count: int) -> None:
        """Set how many workers of a version can answer; shown while the manifest lists the version."""
        with self._lock:
            self._node.workers[model, version] = count

    def ready(self, value: bool) -> None:
        """Set whether every name's default version answers."""
        with self._lock:
            self._node.ready = value

    def _follow(self) -> None:
        """Read regularly: scrapes stay short, and no file is rotated away unread."""
        while not self._stopping.wait(POLL_S):
            with self._lock:
                self._catch_up()

    def _catch_up(self) -> None:
        for line in self._tail.lines() if self._tail else ():
            try:
                self._count(json.loads(line))
            except (ValueError, KeyError, TypeError):  # not a line of the handler
                continue

    def _count(self, line: dict[str, Any]) -> None:
        version, seconds = (str(line["model"]), str(line["version"])), float(line["seconds"])
        self._requests.labels(*version, str(line["status"]), str(line["code"])).inc()
        self._seconds.labels(*version).observe(seconds)
        self._out_of_scope.labels(*version).inc(line.get("out_of_scope") or 0)
        for label, confidence in line.get("results") or ():
            self._answers.labels(*version, str(label)).inc()
            self._confidence.labels(*version).observe(float(confidence))
        self._capture_lost.labels(*version).inc(line.get("capture_lost") or 0)
        self._last_request[version] = time.monotonic()

    def _keep_series(self) -> None:
        """Create the series of every served version, and remove those of versions that are long gone.

        A counter that appears with its first error shows no increase: Prometheus has no 0 to compare with.
        """
        now = time.monotonic()
        for entry in self._node.served:
            self._last_request[entry.name, entry.version] = now
            self._seconds.labels(entry.name, entry.version)
            self._out_of_scope.labels(entry.name, entry.version)
            self._confidence.labels(entry.name, entry.version)
            self._capture_lost.labels(entry.name, entry.version)
            self._requests.labels(entry.name, entry.version, "200", "ok")
            for code, status in CODES.items():
                self._requests.labels(entry.name, entry.version, str(int(status)), code)
        for version in [version for version, last in self._last_request.items() if now - last > FORGET_S]:
            del self._last_request[version]
            for metric in (
                self._requests,
                self._seconds,
                self._out_of_scope,
                self._answers,
                self._confidence,
                self._capture_lost,
            ):
                metric.remove_by_labels(dict(zip(_VERSION, version, strict=True)))


class Node(Collector):
    """The state of `var` and the store, and what the keeper saw last; collected by `Metrics`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.workers: dict[tuple[str, str], int] = {}
        self.ready = False
        self.served: list[ServedVersion] = []
        self.damaged = False
        self._stamp: object = None
        self._journal: list[tuple[str, State, float | None]] = []  # action, state, seconds

    def refresh(self) -> None:
        """Read the manifest, and the journal if it has changed; if one is damaged, its former content counts."""
        try:
            self.served, self.damaged = desired.read(self.settings.var), False
        except UserError:
            self.damaged = True
        if not self.damaged:
            named = {(entry.name, entry.version) for entry in self.served}
            self.workers = {version: count for version, count in self.workers.items() if version in named}
        with contextlib.suppress(OSError, KeyError, TypeError):
            stamp = _stamp(self.settings.var)
            if stamp != self._stamp:
                rows = entries(self.settings.var)
                self._journal = [(entry.action, entry.state, entry.seconds) for entry in rows]
                self._stamp = stamp

    def describe(self) -> Iterable[Metric]:
        """Empty: the names are not checked against other collectors."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """The families, as they are now."""
        yield from self._versions()
        yield from self._deployments()
        yield _gauge("classifier_ready", "1 if every name's default version answers.", self.ready)
        yield _gauge("classifier_manifest_damaged", "1 if served.json cannot be read.", self.damaged)

    def _versions(self) -> Iterable[Metric]:
        served = GaugeMetricFamily("classifier_served", "Versions that must be served.", labels=(*_VERSION, "default"))
        present = GaugeMetricFamily(
            "classifier_archive_present", "1 if a served version's archive lies in the store.", labels=_VERSION
        )
        workers = GaugeMetricFamily("classifier_workers_ready", "Workers that can answer.", labels=_VERSION)
        for entry in self.served:
            served.add_metric((entry.name, entry.version, str(entry.default).lower()), 1)
            present.add_metric((entry.name, entry.version), (self.settings.store / entry.archive).is_file())
        for version, count in self.workers.items():
            workers.add_metric(version, count)
        return served, present, workers

    def _deployments(self) -> Iterable[Metric]:
        total = CounterMetricFamily("classifier_deployments", "Ended changes of versions.", labels=("action", "state"))
        counts = Tally({(action, state): 0 for action in ACTIONS for state in ENDED})
        counts.update((action, state) for action, state, _ in self._journal if state in ENDED)
        for labels, count in counts.items():
            total.add_metric(labels, count)
        last = GaugeMetricFamily("classifier_deployment_seconds", "Duration of the last change.", labels=("action",))
        for action, seconds in {action: seconds for action, _, seconds in self._journal if seconds is not None}.items():
            last.add_metric((action,), seconds)
        running = any(state is State.RUNNING for _, state, _ in self._journal)
        return total, last, _gauge("classifier_deployment_running", "1 while versions are being changed.", running)


def _of_others(var: Path) -> bytes:
    """The texts of other programs; one that cannot be read is left out."""
    texts = []
    for path in sorted((var / METRICS).glob("*.prom")):
        with contextlib.suppress(OSError):
            texts.append(path.read_bytes())
    return b"".join(texts)


def _gauge(name: str, text: str, value: bool) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)


def _stamp(var: Path) -> object:
    """Changes with the journal, whose files are replaced at every write, and with the owner of the deployment lock."""
    files = [(path.name, path.stat().st_ino, path.stat().st_mtime_ns) for path in (var / FOLDER).glob("*.json")]
    owner = deployment_lock(var).owner()
    return sorted(files), owner and owner.pid
