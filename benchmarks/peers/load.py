"""The loads of the comparison: wrk (closed loop), our generator (constant rate), and the timing of the bare scripts."""

import base64
import json
import math
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from io import BytesIO
from pathlib import Path
from typing import Any

from benchmarks.harness.versions import drawn_photo
from benchmarks.peers import work
from benchmarks.peers.running import Running
from benchmarks.peers.systems import Place, System
from common.errors import NotFound, Unreachable, UserError
from deploy.clients.load import Load
from deploy.settings import ROOT

SCRIPT = Path(__file__).with_name("closed.lua")
BIG = (4000, 3000)
BIG_QUALITY = 83  # 2.3 MB
LIMIT_S = 60


def photos() -> dict[str, str]:
    """The two photos as base64: 1000 x 750, and 4000 x 3000 of about 2.3 MB (the same drawing with noise)."""
    return {"small": encoded(drawn_photo()), "big": encoded(_big())}


def closed(server: Running, photo: str, expected: str, clients: int, seconds: float) -> dict[str, Any]:
    """`clients` clients that each send the next request when the last one is answered (wrk, for `seconds`).

    Without any answer the load is repeated once, for four times as long.

    Raises:
        UserError: wrk failed, or there was no answer again.
    """
    for span in (seconds, 4 * seconds):
        counts = _wrk(server, photo, expected, clients, span)
        if counts["answers"]:
            return read_closed(counts)
        server.settle()
    raise Unreachable(f"{server.system.name}: no answer within {4 * seconds:g} s", "give more --seconds")


def _wrk(server: Running, photo: str, expected: str, clients: int, seconds: float) -> dict[str, Any]:
    with tempfile.NamedTemporaryFile() as file:
        file.write(json.dumps(server.system.request(photo)).encode())
        file.flush()
        key = ["Authorization", f"Bearer {server.key}"] if server.key else []
        command = [
            *(wrk(), "-t1", f"-c{clients}", f"-d{math.ceil(seconds)}s", "--timeout", f"{LIMIT_S}s", "-s", str(SCRIPT)),
            *(server.url, "--", file.name, expected, *key),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 2 * LIMIT_S)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        raise UserError(f"wrk failed: {(done.stderr or done.stdout).strip()[-300:]}")
    counts: dict[str, Any] = json.loads(lines[-1])
    return counts


def read_closed(counts: dict[str, Any]) -> dict[str, Any]:
    """The figures of closed.lua's counts: rate of correct answers, errors of all kinds, latencies."""
    errors = counts["answers"] - counts["right"] + counts["lost"]
    return {
        "rate": round(counts["right"] / counts["seconds"], 2) if counts["seconds"] else 0.0,
        "errors": errors,
        **{key: round(counts[key], 2) for key in ("p50_ms", "p90_ms", "p99_ms")},
    }


def constant(server: Running, photo: str, expected: str, rate: float, seconds: float) -> dict[str, Any]:
    """A constant rate, in requests per second; latencies count from the time at which a request was due."""
    body = server.system.request(photo)
    with Load(server.url, None, body, rate, expected=expected, key=server.key, limit_s=LIMIT_S) as load:
        time.sleep(seconds)
        result = load.stop()
    errors = result.failed + result.unanswered + result.lost + result.wrong
    latencies = {f"p{share}_ms": round(result.percentile(share / 100), 2) for share in (50, 90, 99)}
    return {"rate": round(rate, 2), "sent": result.sent, "errors": errors, **latencies}


def bare(system: System, place: Place, photo: str, seconds: float) -> dict[str, Any]:
    """The latencies of a bare script (benchmarks/peers/apps/floor.py), and the label of its answer.

    Raises:
        UserError: it failed.
    """
    path = place.folder / "request.json"
    path.write_text(json.dumps(system.request(photo)))
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        work.FORM: system.form,
        work.MODELS: str(place.models),
        work.BUNDLE: str(place.bundle),
    }
    (words,) = system.commands(system, place)
    command = [str(word) for word in (*words, path, seconds)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=seconds + 120)
    if done.returncode:
        raise UserError(f"{system.name} failed: {done.stderr.strip()[-300:]}")
    output = json.loads(done.stdout)
    spent = sorted(output["ms"])
    if not spent:
        raise Unreachable(f"{system.name} answered no photo within {seconds} s", "give more --seconds")
    return {
        "label": output["answer"]["result"],
        "rate": round(1000 / statistics.fmean(spent), 2),
        "errors": 0,
        **{f"p{share}_ms": round(spent[min(len(spent) * share // 100, len(spent) - 1)], 2) for share in (50, 90, 99)},
    }


def wrk() -> str:
    """The path of wrk.

    Raises:
        NotFound: it is not installed.
    """
    path = shutil.which("wrk")
    if not path:
        raise NotFound("wrk is not installed", "apt-get install wrk")
    return path


def _big() -> bytes:
    """The drawn photo at 4000 x 3000 with noise, so that the file is as large as a phone's."""
    import numpy as np
    from PIL import Image

    from dataset.draw import draw

    drawn = np.asarray(draw("room", 1).resize(BIG), dtype=np.int16)
    noise = np.random.default_rng(0).normal(0, 6, (BIG[1], BIG[0], 1)).astype(np.int16)
    picture = Image.fromarray((drawn + noise).clip(0, 255).astype(np.uint8))
    buffer = BytesIO()
    picture.save(buffer, "JPEG", quality=BIG_QUALITY)
    return buffer.getvalue()


def encoded(data: bytes) -> str:
    """Bytes as base64."""
    return base64.b64encode(data).decode()


def decoded(photo: str) -> bytes:
    """The bytes of base64."""
    return base64.b64decode(photo)
