"""A Chromium without windows, driven by Playwright; tests that need it skip where it is not installed."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

# The first one has no code for windows and takes half of the computing of the others.
NAMES = ("chromium-headless-shell", "chromium", "chromium-browser")


@contextmanager
def running_browser() -> Iterator[Any]:
    """A browser of Playwright's synchronous API."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: run make test")
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(f"no Chromium here: apt-get install {NAMES[0]}")
    with sync_api.sync_playwright() as play:
        running = play.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield running
        running.close()
