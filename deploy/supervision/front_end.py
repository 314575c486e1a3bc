"""Requests that never end: TorchServe has no read timeout, so we close them; what that and its memory look like.

classifier_unfinished_requests_closed_total   requests whose body stopped arriving, closed after UNFINISHED_S
classifier_front_end_resident_bytes           memory of TorchServe's Java process; missing while it does not run
"""

import json
import time
from collections.abc import Iterable

import psutil
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from deploy.host.log import Tail, log
from deploy.host.processes import alive, group_of_server, java_of
from deploy.host.sockets import close_unfinished
from deploy.settings import Settings

UNFINISHED_S = 300.0
"""How long a connection may be silent in the middle of a request. A full queue of 100 requests needs less, at 2 s each,
so that no client is cut off that still waits for its answer."""
LOOK_EVERY_S = 10.0
CLOSED = "closed unfinished requests"  # the log event that is counted
HTTP = ("inference_address", "management_address", "metrics_address")


class Unfinished:
    """Closes unfinished requests of one TorchServe. One thread calls `close`."""

    def __init__(self, settings: Settings, silent_s: float = UNFINISHED_S) -> None:
        self._ports = [settings.ports[key] for key in HTTP]
        self._silent_s = silent_s
        self._next = 0.0
        self._warned = False

    def close(self, java: psutil.Process) -> None:
        """Look at most every LOOK_EVERY_S. Errors are logged once: the server goes on without this limit."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + LOOK_EVERY_S
        try:
            count = close_unfinished(java, self._ports, self._silent_s)
        except (OSError, psutil.Error) as error:
            if not self._warned and alive(java):
                log("warning", text=f"unfinished requests cannot be closed here: {error}")
                self._warned = True
            return
        if count:
            log(CLOSED, count=count)


class FrontEnd(Collector):
    """The metrics of this module. They are counted from the log of the program that watches TorchServe."""

    def __init__(self, settings: Settings) -> None:
        self._var = settings.var
        self._tail = Tail(settings.var / "logs" / "torchserve.log")
        self._closed = 0
        self._java: psutil.Process | None = None

    def close(self) -> None:
        """Close the log."""
        self._tail.close()

    def describe(self) -> Iterable[Metric]:
        """Empty: the names are not checked against other collectors."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Both metrics, as they are now."""
        for line in self._tail.lines():
            try:
                row = json.loads(line)
                self._closed += int(row["count"]) if row["event"] == CLOSED else 0
            except (ValueError, KeyError, TypeError):
                continue
        name = "classifier_unfinished_requests_closed"
        yield CounterMetricFamily(name, "Requests whose body stopped arriving.", value=self._closed)
        memory = GaugeMetricFamily("classifier_front_end_resident_bytes", "Memory of TorchServe's Java process.")
        resident = self._resident()
        if resident:
            memory.add_metric((), resident)
        yield memory

    def _resident(self) -> int:
        if self._java is None or not alive(self._java):
            group = group_of_server(self._var)
            self._java = java_of(group) if group else None
        try:
            return int(self._java.memory_info().rss) if self._java else 0
        except psutil.Error:
            return 0
