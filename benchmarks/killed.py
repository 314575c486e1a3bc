"""How long until the same versions serve again after a process was killed, and what clients lost.

    python -m benchmarks.killed [--rate 5]

Runs a `make up` of its own with the shipped model as 1.1 (the default) and 1.0 (kept), under a light load at a
constant rate. Whatever is killed, deleted or taken, both versions must serve again within twice the cold start of
the same run. Markdown, then one JSON line; exit 1 if anything took longer.
"""

import base64
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
import psutil
import requests

from deploy import locks, served
from deploy.archive import pack
from deploy.client import Client
from deploy.keys import read_key
from deploy.processes import alive, cmdline, group_of_server, java_of
from deploy.serve import entry_of
from deploy.served import Entry
from deploy.settings import HOST, ROOT, own_environment, read_settings
from deploy.supervised import ask_keeper

BUNDLE = ROOT / "models" / "classroom"
NAME, DEFAULT, KEPT = "classroom", "1.1", "1.0"
LIMIT_S = 10.0
AT_MOST = 2.0
HELD_S = 5.0  # how long another process keeps the port
SETTLE_S = 3.0


class Node:
    """The server under test."""

    def __init__(self, folder: Path) -> None:
        self.env = own_environment(folder / "var", folder / "store")
        self.settings = read_settings({**os.environ, **self.env})
        self.client = Client(self.settings)
        photo = next((BUNDLE / "goldens").glob("*.jpg"))
        self.body = {"image_id": "1", "image_base64": base64.b64encode(photo.read_bytes()).decode(), "detail": True}
        default, kept = (self._packed(version) for version in (DEFAULT, KEPT))
        served.write(self.settings.var, [default, Entry(kept.name, kept.version, kept.archive, kept.digest)])

    def command(self, *words: str) -> None:
        """Run `python -m deploy ...`; its words are shown if it fails."""
        command = [sys.executable, "-m", "deploy", *words]
        done = subprocess.run(command, cwd=ROOT, env={**os.environ, **self.env}, capture_output=True, text=True)
        if done.returncode:
            raise click.ClickException(done.stdout + done.stderr)

    def seconds_until_the_same(self, limit: float = 120.0) -> float:
        """Until both versions answer, the default is the default, and two programs run under one supervisord."""
        begun = time.monotonic()
        while not self.same():
            if time.monotonic() > begun + limit:
                raise click.ClickException(f"not the same versions after {limit:.0f} s: {ask_keeper(self.settings)}")
            time.sleep(0.05)
        return time.monotonic() - begun

    def same(self) -> bool:
        """Whether all is as it was."""
        try:
            models = (NAME, f"{NAME}/{DEFAULT}", f"{NAME}/{KEPT}")
            answers = [self.client.predict(model, self.body).json().get("model_version") for model in models]
            return (
                answers == [DEFAULT, DEFAULT, KEPT] and ask_keeper(self.settings)["ready"] and len(self.programs()) == 2
            )
        except (click.ClickException, requests.RequestException, psutil.Error, ValueError, KeyError):
            return False

    def supervisor(self) -> int:
        """The process id of supervisord; 0 while there is none."""
        holder = locks.holder(self.settings.var / locks.SERVER)
        return holder.pid if holder else 0

    def programs(self) -> list[psutil.Process]:
        """What supervisord runs."""
        return [child for child in psutil.Process(self.supervisor() or None).children() if "-m" in cmdline(child)]

    def java(self) -> psutil.Process:
        """TorchServe's front end."""
        found = java_of(group_of_server(self.settings.var) or 0)
        if found is None:
            raise click.ClickException("TorchServe is not running")
        return found

    def _packed(self, version: str) -> Entry:
        mar = pack(BUNDLE, version, self.settings.store)
        served.keep_copy(self.settings.var, mar)
        return entry_of(mar)


