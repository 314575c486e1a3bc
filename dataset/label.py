"""Label photos on a local page: one at a time, a key for each label.

    python -m dataset label PHOTOS --recipe classroom

writes PHOTOS/labels.tsv after every decision; `dataset split` and `training train --data` read it. If you run the
command again, it continues where you stopped. Photos that show none of the classes get the label `no_class` (key n).
`--folders OUT` also copies the labelled photos into class folders.
The page can be opened on this machine only. Two people can label at the same time, in two tabs.
"""

import contextlib
import getpass
import math
import os
import signal
import socket
import sys
import threading
import time
import webbrowser
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import uvicorn
from filelock import FileLock, Timeout

from common.cli import command
from common.commands import WALK, next_step, pasteable
from common.errors import Busy, InvalidInput
from common.files import writing
from config.recipe import NO_CLASS, Recipe, read_recipe
from dataset.labelling.assignments import AssignmentQueue
from dataset.labelling.class_folders import ClassFolders
from dataset.labelling.decisions import Labelling
from dataset.labelling.entries import list_photos
from dataset.labelling.server import LabelPage, PageInfo
from dataset.labelling.suggestions import Suggestions
from dataset.tables import refused_by

_WRITE_FIX = "free some disk space, or give another --table"
MODELS = Path(__file__).parents[1] / "models"
LOCAL = "127.0.0.1"
_UNDO_S = 4.0
"""After the last decision, time to undo it before --until-done ends the page."""


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a process without a user entry, as in some containers
        return "somebody"


@command(epilog="Example: python -m dataset label runs/drawn --recipe shapes --check")
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--recipe", "name", default="classroom", show_default=True, help="Recipe with the labels: name or path.")
@click.option("--table", type=click.Path(path_type=Path), help="Table of labels.  [default: DIR/labels.tsv]")
@click.option("--by", default=_login, show_default="login name", help="Who labels; can be changed on the page.")
@click.option(
    "--model", type=click.Path(path_type=Path), help="Bundle for suggestions.  [default: models/RECIPE, if any]"
)
@click.option("--no-model", is_flag=True, help="No suggestions; show the photos in the order of their names.")
@click.option("--folders", type=click.Path(path_type=Path), help="Also copy labelled photos to FOLDERS/LABEL.")
@click.option("--port", default=8090, show_default=True, type=click.IntRange(0, 65535), help="0: any free port.")
@click.option("--open/--no-open", "show", default=False, show_default=True, help="Open the page in a browser.")
@click.option(
    "--audit",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Show only what this table of dataset audit calls ok.",
)
@click.option("--until-done", is_flag=True, help="End by itself when no photo is left.")
@click.option("--check", is_flag=True, help="Only read the folder and the table, and print the progress.")
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
    audit: Path | None,
    until_done: bool,
    check: bool,
) -> None:
    """Label the photos of DIR and its subfolders on a local page."""
    recipe = read_recipe(name)
    table = table or folder / "labels.tsv"
    if table.suffix in (".csv", ".txt", ".xlsx"):
        new = table.with_suffix(".tsv")
        convert = f"save {table.name} as tab-separated text and " if table.exists() else ""
        raise InvalidInput(f"--table {table}: tables are separated by tabs", f"{convert}give {new}")
    suggestions = Suggestions(None if no_model else model or _shipped(recipe), recipe.labels)
    labels = (*recipe.labels, NO_CLASS)
    copies = ClassFolders(folders, folder, labels) if folders else None
    files = [(folder / file).resolve() for file in list_photos(folder, table, folders)] if audit else ()
    refused = refused_by(audit, files)
    if check:
        click.echo(_summary(Labelling(folder, table, labels, copies, refused)))
        return
    list_photos(folder)  # fails before the lock creates the table's folder
    with locked(table) as announce:
        labelling = Labelling(folder, table, labels, copies, refused)
        with _listening(port) as listener:
            url = f"http://{LOCAL}:{listener.getsockname()[1]}"
            labelling.begin()
            announce(url)
            by = " ".join(by.split()) or "somebody"
            info = PageInfo(recipe.task, by, str(table), again=_typed_command(), next=_next_command(name, table))
            page = LabelPage(AssignmentQueue(labelling, suggestions.rank), suggestions, info, recipe.limits)
            _serve(page, listener, lambda: _announce(labelling, url, show), until_done)
    progress = labelling.progress()
    after = f"; continue with: {_typed_command()}" if progress.left and WALK not in os.environ else ""
    click.echo(f"{progress}: {table}{after}")
    if not progress.left:
        next_step(*_next_words(name, table))


