"""Two runs beside each other: what differs in their photos, scores, packages and recipes."""

import json
from collections.abc import Iterator
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from common.errors import UserError
from training.records.index import Run, cell, console, dig


def compared(first: Run, second: Run) -> list[dict[str, Any]]:
    """What differs between two runs, and what one wants to see even where it does not.

    Returns:
        rows of `key`, `values` (of the first, of the second; None where it has none) and `same`.
    """
    sides = [_flat(first), _flat(second)]
    rows = [(key, [side.get(key) for side in sides]) for key in dict.fromkeys([*sides[0], *sides[1]])]
    always = ("data", "validation", "mean_accuracy", "mean_accuracy_95", "seconds")
    return [{"key": k, "values": v, "same": v[0] == v[1]} for k, v in rows if k in always or v[0] != v[1]]


def show_comparison(first: Run, second: Run, as_json: bool) -> None:
    """Print what differs.

    Raises:
        UserError: one of them is not complete.
    """
    for run in (first, second):
        if run.state != "complete":
            raise UserError(f"{run.folder} is {run.state}: compare complete runs")
    rows = compared(first, second)
    if as_json:
        click.echo(json.dumps({"runs": [first.id, second.id], "rows": rows}, indent=2, ensure_ascii=False))
        return
    table = Table("", str(first.folder), str(second.folder), "")
    for row in rows:
        table.add_row(*map(Text, (row["key"], *map(cell, row["values"]), "same" if row["same"] else "different")))
    console().print(table)
    if not all(row["same"] for row in rows if row["key"] == "validation"):
        click.echo("they were validated on different photos: a difference in accuracy may be the photos'", err=True)


def _flat(run: Run) -> dict[str, Any]:
    """A run by dotted keys, in the order in which one asks; photos as counts and a digest."""
    facts = run.facts
    flat: dict[str, Any] = {name: _photos(facts[name]) for name in ("data", "validation", "extra") if name in facts}
    scores = _leaves(facts.get("metrics") or {})
    flat |= {key: value for key, value in scores if not key.endswith(("confusion", "labels"))}
    flat |= {key: facts.get(key) for key in ("seconds", "parent", "commit", "python")}
    return flat | dict(
        _leaves({**{key: facts.get(key, {}) for key in ("gate", "after", "packages")}, "recipe": run.recipe})
    )


def _photos(prints: Any) -> str:
    counts = dig(prints, "photos")
    each = ", ".join(f"{count} {label}" for label, count in counts.items()) if isinstance(counts, dict) else "?"
    return f"{each}; {str(dig(prints, 'sha256'))[:12]}"


def _leaves(content: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(content, dict):
        yield prefix, content
        return
    for key, value in content.items():
        yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))
