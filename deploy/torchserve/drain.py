"""Wait until a version has nothing left to answer.

TorchServe's unregister does not: what waits in the queue then gets no answer, ever, and what is in a worker's
hands is killed with it (docs/log.md).
"""

import time
from typing import Any

import psutil

from deploy.torchserve.management import Client

LOOK_S = 0.05
STILL = 4
"""Looks in a row that must find the queue empty and no worker computing."""


def drain(client: Client, name: str, version: str, limit_s: float, body: dict[str, Any] | None = None) -> bool:
    """Wait until the queue of a version is empty and none of its workers computes.

    Args:
        body: a request to put at the queue's end first: once it is answered, all before it have been taken up, which
            the look at CPU time alone would not show of a worker that is stopped or swapped out.

    Returns:
        whether it came to rest in time; one that clients ask by its own address may never.
    """
    deadline = time.monotonic() + limit_s
    if body is not None and client.ready(name, version):
        client.predict(f"{name}/{version}", body)
    still, before = 0, dict[int, float]()
    while True:
        found = client.describe(name, version)
        if found is None:
            return True
        busy = computing(found)
        waiting = found.get("jobQueueStatus", {}).get("pendingRequests", 0)
        still = still + 1 if not waiting and busy == before else 0
        before = busy
        if still >= STILL:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_S)


def computing(described: dict[str, Any]) -> dict[int, float]:
    """CPU seconds of each worker process so far: while a photo is in its hands, they grow."""
    spent = {}
    for worker in described.get("workers", []):
        try:
            times = psutil.Process(worker["pid"]).cpu_times()
        except (psutil.Error, ValueError, KeyError):  # it died, or starts just now
            continue
        spent[int(worker["pid"])] = times.user + times.system
    return spent
