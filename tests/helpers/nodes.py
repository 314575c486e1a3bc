"""A separate server whose versions a test may change, and faulty archives."""

import os
import signal
import struct
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.harness.server import ServedModel, question
from benchmarks.harness.versions import Edits, rewrite
from deploy.settings import ROOT, separate_environment
from deploy.store import desired
from deploy.store.journal import State, entries
from deploy.torchserve.process import Server
from handler import goldens
from tests.helpers.commands import command
from tests.helpers.light import pack_quickly
from tests.helpers.running.forked import Forked, start_forked


class Node(ServedModel):
    """One server with the drawn recipe `shapes`, and the commands that change what it serves."""

    def __init__(self, env: dict[str, str], bundle: Path) -> None:
        golden = goldens.read(bundle)[0]
        super().__init__(env, "shapes", question((bundle / golden.photo).read_bytes()))
        self.env, self.bundle = env, bundle
        self.server = Server(self.settings)

    def pack(self, *versions: str, edits: Edits | None = None) -> None:
        for version in versions:
            mar = pack_quickly(self.bundle, version, self.store)
            if edits:
                rewrite(mar, edits)

    def deploy(self, *words: object, check: bool = True, **env: str) -> Any:
        return command("deploy", *words, env={**self.env, **env}, check=check)

    def rollout(self, version: str, *options: object, check: bool = True, **env: str) -> Any:
        return self.deploy("rollout", f"{self.name}-{version}.mar", *options, check=check, **env)


@contextmanager
def running_node(bundle: Path, folder: Path) -> Iterator[Node]:
    """A running server, without a keeper, that serves nothing yet."""
    node = Node(separate_environment(folder / "var", folder / "store"), bundle)
    with node.server:
        yield node


def settle(node: Node, *versions: str) -> None:
    """Serve exactly these versions, the default first. Nothing to do where the test before ended as it should."""
    if node.manifest() == [*versions] and node.registered() == dict.fromkeys(versions, 1):
        return
    for version in sorted(node.registered(), key=node.client.default(node.name).__eq__):  # the default last
        node.client.unregister(node.name, version)
    (node.var / desired.FILE).unlink(missing_ok=True)
    for version in reversed(versions):
        for path in node.store.glob(f"{node.name}-{version}.*"):
            path.unlink()
        node.pack(version)
        node.rollout(version)


def damage(mar: Path) -> bytes:
    """Flip a bit of the graph in an archive; the new bytes of the archive."""
    with zipfile.ZipFile(mar) as file:
        graph = file.getinfo("model.onnx")
    data = bytearray(mar.read_bytes())
    names = sum(struct.unpack_from("<HH", data, graph.header_offset + 26))  # APPNOTE of PKWARE, 4.3.7
    data[graph.header_offset + 30 + names + graph.compress_size // 2] ^= 1
    mar.write_bytes(data)
    return bytes(data)


def in_handle(line: str) -> Edits:
    """The handler with a line at the beginning of `handle`: slower, or wrong."""
    mark = b"        self.context = context\n        started = "

    def edit(text: bytes) -> bytes:
        assert text.count(mark) == 1
        return text.replace(mark, b"        " + line.encode() + b"\n" + mark)

    return {"handler/service.py": edit}


@contextmanager
def begun(env: Mapping[str, str], *words: str, stderr: int | None = None) -> Iterator[Forked]:
    """A running command of `deploy`; it is killed when the block ends, so that it holds no lock in the next test."""
    with start_forked(["deploy", *words], ROOT, {**os.environ, **env}, stderr=stderr) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def suspended(process: Forked) -> Iterator[None]:
    """A command stands still while the block runs, so that it cannot end meanwhile."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def wait_for_step(var: Path, name: str) -> None:
    """Wait until the running change of versions has begun a step."""
    deadline = time.monotonic() + 60
    while (last := entries(var)[-1]).state is not State.RUNNING or name not in [step.name for step in last.steps[-1:]]:
        assert time.monotonic() < deadline, last
        time.sleep(0.01)
