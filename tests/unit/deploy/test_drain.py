"""When a version counts as drained: its workers and their decoders use no CPU time."""

import os
import subprocess
import sys

from deploy.torchserve.management import cpu_seconds
from tests.helpers.waiting import eventually


def test_a_worker_computes_while_one_of_its_decoders_does() -> None:
    workers = {"workers": [{"pid": os.getpid()}, {"pid": -1}, {}]}
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as decoder:
        try:
            before = eventually(lambda: cpu_seconds(workers).get(decoder.pid))
            assert before
            eventually(lambda: cpu_seconds(workers)[decoder.pid] > before)
            assert os.getpid() in cpu_seconds(workers)
        finally:
            decoder.kill()
