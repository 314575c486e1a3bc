"""The command line: one group per package, commands imported when they run, expected errors on one line.

`python -m deploy --help` lists a package's commands without importing torch. A `UserError` raised anywhere
below a command is printed as `Error: ...` and ends it with exit code 1, as is a missing package
(`make serve` installs only what serving needs).
"""

import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click

from common.errors import UserError
from common.words import nearest

ROOT = Path(__file__).resolve().parent.parent
"""The project's folder."""


class Command(click.Command):
    """A command that reports a `UserError` as one line, whether it runs alone or in a group."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        with _as_click_errors():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with _as_click_errors():
            return super().invoke(ctx)


def command(**attributes: Any) -> Callable[[Callable[..., Any]], Command]:
    """Decorate a function as a command; `attributes` are those of `click.command`."""
    return click.command(cls=Command, **attributes)


class _OneLineErrors(click.Command):
    """Wrong arguments are one line and exit 1, like every other expected error."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """As click's, but for the errors."""
        if not extra.pop("standalone_mode", True):
            return super().main(*args, **extra, standalone_mode=False)  # type: ignore[call-overload]
        try:
            code = super().main(*args, **extra, standalone_mode=False)  # type: ignore[call-overload]
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message())
            sys.exit(0)
        except click.UsageError as error:
            path = error.ctx.command_path if error.ctx else f"python -m {self.name}"
            click.echo(
                f"Error: {error.format_message()} {_elsewhere(error.format_message())}See {path} --help", err=True
            )
            sys.exit(1)
        except click.ClickException as error:
            error.show()
            sys.exit(error.exit_code)
        except click.Abort:
            click.echo("interrupted", err=True)
            sys.exit(1)
        sys.exit(code if isinstance(code, int) else 0)


class Program(_OneLineErrors, Command):
    """A package that is one command: `python -m PACKAGE`."""


class CommandGroup(_OneLineErrors, click.Group):
    """`python -m PACKAGE NAME` runs the function `NAME` of `PACKAGE/NAME.py`.

    A hyphen in a command's name is `_` in the names of its function and module.

    Args:
        package: the package.
        commands: command name -> its line in the package's --help.
        modules: command name -> module, where a module holds more than one command.
    """

    def __init__(self, package: str, commands: Mapping[str, str], modules: Mapping[str, str] | None = None) -> None:
        super().__init__(name=package)
        self.package = package
        self.summaries = commands
        self.modules = modules or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.summaries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.summaries:
            return None
        function = cmd_name.replace("-", "_")
        with _as_click_errors():
            module = importlib.import_module(f"{self.package}.{self.modules.get(cmd_name, function)}")
        loaded: click.Command = getattr(module, function)
        return loaded

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(self.summaries.items()))


def _elsewhere(message: str) -> str:
    """Where the file is that was not found: below the project's folder, if a command was pasted elsewhere, or beside
    a misspelt name."""
    match = re.search(r"'([^']+)' does not exist", message)
    if match is None:
        return ""
    path = Path(match[1])
    if (ROOT / path).exists():
        return f"{ROOT / path} does: give that, or run this in {ROOT}. "
    beside: list[str] = []
    with suppress(OSError):  # there is no such folder, or it may not be listed
        beside = [entry.name for entry in path.parent.iterdir()]
    near = nearest(path.name, beside)
    return f"Did you mean {path.parent / near}? " if near else ""


@contextmanager
def _as_click_errors() -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise click.ClickException(error.message) from error
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if not package or importlib.util.find_spec(package):
            raise
        raise click.ClickException(f"{package} is not installed: run make install") from error
