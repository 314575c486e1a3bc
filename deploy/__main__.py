"""`python -m deploy`: one command a step. Imports no torch."""

import click

from deploy.archive import archive
from deploy.keys import token
from deploy.models import models
from deploy.predict import predict
from deploy.serve import serve


@click.group()
def main() -> None:
    """A bundle -> an archive -> a version that is registered, proven and answers."""


for command in (archive, serve, predict, models, token):
    main.add_command(command)

if __name__ == "__main__":
    main(prog_name="python -m deploy")
