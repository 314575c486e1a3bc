"""Record the picture of the README: real output of a start, a request, and a rollout under load, as an SVG.

    python -m scripts.record_terminal            # writes docs/images/terminal.svg; about a minute

Serves the shipped model on the usual ports from a temporary folder, packs it a second time as version 1.1, and rolls
that out while requests arrive at a constant rate. Exits 1 if a command or a request fails.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import requests
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from common.words import number_of

ROOT = Path(__file__).resolve().parents[1]
PYTHON = str(ROOT / ".venv" / "bin" / "python")
URL = "http://127.0.0.1:8080/predictions/classroom"
PER_SECOND = 20
READY = "Ctrl-C stops it"


@dataclass
class Load:
    """Requests at a constant rate from one thread, until `stop`."""

    body: bytes
    headers: dict[str, str]
    statuses: list[int] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        with requests.Session() as session:
            due = time.monotonic()
            while not self.ended.wait(max(0.0, due - time.monotonic())):
                try:
                    self.statuses.append(session.post(URL, self.body, headers=self.headers, timeout=10).status_code)
                except requests.RequestException:
                    self.statuses.append(0)
                due += 1 / PER_SECOND

    def failed(self) -> int:
        return sum(status != 200 for status in self.statuses)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images" / "terminal.svg")
    out = parser.parse_args().out
    screen = Console(record=True, width=96, file=Path(os.devnull).open("w"), force_terminal=True)  # noqa: SIM115
    with tempfile.TemporaryDirectory() as work:
        failed = record(
            screen, {**os.environ, "SERVE_VAR": f"{work}/var", "SERVE_STORE": f"{work}/store", "COLUMNS": "96"}
        )
    svg = screen.export_svg(title="Photoloop", theme=MONOKAI)
    out.write_text(re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL), encoding="utf-8")
    print(f"{out}: {out.stat().st_size / 1000:.0f} kB")
    return failed


def record(screen: Console, env: dict[str, str]) -> int:
    """The commands on `screen`. Returns 1 if a request failed."""
    prompt(screen, "make serve")
    server = subprocess.Popen(
        ["make", "-o", ".venv/.serving", "--no-print-directory", "serve"],
        cwd=ROOT,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        show(screen, started(server))
        return use(screen, env)
    finally:
        os.killpg(server.pid, signal.SIGINT)
        server.communicate(timeout=60)


def started(server: "subprocess.Popen[str]") -> list[str]:
    """What the server prints until it is ready, without the command that it proposes."""
    lines: list[str] = []
    for line in server.stdout or ():
        if READY in line:
            return [line for line in lines if line.startswith(("starting", "ready"))]
        lines.append(line.rstrip())
    raise SystemExit("the server did not start:\n" + "\n".join(lines))


def use(screen: Console, env: dict[str, str]) -> int:
    token = output([PYTHON, "-m", "deploy", "token"], env).strip()
    request = Path(env["SERVE_VAR"]) / "example-request.json"
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    prompt(screen, f'curl -s {URL} -H "Authorization: Bearer $TOKEN" \\')
    screen.print(Text("     -H 'Content-Type: application/json' -d @var/example-request.json", style="bold"))
    words = ["curl", "-s", URL, *(part for key in headers for part in ("-H", f"{key}: {headers[key]}"))]
    show(screen, output([*words, "-d", f"@{request}"], env).splitlines())
    output([PYTHON, "-m", "deploy", "archive", "models/classroom", "1.1"], env)
    load = Load(request.read_bytes(), headers)
    thread = threading.Thread(target=load.run)
    thread.start()
    try:
        prompt(screen, f"python -m deploy rollout model_store/classroom-1.1.mar    # under {PER_SECOND} requests/s")
        words = [PYTHON, "-m", "deploy", "rollout", f"{env['SERVE_STORE']}/classroom-1.1.mar"]
        show(screen, output(words, env).splitlines())
    finally:
        load.ended.set()
        thread.join()
    failed = load.failed()
    sent = number_of(len(load.statuses), "request")
    screen.print(Text(f"{sent} sent during the rollout: {failed} failed", style="bold green"))
    return int(failed > 0)


def output(words: list[str], env: dict[str, str]) -> str:
    """What a command prints, both streams in the order in which they were written."""
    done = subprocess.run(
        words, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(words[:5])}: {done.stdout}")
    return done.stdout


def prompt(screen: Console, command: str) -> None:
    screen.print(Text.assemble(("$ ", "bold green"), (command, "bold")))


def show(screen: Console, lines: list[str]) -> None:
    for line in lines:
        screen.print(Text(line))
    screen.print()


if __name__ == "__main__":
    sys.exit(main())
