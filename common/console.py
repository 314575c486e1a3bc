"""The two consoles of every command: results on stdout, progress and notes on stderr."""

from rich.console import Console

console = Console()
err_console = Console(stderr=True)
