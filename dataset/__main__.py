"""`python -m dataset`: one command a step."""

import click

from dataset.sample import sample


@click.group()
def main() -> None:
    """Photos before any model sees them."""


main.add_command(sample)

if __name__ == "__main__":
    main(prog_name="python -m dataset")
