"""The loads of the comparison: closed loop by wrk, constant rate by our own generator, and the floor's own clock."""

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

from benchmarks.footprint import photo as small_photo
from benchmarks.harness.load import Load
from benchmarks.peers import work
from benchmarks.peers.running import Running
from benchmarks.peers.systems import Place, System
from common.errors import UserError
from deploy.settings import ROOT

SCRIPT = Path(__file__).with_name("closed.lua")
BIG = (4000, 3000)
BIG_QUALITY = 83  # 2.3 MB
LIMIT_S = 60


def photos() -> dict[str, str]:
    """The two photos as base64: 1000 x 750, and 4000 x 3000 of about 2.3 MB (the drawn one with noise on it)."""
    return {"small": encoded(small_photo()), "big": encoded(_big())}


def closed(it: Running, photo: str, expected: str, clients: int, seconds: float) -> dict[str, Any]:
    """So many clients, each asking in turn as fast as it is answered, by wrk.

    Where not one answer came, it is tried once more for four times as long.

    Raises:
        UserError: wrk failed, or there was no answer again.
    """
    for span in (seconds, 4 * seconds):
        told = _wrk(it, photo, expected, clients, span)
        if told["answers"]:
            return read_closed(told)
        it.settle()
    raise UserError(f"{it.system.name}: no answer within {4 * seconds:g} s: give more --seconds")


def _wrk(it: Running, photo: str, expected: str, clients: int, seconds: float) -> dict[str, Any]:
    with tempfile.NamedTemporaryFile() as file:
        file.write(json.dumps(it.system.request(photo)).encode())
        file.flush()
        key = ["Authorization", f"Bearer {it.key}"] if it.key else []
        command = [
            *(wrk(), "-t1", f"-c{clients}", f"-d{math.ceil(seconds)}s", "--timeout", f"{LIMIT_S}s", "-s", str(SCRIPT)),
            *(it.url, "--", file.name, expected, *key),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 2 * LIMIT_S)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        raise UserError(f"wrk failed: {(done.stderr or done.stdout).strip()[-300:]}")
    told: dict[str, Any] = json.loads(lines[-1])
    return told


def read_closed(told: dict[str, Any]) -> dict[str, Any]:
    """closed.lua's line -> the figures: rate of right answers, errors of all kinds, latencies."""
    errors = told["answers"] - told["right"] + told["lost"]
    return {
        "rate": round(told["right"] / told["seconds"], 2) if told["seconds"] else 0.0,
        "errors": errors,
        **{key: round(told[key], 2) for key in ("p50_ms", "p90_ms", "p99_ms")},
    }


def constant(it: Running, photo: str, expected: str, rate: float, seconds: float) -> dict[str, Any]:
    """A constant rate: latencies count from when a request was due."""
    body = it.system.request(photo)
    with Load(it.url, None, body, rate, expected=expected, key=it.key, limit_s=LIMIT_S) as load:
        time.sleep(seconds)
        result = load.stop()
    errors = result.failed + result.unanswered + result.lost + result.wrong
    told = {f"p{share}_ms": round(result.percentile(share / 100), 2) for share in (50, 90, 99)}
    return {"rate": round(rate, 2), "sent": result.sent, "errors": errors, **told}


def bare(system: System, place: Place, photo: str, seconds: float) -> dict[str, Any]:
    """A script of benchmarks/peers/apps/floor.py: its latencies, and its answer's label.

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
    told = json.loads(done.stdout)
    spent = sorted(told["ms"])
    if not spent:
        raise UserError(f"{system.name} answered no photo within {seconds} s: give more --seconds")
    return {
        "label": told["answer"]["result"],
        "rate": round(1000 / statistics.fmean(spent), 2),
        "errors": 0,
        **{f"p{share}_ms": round(spent[min(len(spent) * share // 100, len(spent) - 1)], 2) for share in (50, 90, 99)},
    }


def wrk() -> str:
    """The program.

    Raises:
        UserError: it is not installed.
    """
    found = shutil.which("wrk")
    if not found:
        raise UserError("wrk is not installed: apt-get install wrk")
    return found


def _big() -> bytes:
    """The drawn photo at 4000 x 3000 with noise, so that it is as large as a phone's."""
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
    """A photo's bytes as base64."""
    return base64.b64encode(data).decode()


def decoded(photo: str) -> bytes:
    """Back again."""
    return base64.b64decode(photo)