class Load:
    """Requests at a constant rate, each in a thread of its own; a client that reads the key again each time."""

    def __init__(self, node: Node, rate: float) -> None:
        self.node, self.rate = node, rate
        self.outcomes: list[str] = []
        self._over = threading.Event()
        self._clock = threading.Thread(target=self._send)

    def __enter__(self) -> "Load":
        self._clock.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._clock.join()

    def _send(self) -> None:
        with ThreadPoolExecutor(max_workers=200) as pool:
            while not self._over.wait(1 / self.rate):
                pool.submit(self._ask)

    def _ask(self) -> None:
        url = f"{self.node.settings.url('inference')}/predictions/{NAME}"
        try:
            key = read_key(self.node.settings.var, "inference")
            answer = requests.post(
                url, json=self.node.body, headers={"Authorization": f"Bearer {key}"}, timeout=LIMIT_S
            )
            self.outcomes.append("answered" if answer.ok else "failed")
        except requests.Timeout:
            self.outcomes.append("unanswered")
        except (requests.RequestException, click.ClickException):  # refused, broken off, no key: no server
            self.outcomes.append("failed")


@contextlib.contextmanager
def killed(process: psutil.Process) -> Iterator[None]:
    """kill -9, and the block when it is gone."""
    process.kill()
    while alive(process):
        time.sleep(0.01)
    yield


def kill_worker(node: Node) -> None:
    found = node.client.describe(NAME, DEFAULT) or {}
    os.kill(int(found["workers"][0]["pid"]), signal.SIGKILL)


def kill_java(node: Node) -> None:
    with killed(node.java()):
        pass


def kill_keeper(node: Node) -> None:
    (keeper,) = [child for child in node.programs() if "deploy.keeper" in cmdline(child)]
    with killed(keeper):
        pass


def kill_supervisord(node: Node) -> None:
    with killed(psutil.Process(node.supervisor())):
        pass


def delete_archive(node: Node) -> None:
    (node.settings.store / f"{NAME}-{DEFAULT}.mar").unlink()
    kill_java(node)


def take_port(node: Node) -> None:
    """Returns when the port is free again."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with killed(node.java()):
            other.bind((HOST, node.settings.ports["management_address"]))
            other.listen()
        time.sleep(HELD_S)


CASES: dict[str, Callable[[Node], None]] = {
    "kill -9 of a worker": kill_worker,
    "kill -9 of Java": kill_java,
    "kill -9 of the keeper": kill_keeper,
    "kill -9 of supervisord": kill_supervisord,
    "archive deleted, Java killed": delete_archive,
    f"port taken for {HELD_S:.0f} s at a restart (from when it is free)": take_port,
}


@click.command()
@click.option("--rate", default=5.0, show_default=True, help="Requests a second.")
def main(rate: float) -> None:
    """Kill, delete and take what can be killed, deleted and taken, under load."""
    with tempfile.TemporaryDirectory() as work:
        node = Node(Path(work))
        begun = time.monotonic()
        try:
            node.command("up", "--bundle", str(BUNDLE))
            node.seconds_until_the_same()
            cold = time.monotonic() - begun
            click.echo(f"cold start of two versions: {cold:.1f} s; {rate:g} requests a second\n")
            click.echo("| case | sent | failed | no answer in 10 s | same versions after | of a cold start |")
            click.echo("|---|---|---|---|---|---|")
            rows = [one_case(node, name, case, rate, cold) for name, case in CASES.items()]
        finally:
            node.command("down", "--now")
    click.echo(json.dumps({"benchmark": "killed", "rate": rate, "cold_s": round(cold, 2), "cases": rows}))
    slow = [row["case"] for row in rows if row["ratio"] > AT_MOST]
    if slow:
        raise click.ClickException(f"more than {AT_MOST:g} cold starts: {', '.join(slow)}")


def one_case(node: Node, name: str, case: Callable[[Node], None], rate: float, cold: float) -> dict[str, Any]:
    """Do it under load, wait, let the load go on for a while; prints a row."""
    with Load(node, rate) as load:
        time.sleep(SETTLE_S)
        case(node)
        seconds = node.seconds_until_the_same()
        time.sleep(SETTLE_S)
    counts = Counter(load.outcomes)
    row = {
        "case": name,
        "sent": len(load.outcomes),
        "failed": counts["failed"],
        "unanswered": counts["unanswered"],
        "seconds": round(seconds, 2),
        "ratio": round(seconds / cold, 2),
    }
    click.echo(f"| {name} | {row['sent']} | {row['failed']} | {row['unanswered']} | {seconds:.1f} s | {row['ratio']} |")
    return row


if __name__ == "__main__":
    main()
