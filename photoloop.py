"""The command `photoloop`, which `make install` puts into `.venv/bin`.

    photoloop deploy status

does what `python -m deploy status` does, from any folder. A package is imported only when one of its commands runs.
"""

import importlib

import click

from common.cli import CommandGroup


class Photoloop(CommandGroup):
    """One group per package: `photoloop PACKAGE COMMAND`."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.summaries:
            return None
        group: click.Command = importlib.import_module(f"{cmd_name}.__main__").main
        return group


main = Photoloop(
    "photoloop",
    {
        "retrain": "From photos to a packed version: every step, resumable.",
        "dataset": "Fetch, audit, label and split photos.",
        "training": "Train, prune, evaluate and export a model.",
        "deploy": "Pack a model, serve it, and replace the version that is served.",
        "feedback": "Let people upload photos and correct answers; learn from them at night.",
        "reports": "Score millions of photos, and report the share of a label by region and week.",
        "traffic": "The front for clients, and a new version that gets a growing share of the requests.",
    },
)
main.help = "Photoloop: from labelled photos to a served image classifier."

if __name__ == "__main__":
    main(prog_name="python -m photoloop")
