"""A room's commands, one module each, imported when one is asked for: `--help` does not wait for torch."""

import importlib
import sys
from collections.abc import Mapping
from typing import Any

import click


class Steps(click.Group):
    """`python -m ROOM STEP`: STEP is the function `STEP` of `ROOM/STEP.py`, or of the module that is named.

    A hyphen in a step's name is `_` in the function's and the module's.

    Args:
        room: the package.
        steps: name of a step -> its one line in the room's --help.
        modules: where a step's module is not named after it.
    """

    def __init__(self, room: str, steps: Mapping[str, str], modules: Mapping[str, str] | None = None) -> None:
        super().__init__(name=room)
        self.room = room
        self.steps = steps
        self.modules = modules or {}

    def main(self, *args: Any, **extra: Any) -> Any:
        """As click's, but what is wrong with the arguments is one line and exit 1, as every other failure."""
        if not extra.pop("standalone_mode", True):
            return super().main(*args, **extra, standalone_mode=False)  # type: ignore[call-overload]
        try:
            code = super().main(*args, **extra, standalone_mode=False)  # type: ignore[call-overload]
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message())
            sys.exit(0)
        except click.UsageError as error:
            path = error.ctx.command_path if error.ctx else f"python -m {self.room}"
            click.echo(f"Error: {error.format_message()} See {path} --help", err=True)
            sys.exit(1)
        except click.ClickException as error:
            error.show()
            sys.exit(error.exit_code)
        except click.Abort:
            click.echo("interrupted", err=True)
            sys.exit(1)
        sys.exit(code if isinstance(code, int) else 0)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.steps)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.steps:
            return None
        function = cmd_name.replace("-", "_")
        module = importlib.import_module(f"{self.room}.{self.modules.get(cmd_name, function)}")
        command: click.Command = getattr(module, function)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(self.steps.items()))
