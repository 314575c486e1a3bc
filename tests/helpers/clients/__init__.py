"""Real HTTP clients that send rows of docs/api.md's tables of request forms, each in its own way."""

import asyncio
import base64
import gzip
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import httpx2
import pytest
import requests
import urllib3

HERE = Path(__file__).parent
Answers = dict[str, tuple[int, Any]]
JSON = {"Content-Type": "application/json"}


class Target:
    """The address of a model, its token, and a photo."""

    def __init__(self, address: str, token: str, photo: Path) -> None:
        self.address, self.photo = address, photo
        self.token = token
        self.bearer = {"Authorization": f"Bearer {token}"}
        self.bytes = photo.read_bytes()
        self.base64 = base64.b64encode(self.bytes).decode()

    @property
    def files(self) -> dict[str, list[tuple[str, tuple[str, bytes, str]]]]:
        """Files of forms by the name of their row, as requests and httpx take them."""
        file = ("a.jpg", self.bytes, "image/jpeg")
        return {
            "a file": [("photo", file)],
            "two files": [("front", file), ("back", file)],
            "two files with one name": [("images", file), ("images", file)],
            "a file and JSON": [("photo", file), ("meta", ("", b'{"tags": [1]}', "application/json"))],
            "a file called image_base64": [("image_base64", file)],
        }


def by_requests(target: Target) -> Answers:
    answers = {
        "one photo": requests.post(target.address, json={"image_base64": target.base64}, headers=target.bearer),
        "a photo": requests.post(
            target.address, data=target.bytes, headers={**target.bearer, "Content-Type": "image/png"}
        ),
        "a photo without a type": requests.post(target.address, data=target.bytes, headers=target.bearer),
        "urlencoded base64": requests.post(target.address, data={"image_base64": target.base64}, headers=target.bearer),
    }
    for name, files in target.files.items():
        answers[name] = requests.post(target.address, files=files, data={"image_id": "1"}, headers=target.bearer)
    return {name: (answer.status_code, answer.json()) for name, answer in answers.items()}


def by_httpx(target: Target) -> Answers:
    with httpx2.Client(headers=target.bearer) as client:
        answers = {
            "one photo": client.post(target.address, json={"image_base64": target.base64}),
            "a photo": client.post(
                target.address, content=iter([target.bytes]), headers={"Content-Type": "image/jpeg"}
            ),
            "urlencoded base64": client.post(target.address, data={"image_base64": target.base64}),
        }
        for name, files in target.files.items():
            answers[name] = client.post(target.address, files=files, data={"image_id": "1"})
    return {name: (answer.status_code, answer.json()) for name, answer in answers.items()}


def by_urllib3(target: Target) -> Answers:
    pool, answers = urllib3.PoolManager(), {}
    for name, files in target.files.items():
        answers[name] = pool.request("POST", target.address, fields=files, headers=target.bearer)
    fields = {"image_base64": target.base64}
    answers["base64 in a form"] = pool.request("POST", target.address, fields=fields, headers=target.bearer)
    return {name: (answer.status, answer.json()) for name, answer in answers.items()}


def by_aiohttp(target: Target) -> Answers:
    async def send() -> Answers:
        answers: Answers = {}
        async with aiohttp.ClientSession(headers=target.bearer) as session:
            packed = gzip.compress(json.dumps({"image_base64": target.base64}).encode())
            bodies: dict[str, dict[str, Any]] = {
                "one photo": {"json": {"image_base64": target.base64}},
                "gzip": {"data": packed, "headers": {**JSON, "Content-Encoding": "gzip"}},
                "another encoding": {"json": {"image_base64": target.base64}, "compress": "deflate"},
            }
            for name, files in target.files.items():
                form = aiohttp.FormData()
                for field, (file, data, kind) in files:
                    form.add_field(field, data, filename=file or None, content_type=kind)
                bodies[name] = {"data": form}
            for name, body in bodies.items():
                async with session.post(target.address, **body) as answer:
                    answers[name] = answer.status, await answer.json()
        return answers

    return asyncio.run(send())


def by_curl(target: Target) -> Answers:
    photo, text = target.photo, f'{{"image_base64": "{target.base64}"}}'
    rows = {
        "one photo": (["-H", "Content-Type: application/json", "-d", "@-"], text),
        "a photo": (["-H", "Content-Type: image/jpeg", "--data-binary", f"@{photo}"], ""),
        "a photo without a type": (["-H", "Content-Type:", "--data-binary", f"@{photo}"], ""),
        "a photo as a form": (["--data-binary", f"@{photo}"], ""),
        "JSON as a form": (["-d", "@-"], text),
        "urlencoded base64": (["--data-urlencode", "image_base64@-"], target.base64),
        "a file": (["-F", f"photo=@{photo}", "-F", "image_id=1", "-F", "detail=true"], ""),
        "two files": (["-F", f"front=@{photo}", "-F", f"back=@{photo}"], ""),
        "two files with one name": (["-F", f"images=@{photo}", "-F", f"images=@{photo}"], ""),
        "a file and JSON": (["-F", f"photo=@{photo}", "-F", 'meta={"tags": [1]};type=application/json'], ""),
        "a file called image_base64": (["-F", f"image_base64=@{photo}"], ""),
        "base64 in a form": (["-F", "image_base64=<-"], target.base64),
        "a part in base64": (["-F", f"photo=@{photo};encoder=base64"], ""),
        "no file": (["-F", "user=bob"], ""),
    }
    answers: Answers = {}
    for name, (words, body) in rows.items():
        command = [
            *("curl", "-s", target.address, "-w", "\n%{http_code}"),
            "-H",
            f"Authorization: Bearer {target.token}",
        ]
        done = subprocess.run([*command, *words], input=body, capture_output=True, text=True, timeout=60, check=True)
        answer, _, status = done.stdout.rpartition("\n")
        answers[name] = int(status), json.loads(answer)
    return answers


def by_program(program: str, source: str) -> Callable[[Target], Answers]:
    """A client in another language: `program source` prints {row: [status, answer]}."""

    def send(target: Target) -> Answers:
        if shutil.which(program) is None or (program == "java" and shutil.which("javac") is None):
            pytest.skip(f"{program} is not installed (Java needs its compiler)")
        env = {**os.environ, "ADDRESS": target.address, "TOKEN": target.token, "PHOTO": str(target.photo)}
        words = [program, str(HERE / source)]
        done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return {name: (status, answer) for name, (status, answer) in json.loads(done.stdout).items()}

    return send


CLIENTS: dict[str, Callable[[Target], Answers]] = {
    "curl": by_curl,
    "requests": by_requests,
    "httpx": by_httpx,
    "urllib3": by_urllib3,
    "aiohttp": by_aiohttp,
    "Node.js": by_program("node", "forms.mjs"),
    "Java": by_program("java", "Forms.java"),
}
"""Client -> a function that sends the rows that it can, and returns (status, answer) by row."""
