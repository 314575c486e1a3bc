"""`python -m training`: one command a step, each reads a folder and writes a folder."""

import importlib
from typing import Any

import click

STEPS = {
    "train": "Train a model on labelled photos.",
    "prune": "Set a share of a run's weights to zero and fine-tune what is left.",
    "evaluate": "Measure a run or a bundle: accuracy by class, confusion, latency.",
    "export": "Turn a run into a bundle that can be packed: one-file ONNX, goldens, gate.",
    "crossvalidate": "Train, prune and export on all but one group of sources, test on it, in turn.",
}


class Steps(click.Group):
    """Imports a step when it is asked for, so that --help does not wait for torch."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(STEPS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in STEPS:
            return None
        command: click.Command = getattr(importlib.import_module(f"training.{cmd_name}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(STEPS.items()))


@click.command(cls=Steps)
def main() -> None:
    """Labelled photos -> a candidate: train, prune, evaluate, export."""


if __name__ == "__main__":
    main(prog_name="python -m training")