@contextlib.contextmanager
def locked(table: Path) -> Iterator[Callable[[str], None]]:
    """Lock a table against a second server. The lock ends with this process, even after kill -9.

    Yields:
        a function that writes the address of this server into the lock file, for the second one's message.

    Raises:
        Busy: another process is labelling into it.
        CannotWrite: its folder cannot be written.
    """
    path = table.with_name(f".{table.name}.lock")
    # A soft lock, filelock's fallback where the file system has no flock, would outlive a killed process.
    lock = FileLock(path, fallback_to_soft=False)

    def announce(url: str) -> None:
        path.write_text(f"process {os.getpid()} {url}".strip(), encoding="utf-8")

    with writing(table, _WRITE_FIX):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0.2, poll_interval=0.05)  # long enough if the file is being removed by its last owner
        except Timeout as error:
            owner = path.read_text(encoding="utf-8", errors="replace") or "another process"
            raise Busy(
                f"{table} is being labelled by {owner}", "open that page, stop it, or give another --table"
            ) from error
    try:
        with writing(table, _WRITE_FIX):
            announce("")
        yield announce
    finally:
        with contextlib.suppress(OSError):  # of a folder that became read-only; the lock itself ends all the same
            path.unlink()
        lock.release()


def _serve(page: LabelPage, listener: socket.socket, announce: Callable[[], None], until_done: bool) -> None:
    """Serve until Ctrl-C or `kill`, which stop it cleanly from the moment that the address is printed.

    Args:
        until_done: also stop when no photo has been left for `_UNDO_S`.
    """
    server = uvicorn.Server(
        uvicorn.Config(page.app(), log_level="warning", lifespan="off", timeout_graceful_shutdown=2)
    )
    before = {number: signal.signal(number, server.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        announce()
        page.suggestions.start(
            (i, entry.path) for i, entry in enumerate(page.queue.labelling.entries) if entry.undecided
        )
        if until_done:
            threading.Thread(target=_end_when_done, args=(server, page.queue.labelling), daemon=True).start()
        server.run(sockets=[listener])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        page.suggestions.stop()


def _end_when_done(server: uvicorn.Server, labelling: Labelling) -> None:
    done_since = math.inf
    while not server.should_exit:
        done_since = math.inf if labelling.progress().left else min(done_since, time.monotonic())
        server.should_exit = time.monotonic() - done_since > _UNDO_S
        time.sleep(0.2)


@contextlib.contextmanager
def _listening(port: int) -> Iterator[socket.socket]:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((LOCAL, port))
            listener.listen()
        except OSError as error:
            raise Busy(
                f"port {port} cannot be used: {error.strerror}", "give another --port, or --port 0 for a free one"
            ) from error
        yield listener


def _announce(labelling: Labelling, url: str, show: bool) -> None:
    click.echo(f"{_summary(labelling)}\n{url}   (Ctrl-C stops; every decision is saved to {labelling.table} at once)")
    if show:
        webbrowser.open(url)


def _shipped(recipe: Recipe) -> Path | None:
    bundle = MODELS / recipe.name
    return bundle if (bundle / "model.onnx").is_file() else None


def _summary(labelling: Labelling) -> str:
    progress = labelling.progress()
    counts = [f"{count} {name}" for name, count in {**progress.by_label, **progress.by_reason}.items()]
    return f"{labelling.folder}: {progress} ({', '.join(counts)}), {progress.left} left"


def _typed_command() -> str:
    """This command with the options that were given, also when it was started as `photoloop dataset label`."""
    start = sys.argv.index("label") if "label" in sys.argv else 1
    return pasteable("dataset", *sys.argv[start:])


def _next_words(name: str, table: Path) -> list[str]:
    return ["dataset", "stats", str(table), "--recipe", name]


def _next_command(name: str, table: Path) -> str:
    return "nothing to type: the terminal goes on" if WALK in os.environ else pasteable(*_next_words(name, table))
