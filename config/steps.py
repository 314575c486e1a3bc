"""A room's commands, one module each, imported when one is asked for: `--help` does not wait for torch."""

import importlib
from collections.abc import Mapping

import click


class Steps(click.Group):
    """`python -m ROOM STEP`: STEP is the function `STEP` of `ROOM/STEP.py`, or of the module that is named.

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

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.steps)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.steps:
            return None
        module = importlib.import_module(f"{self.room}.{self.modules.get(cmd_name, cmd_name)}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(self.steps.items()))
