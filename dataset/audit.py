"""Which files of a folder can be used: each is decoded whole, and gets a verdict and its reason in a table.

    python -m dataset audit PHOTOS                       # writes PHOTOS/audit.tsv, touches nothing else
    python -m dataset audit PHOTOS --move-to REJECTED    # then moves all that is not ok, keeping folders

Columns: path (relative to the table), verdict, reason, format and mode (as stored), size (WIDTHxHEIGHT in pixels,
upright as EXIF says), bytes, sha256, phash (perceptual hash). Verdicts, the first that holds:

    not_a_photo       no still picture that serving takes: gif, mp4, html, psd, heic, animated ...
    too_large         more bytes or pixels than the recipe's limits: refused before it is decoded
    truncated         its end is missing: no end marker, or shorter than its header says
    corrupt           damaged inside, unreadable, or its decoder crashed
    too_small         decoded, but its shorter side is below --min-side
    exact_duplicate   the same bytes as another
    near_duplicate    the same picture as another (`dataset.auditing.duplicates`)
    ok

Stopped by Ctrl-C or kill -9, it goes on from the journal beside the table (.audit.tsv.partial) when run again.
"""

import filecmp
import os
import shlex
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.progress import track

from common.cli import command
from common.errors import UserError
from config.recipe import Recipe, read_recipe
from dataset.auditing.duplicates import duplicates
from dataset.auditing.inspect import MIN_SIDE, Facts, inspect_all, inspector
from dataset.auditing.journal import Journal
from dataset.contact_sheet import printable
from dataset.files import files_of
from dataset.tables import Row, read_rows, write_rows

COLUMNS = ("path", "verdict", "reason", "format", "mode", "size", "bytes", "sha256", "phash")
VERDICTS = (
    "ok",
    "not_a_photo",
    "too_large",
    "truncated",
    "corrupt",
    "too_small",
    "exact_duplicate",
    "near_duplicate",
)
MINIMUM = 500
"""The document's least number of photos (section 6.3, its demands on the data)."""
EXAMPLES = 10
_MOVED = "; moved to "


@command(epilog="Example: python -m dataset audit runs/drawn --recipe shapes")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="The table.  [default: FOLDER/audit.tsv]")
@click.option("--recipe", "name", default="classroom", show_default=True, help="Whose limits hold.")
@click.option("--min-side", default=MIN_SIDE, show_default=True, type=click.IntRange(1), help="Least shorter side, px.")
@click.option("--move-to", type=click.Path(file_okay=False, path_type=Path), help="Move what is not ok there.")
def audit(folder: Path, out: Path | None, name: str, min_side: int, move_to: Path | None) -> None:
    """Decode each file of FOLDER whole and say in a table what is wrong with it. Nothing is moved unless asked."""
    recipe, out = read_recipe(name), out or folder / "audit.tsv"
    if move_to is not None and move_to.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"--move-to {move_to} lies in {folder}: give a folder outside of it")
    _moved_before(out)  # first of all: --out may name a table that is not ours to replace
    journal = Journal(out, {"folder": str(folder.resolve()), "min_side": min_side, **_limits(recipe)})
    try:
        if journal.plan and move_to is not None:
            click.echo(f"{out}: going on with the {len(journal.plan)} moves of the run that was stopped")
        else:
            _audit(folder, out, recipe, min_side, move_to, journal)
        _carry_out(journal.plan)
    except KeyboardInterrupt:
        raise UserError("stopped: run the same command again to go on") from None
    finally:
        journal.close()
        if not (journal.known or journal.plan):
            journal.remove()
    journal.remove()
    _tell(read_rows(out), folder, out, name)


def _audit(folder: Path, out: Path, recipe: Recipe, min_side: int, move_to: Path | None, journal: Journal) -> None:
    """Inspect, judge, write the table and plan the moves."""
    journal.plan = []
    paths = _listed(folder, out)
    facts = _inspected(folder, paths, journal, inspector(recipe.limits, min_side))
    rows = _rows(paths, facts, out)
    plan: list[tuple[str, str]] = []
    for path, row in zip(paths, rows, strict=True):
        if move_to is not None and row["verdict"] != "ok":
            target = _free(move_to / path.relative_to(folder), {target for _, target in plan})
            plan.append((str(path.absolute()), str(target)))
            row["reason"] += f"{_MOVED}{target}"
    write_rows(out, COLUMNS, [*rows, *_moved_before(out)])
    if plan:
        journal.add_plan(plan)


def _listed(folder: Path, out: Path) -> list[Path]:
    try:
        paths = [path for path in files_of(folder) if path.absolute() != out.absolute()]
    except OSError as error:
        raise UserError(f"{error.filename} cannot be listed: {error.strerror}") from error
    if not paths:
        raise UserError(f"{folder}: no file to audit: give a folder of photos")
    return paths


