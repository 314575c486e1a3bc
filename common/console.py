"""The two consoles of every command: results on stdout, progress and notes on stderr."""

from rich.console import Console

console = Console()
err_console = Console(stderr=True)


def say(text: str) -> None:
    """Print text to stdout as it is: no markup, no colours, no wrapping."""
    console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)


def note(text: str) -> None:
    """Print text to stderr as it is."""
    err_console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)
