"""What differs between two runs: photos, scores, package versions, recipe."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from common.console import compact_table
from common.errors import InvalidInput
from config.recipe import Recipe
from training.data.selection import Fingerprint
from training.records.index import Run, State
from training.records.run import RunRecord

ALWAYS = ("data", "validation", "mean_accuracy", "mean_accuracy_95", "seconds")
"""Keys that are shown even if they are equal."""


@dataclass(frozen=True)
class Difference:
    """One key of two runs; None where a run has no value."""

    key: str
    values: tuple[Any, Any]

    @property
    def same(self) -> bool:
        return bool(self.values[0] == self.values[1])

    def as_json(self) -> dict[str, Any]:
        return {"key": self.key, "values": list(self.values), "same": self.same}


def compare_runs(first: Run, second: Run) -> list[Difference]:
    """What differs, and the keys that matter even if they are equal.

    Raises:
        InvalidInput: one of the runs is not complete.
    """
    sides = [_flat(run) for run in (first, second)]
    rows = [Difference(key, (sides[0].get(key), sides[1].get(key))) for key in dict.fromkeys([*sides[0], *sides[1]])]
    return [row for row in rows if row.key in ALWAYS or not row.same]


def as_table(first: Run, second: Run, rows: list[Difference]) -> Table:
    """The differences as a table for a terminal of 80 columns."""
    table = compact_table()
    table.add_column("", no_wrap=True)
    for title in (str(first.folder), str(second.folder)):
        table.add_column(title, overflow="fold")
    table.add_column("")
    for row in rows:
        table.add_row(*map(Text, (row.key, *map(cell, row.values), "same" if row.same else "differs")))
    return table


def cell(value: Any) -> str:
    """A value of run.json in a table: text as it is, None empty, anything else as JSON."""
    if isinstance(value, str) or value is None:
        return value or ""
    return json.dumps(value, ensure_ascii=False)


def _flat(run: Run) -> dict[str, Any]:
    """A run by dotted keys; photos as counts and the start of their digest."""
    if run.record is None or run.recipe is None or run.state is not State.COMPLETE:
        raise InvalidInput(f"{run.folder} is {run.state}", "compare complete runs")
    return _flat_record(run.record, run.recipe)


def _flat_record(record: RunRecord, recipe: Recipe) -> dict[str, Any]:
    content = record.as_json()
    prints = {name: getattr(record.inputs, name) for name in ("data", "validation", "extra")}
    flat: dict[str, Any] = {name: _photos(value) for name, value in prints.items() if value is not None}
    scores = _leaves(content.get("metrics") or {})
    flat |= {key: value for key, value in scores if not key.endswith(("confusion", "labels"))}
    flat |= {key: content.get(key) for key in ("seconds", "parent", "commit", "python")}
    sections = {key: content.get(key, {}) for key in ("gate", "after", "packages")}
    return flat | dict(_leaves({**sections, "recipe": recipe.model_dump(mode="json")}))


def _photos(value: Fingerprint) -> str:
    counts = value.photos if isinstance(value.photos, dict) else {"": value.photos}
    return f"{', '.join(f'{count} {label}'.strip() for label, count in counts.items())}; {value.sha256[:12]}"


def _leaves(content: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(content, dict):
        yield prefix, content
        return
    for key, value in content.items():
        yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