def _inspected(folder: Path, paths: Sequence[Path], journal: Journal, inspect: Callable[[Path], Facts]) -> list[Facts]:
    """Facts of each path, from the journal where file and time are the same."""
    keys = [_key(folder, path) for path in paths]
    new = [index for index, key in enumerate(keys) if key not in journal.known]
    if len(new) < len(paths):
        click.echo(f"{len(paths) - len(new)} of {len(paths)} files are known from the run that was stopped", err=True)
    found = inspect_all([paths[index] for index in new], inspect)
    console = Console(stderr=True)
    for place, facts in track(found, "decoding", total=len(new), console=console, transient=True):
        journal.add(keys[new[place]], facts)
    return [journal.known[key] for key in keys]


def _key(folder: Path, path: Path) -> tuple[str, int, int]:
    try:
        status = path.stat()
    except OSError:  # gone since it was listed: the inspection says so
        return path.relative_to(folder).as_posix(), 0, 0
    return path.relative_to(folder).as_posix(), status.st_size, status.st_mtime_ns


def _rows(paths: Sequence[Path], facts: Sequence[Facts], out: Path) -> list[Row]:
    names = [Path(os.path.relpath(path, out.parent)).as_posix() for path in paths]
    twice = duplicates(names, facts)
    rows = []
    for index, (name, fact) in enumerate(zip(names, facts, strict=True)):
        verdict, reason, _ = twice.get(index, (fact.verdict, fact.reason, 0))
        size = f"{fact.width}x{fact.height}" if fact.width else ""
        row = {"path": name, "verdict": verdict, "reason": reason, "size": size, "bytes": str(fact.bytes)}
        rows.append({**row, **{key: getattr(fact, key) for key in ("format", "mode", "sha256", "phash")}})
    return rows


def _moved_before(out: Path) -> list[Row]:
    """Rows of files that an earlier run moved away: the table still says where they are."""
    rows = read_rows(out, COLUMNS) if out.is_file() else []
    return [row for row in rows if _MOVED in row["reason"] and not os.path.lexists(out.parent / row["path"])]


def _free(target: Path, taken: set[str]) -> Path:
    """A name that nobody has, numbered if needed: nothing is overwritten."""
    number, free = 1, target.absolute()
    while str(free) in taken or os.path.lexists(free):
        free = target.absolute().with_name(f"{target.stem}-{number}{target.suffix}")
        number += 1
    return free


def _carry_out(plan: Sequence[tuple[str, str]]) -> None:
    for source, target in plan:
        try:
            _move(Path(source), Path(target))
        except OSError as error:
            raise UserError(
                f"{source} cannot be moved to {target}: {error.strerror}: make room, then run again to go on"
            ) from error


def _move(source: Path, target: Path) -> None:
    """Move a file whole, also to another disk; done already is no error, and nothing is overwritten."""
    if not os.path.lexists(source):
        return
    if os.path.lexists(target):
        if not filecmp.cmp(source, target, shallow=False):
            raise FileExistsError(0, "another file is there", str(target))
        source.unlink()  # stopped between copying and removing
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        source.rename(target)
    except OSError:  # another disk: whole beside its place first, as `write_whole`
        beside = target.with_name(f".{target.name}.partial")
        shutil.copy2(source, beside, follow_symlinks=False)
        beside.replace(target)
        source.unlink()


def _limits(recipe: Recipe) -> dict[str, int]:
    return {"bytes": recipe.limits.bytes, "pixels": recipe.limits.pixels}


def _tell(rows: Sequence[Row], folder: Path, out: Path, recipe: str) -> None:
    gone = [row for row in rows if _MOVED in row["reason"]]
    found = Counter(row["verdict"] for row in rows)
    for verdict in VERDICTS:
        if found[verdict]:
            click.echo(f"{found[verdict]:7d}  {verdict}")
    for row in _examples(rows):
        click.echo(printable(f"  {row['path']}: {row['verdict']}: {row['reason']}"))
    if found["ok"] < MINIMUM:
        click.secho(f"the document asks for at least {MINIMUM} photos: {found['ok']} are usable", fg="yellow", err=True)
    click.echo(f"{out}: verdict and reason of {len(rows)} files" + (f", {len(gone)} moved away" if gone else ""))
    click.echo(printable(f"next: python -m dataset stats {shlex.quote(str(folder))} --recipe {recipe}"))


def _examples(rows: Sequence[Row]) -> list[Row]:
    """A few of each fault rather than many of the first."""
    seen: Counter[str] = Counter()
    ranked = []
    for row in rows:
        if row["verdict"] != "ok":
            seen[row["verdict"]] += 1
            ranked.append((seen[row["verdict"]], row))
    return [row for _, row in sorted(ranked, key=lambda pair: pair[0])][:EXAMPLES]
