"""The two consoles of every command: results on stdout, progress and notes on stderr."""

from rich import box
from rich.console import Console
from rich.table import Table

console = Console()
err_console = Console(stderr=True)


def say(text: str) -> None:
    """Print text to stdout as it is: no markup, no colours, no wrapping."""
    console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)


def note(text: str) -> None:
    """Print text to stderr as it is."""
    err_console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)


def compact_table(*titles: str, title: str | None = None) -> Table:
    """A table with little space between its columns, for terminals of 80 columns."""
    return Table(
        *titles,
        title=title,
        title_justify="left",
        box=box.SIMPLE,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        show_edge=False,
    )
