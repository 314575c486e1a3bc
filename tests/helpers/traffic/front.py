"""nginx in front of nodes, for tests; they skip where it is not installed."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from deploy.settings import FrontSettings, Settings
from deploy.supervision import front
from tests.helpers.waiting import eventually
from traffic.front import tokens
from traffic.front.nodes import Node
from traffic.front.program import Front

needs_nginx = pytest.mark.skipif(front.nginx() is None, reason="nginx is not installed: apt-get install nginx-light")


@contextmanager
def running_front(settings: Settings, behind: tuple[Node, ...] = (), **options: Any) -> Iterator[Front]:
    """A front that answers, with its first token made.

    Args:
        behind: its nodes; none: those of the settings.
        options: of `FrontSettings`.
    """
    chosen = replace(settings, front=FrontSettings(on=True, **options))
    with Front(chosen, ready=lambda node: True, behind=behind) as running:
        running.once()
        eventually(lambda: running.nginx.master() is not None)
        yield running


@contextmanager
def following(front: Front) -> Iterator[None]:
    """What the front's program does twice in a second, while the block runs."""
    over = threading.Event()

    def follow() -> None:
        while not over.wait(0.1):
            front.once()

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def bearer(running: Front) -> dict[str, str]:
    """The header with the token of the client "default"."""
    return {"Authorization": f"Bearer {tokens.read(running.settings.var)[tokens.FIRST]}"}
