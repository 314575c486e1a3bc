"""Label photos on a local page: one at a time, a key for each label.

    python -m dataset label PHOTOS --recipe classroom

writes PHOTOS/labels.tsv after every decision; `dataset split` and `training train --data` read it. Run again,
it goes on where it stopped. `--folders OUT` copies the labelled photos into class folders as well. Only this
machine can open the page; two people may, in two tabs.
"""

import contextlib
import getpass
import shlex
import signal
import socket
import webbrowser
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import uvicorn

from common.cli import command
from common.errors import UserError
from config.recipe import Recipe, read_recipe
from dataset.labelling.assignments import Desk
from dataset.labelling.class_folders import ClassFolders
from dataset.labelling.decisions import Labelling
from dataset.labelling.lock import locked
from dataset.labelling.rows import list_photos
from dataset.labelling.server import LabelPage
from dataset.labelling.suggestions import Suggestions

MODELS = Path(__file__).parents[1] / "models"
LOCAL = "127.0.0.1"


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a process without a user entry, as in some containers
        return "somebody"


@command(epilog="Example: python -m dataset label runs/drawn --recipe shapes --check")
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--recipe", "name", default="classroom", show_default=True, help="Whose labels: a name or a path.")
@click.option("--table", type=click.Path(path_type=Path), help="Written after each decision. [default: DIR/labels.tsv]")
@click.option("--by", default=_login, show_default="login name", help="Who labels; can be changed on the page.")
@click.option("--model", type=click.Path(path_type=Path), help="A bundle to suggest. [default: models/RECIPE, if any]")
@click.option("--no-model", is_flag=True, help="Suggest nothing; photos come in order of their names.")
@click.option("--folders", type=click.Path(path_type=Path), help="Copy labelled photos to FOLDERS/LABEL as well.")
@click.option("--port", default=8090, show_default=True, type=click.IntRange(0, 65535), help="0: any free one.")
@click.option("--open/--no-open", "show", default=False, show_default=True, help="Open the page in a browser.")
@click.option("--check", is_flag=True, help="Read the folder and the table, print progress, do not serve.")
def label(
    folder: Path,
    name: str,
    table: Path | None,
    by: str,
    model: Path | None,
    no_model: bool,
    folders: Path | None,
    port: int,
    show: bool,
    check: bool,
) -> None:
    """Label the photos of DIR and its subfolders on a local page."""
    recipe = read_recipe(name)
    table = table or folder / "labels.tsv"
    suggestions = Suggestions(None if no_model else model or _shipped(recipe), recipe.labels)
    copies = ClassFolders(folders, folder, recipe.labels) if folders else None
    if check:
        click.echo(_told(Labelling(folder, table, recipe.labels, copies)))
        return
    list_photos(folder)  # refuses before the lock, which makes the table's folder
    with locked(table) as announce:
        labelling = Labelling(folder, table, recipe.labels, copies)
        with _listening(port) as listener:
            url = f"http://{LOCAL}:{listener.getsockname()[1]}"
            labelling.begin()
            announce(url)
            facts = {"by": " ".join(by.split()) or "somebody", "task": recipe.task, "table": str(table)}
            facts |= {"next": _next(name, table), "again": _again()}
            page = LabelPage(Desk(labelling, suggestions.rank), suggestions, facts, recipe.limits)
            _serve(page, listener, lambda: _greet(labelling, url, show))
    after = f"go on: {_again()}" if labelling.progress().left else f"next: {_next(name, table)}"
    click.echo(f"{labelling.progress()}: {table}; {after}")


def _serve(page: LabelPage, listener: socket.socket, greet: Callable[[], None]) -> None:
    """Serve until Ctrl-C or `kill`, which both end it cleanly from the moment that people are greeted."""
    server = uvicorn.Server(
        uvicorn.Config(page.app(), log_level="warning", lifespan="off", timeout_graceful_shutdown=2)
    )
    before = {number: signal.signal(number, server.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        greet()
        page.suggestions.start(
            (i, entry.path) for i, entry in enumerate(page.desk.labelling.entries) if entry.undecided
        )
        server.run(sockets=[listener])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        page.suggestions.stop()


@contextlib.contextmanager
def _listening(port: int) -> Iterator[socket.socket]:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((LOCAL, port))
            listener.listen()
        except OSError as error:
            raise UserError(
                f"port {port}: {error.strerror}: give another --port, or --port 0 for a free one"
            ) from error
        yield listener


def _greet(labelling: Labelling, url: str, show: bool) -> None:
    click.echo(f"{_told(labelling)}\n{url}   (Ctrl-C stops; every decision is in {labelling.table} at once)")
    if show:
        webbrowser.open(url)


def _shipped(recipe: Recipe) -> Path | None:
    bundle = MODELS / recipe.name
    return bundle if (bundle / "model.onnx").is_file() else None


def _told(labelling: Labelling) -> str:
    progress = labelling.progress()
    parts = [f"{count} {what}" for what, count in {**progress.labels, **progress.aside}.items()]
    return f"{labelling.folder}: {progress} ({', '.join(parts)}), {progress.left} left"


def _again() -> str:
    """The command that was typed."""
    context = click.get_current_context()
    words = ["python", "-m", "dataset", "label"]
    for parameter in context.command.params:
        name = parameter.name or ""
        value = context.params[name]
        if isinstance(parameter, click.Argument):
            words.append(str(value))
        elif context.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE:
            flags = parameter.opts if value is not False else parameter.secondary_opts
            words += flags[:1] if isinstance(value, bool) else [flags[0], str(value)]
    return shlex.join(words)


def _next(name: str, table: Path) -> str:
    return shlex.join(["python", "-m", "dataset", "split", str(table), "--recipe", name])
