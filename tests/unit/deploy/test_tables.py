"""Every table of `deploy` is readable in an 80-column terminal, with long names, runs and reasons."""

import io
import re

import pytest
from rich.console import Console
from rich.table import Table

from deploy.history import history_table
from deploy.models import RegisteredVersion, models_table
from deploy.store.journal import JournalEntry, State, Step
from deploy.store.profile import Measurement
from deploy.tune import measurements_table

NAME, VERSION, RUN = "oxford-iiit-pets-without-backgrounds", "123456.123456.7", "20261121-064536-prune-crossvalidated"
DIGEST = "97c92eb76b1f"
MODELS = [
    RegisteredVersion(NAME, VERSION, True, 15, 16, DIGEST + "0" * 52, RUN),
    RegisteredVersion("a", "1.0", False, 0, 1, None, None),
]
STEPS = ("check", "register", "goldens", "latency", "default", "drain", "keep")
ENTRY = JournalEntry(
    id="000017-rollout",
    action="rollout",
    name=NAME,
    version=VERSION,
    who="administrator@classrooms",
    pid=4711,
    started="2026-11-26T14:00:00+00:00",
    state=State.REFUSED,
    seconds=123.45,
    steps=tuple(Step(name, 12.34) for name in STEPS),
    previous="123456.123456.6",
    why="corrections of May, and the photos of the new building",
    error=f"{NAME} {VERSION} is too slow: 123.4 ms, 123456.123456.6 61.7 ms: 2.00 x, at most 1.5 x",
)
MEASUREMENTS = [Measurement(128, 128, 8, 5, 1234.56, 12345.67, 12345.6, 123456.78, 1234)]
HISTORY_TEXTS = (
    "2026-11-26 14:00:00",
    "rollout",
    f"{NAME} {ENTRY.previous} -> {VERSION}",
    f"refused 123.45 s, by {ENTRY.who}",
    f"reason: {ENTRY.why}",
    ", ".join(f"{name} 12.34 s" for name in STEPS),
    str(ENTRY.error),
)


@pytest.mark.parametrize(
    ("table", "texts"),
    [
        (models_table(MODELS), (f"{NAME} {VERSION}", "yes", "15 of 16", DIGEST, RUN, "0 of 1", "unknown")),
        (history_table([ENTRY]), HISTORY_TEXTS),
        (
            measurements_table(MEASUREMENTS),
            ("workers threads batch ms", "128", "1234.56", "12345.67", "12345.6", "123456.78", "1234"),
        ),
    ],
    ids=["models", "history", "tune"],
)
def test_nothing_is_cut_in_80_columns(table: Table, texts: tuple[str, ...]) -> None:
    printed = io.StringIO()
    Console(width=80, file=printed).print(table)
    lines = printed.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in printed.getvalue()
    rows = [re.split("[┃│]", line) for line in lines if line[0] not in "┏┡└"]
    contents = ["".join("".join(cells).split()) for cells in zip(*rows, strict=True)]
    for text in texts:
        assert any("".join(text.split()) in content for content in contents), text
