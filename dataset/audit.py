"""Check which files of a folder are usable photos: decode each completely, and write a table of verdicts.

    python -m dataset audit PHOTOS                       # writes PHOTOS/audit.tsv and changes nothing else
    python -m dataset audit PHOTOS --move-to REJECTED    # also moves every file that is not ok, keeping subfolders

Columns: path (relative to the table), verdict, reason, format and mode (as stored), size (WIDTHxHEIGHT in pixels,
upright according to EXIF), bytes, sha256, phash (perceptual hash). The verdict is the first that applies:

    not_a_photo       not a still image in a format that serving accepts: GIF, MP4, HTML, PSD, HEIC, animated ...
    unsupported       sound, but in a variant that serving does not decode: 12-bit JPEG, CIELAB TIFF; convert it
    too_large         more bytes or pixels than the recipe's limits; not decoded
    truncated         the end is missing: no end marker, or shorter than the header says
    corrupt           damaged inside, unreadable, or the decoder crashed
    too_small         the shorter side is below --min-side
    exact_duplicate   has the same bytes as another file
    near_duplicate    shows the same as another file (`dataset.auditing.duplicates`)
    ok

The reason of a duplicate also names its label and that of the photo that is kept, if they differ.

If it is stopped by Ctrl-C or kill -9, run it again: it continues from the journal next to the table
(.audit.tsv.partial), and audits files that were added or replaced meanwhile.
"""

import filecmp
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import click
from rich.progress import track

from common.cli import command
from common.commands import next_step
from common.console import err_console
from common.errors import CannotWrite, InvalidInput, NotFound, UserError
from common.files import copy_whole, legal_name
from common.words import number_of
from config.recipe import NO_CLASS, Recipe, read_recipe
from dataset.auditing.duplicates import duplicates
from dataset.auditing.inspect import MIN_SIDE, Facts, inspect_all, inspector
from dataset.auditing.journal import Journal
from dataset.contact_sheet import printable
from dataset.listing import list_files
from dataset.photos import is_labelled, read_photos
from dataset.tables import Row, read_rows, write_rows

COLUMNS = ("path", "verdict", "reason", "format", "mode", "size", "bytes", "sha256", "phash")
VERDICTS = (
    "ok",
    "not_a_photo",
    "unsupported",
    "too_large",
    "truncated",
    "corrupt",
    "too_small",
    "exact_duplicate",
    "near_duplicate",
)
MINIMUM = 500
"""Minimum number of photos that the classroom document requires (section 6.3)."""
EXAMPLES = 10
_LABELLED = "; labelled "
_MOVED = "; moved to "


@command(epilog="Example: python -m dataset audit runs/drawn --recipe shapes")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Table to write.  [default: FOLDER/audit.tsv]"
)
@click.option("--recipe", "name", default="classroom", show_default=True, help="Recipe with the limits.")
@click.option(
    "--min-side", default=MIN_SIDE, show_default=True, type=click.IntRange(1), help="Minimum shorter side, pixels."
)
@click.option(
    "--move-to", type=click.Path(file_okay=False, path_type=Path), help="Move files that are not ok to this folder."
)
def audit(folder: Path, out: Path | None, name: str, min_side: int, move_to: Path | None) -> None:
    """Decode each file of FOLDER and write a table of what is wrong with it. Files are moved only with --move-to."""
    recipe, out = read_recipe(name), out or folder / "audit.tsv"
    if move_to is not None and move_to.resolve().is_relative_to(folder.resolve()):
        raise InvalidInput(f"--move-to {move_to} is inside {folder}", "give a folder outside of it")
    _moved_before(out)  # fails if --out is a table of another kind, which must not be replaced
    with Journal(out, {"folder": str(folder.resolve()), "min_side": min_side, **_limits(recipe)}) as journal:
        try:
            if journal.plan and move_to is not None and str(move_to.resolve()) == journal.target:
                click.echo(f"{out}: continuing with the {number_of(len(journal.plan), 'move')} of the stopped run")
                _carry_out(_unchanged(folder, journal))
            _audit(folder, out, recipe, min_side, move_to, journal)
            _carry_out(journal.plan)
        except KeyboardInterrupt:
            raise UserError("stopped", "run the same command again to continue") from None
        finally:
            if not (journal.known or journal.plan):
                journal.remove()
        journal.remove()
    _report(read_rows(out), folder, out, name)


def _audit(folder: Path, out: Path, recipe: Recipe, min_side: int, move_to: Path | None, journal: Journal) -> None:
    """Inspect the files, write the table and plan the moves."""
    if journal.plan:
        journal.add_plan([])
    paths = _files(folder, out, move_to is None)
    facts = _inspect(folder, paths, journal, inspector(recipe.limits, min_side, recipe.input))
    rows = _rows(paths, facts, out, _labels(folder, recipe))
    _warn_of_labels(rows)
    plan: list[tuple[str, str]] = []
    for path, row in zip(paths, rows, strict=True):
        if move_to is not None and row["verdict"] != "ok":
            target = _free(move_to / path.relative_to(folder), {target for _, target in plan})
            plan.append((str(path.absolute()), str(target)))
            row["reason"] += f"{_MOVED}{target}"
    write_rows(out, COLUMNS, [*rows, *_moved_before(out)])
    if plan and move_to is not None:
        journal.add_plan(plan, str(move_to.resolve()))


def _files(folder: Path, out: Path, links: bool) -> list[Path]:
    """The files to audit; links are followed unless files are moved, for what lies elsewhere is never moved."""
    try:
        listing = list_files(folder, links)
    except OSError as error:
        raise InvalidInput(f"{error.filename} cannot be listed: {error.strerror}") from error
    paths = [path for path in listing.files if path.absolute() != out.absolute()]
    if left_out := listing.left_out():
        click.echo(f"ignored in {folder}: {left_out}", err=True)
    if listing.links:
        example = f"for example {listing.links[0]}: audit the linked folder itself"
        click.echo(f"links are not followed with --move-to, {example}", err=True)
    if not paths and not _moved_before(out):
        raise NotFound(f"{folder} has no file to audit", "give a folder of photos")
    return paths


def _inspect(folder: Path, paths: Sequence[Path], journal: Journal, inspect: Callable[[Path], Facts]) -> list[Facts]:
    """The facts of each path, from the journal if the file's size and time are unchanged."""
    keys = [_key(folder, path) for path in paths]
    new = [index for index, key in enumerate(keys) if key not in journal.known]
    if len(new) < len(paths):
        click.echo(f"{len(paths) - len(new)} of {len(paths)} files are known from the stopped run", err=True)
    results = inspect_all([paths[index] for index in new], inspect)
    for position, facts in track(results, "decoding", total=len(new), console=err_console, transient=True):
        journal.add(keys[new[position]], facts)
    return [journal.known[key] for key in keys]


def _key(folder: Path, path: Path) -> tuple[str, int, int]:
    try:
        status = path.stat()
    except OSError:  # deleted since it was listed: the inspection reports it
        return path.relative_to(folder).as_posix(), 0, 0
    return path.relative_to(folder).as_posix(), status.st_size, status.st_mtime_ns


def _labels(folder: Path, recipe: Recipe) -> dict[Path, str]:
    """The label of each photo; none if the folder is not labelled, or wrongly: `split` says what is wrong."""
    try:
        photos = read_photos(folder, recipe.labels, aliases=recipe.aliases, outside=True, every_label=False)
    except UserError:
        return {}
    names = (*recipe.labels, NO_CLASS)
    return {photo.path: names[photo.label] for photo in photos}


def _rows(paths: Sequence[Path], facts: Sequence[Facts], out: Path, labels: Mapping[Path, str]) -> list[Row]:
    names = [Path(os.path.relpath(path, out.parent)).as_posix() for path in paths]
    repeated = duplicates(names, facts)
    rows = []
    for index, (name, fact) in enumerate(zip(names, facts, strict=True)):
        verdict, reason, kept = repeated.get(index, (fact.verdict, fact.reason, index))
        label, other = (labels.get(paths[position]) for position in (index, kept))
        if label and other and label != other:
            reason += f"{_LABELLED}{label}, the other {other}"
        size = f"{fact.width}x{fact.height}" if fact.width else ""
        row = {"path": name, "verdict": verdict, "reason": reason, "size": size, "bytes": str(fact.bytes)}
        rows.append({**row, **{key: getattr(fact, key) for key in ("format", "mode", "sha256", "phash")}})
    return rows


def _warn_of_labels(rows: Sequence[Row]) -> None:
    """Warn of duplicates with another label than the photo that is kept, for that may be the wrong one."""
    differing = [row for row in rows if _LABELLED in row["reason"]]
    if differing:
        click.secho(
            f"{number_of(len(differing), 'duplicate has', 'duplicates have')} another label than the photo that is "
            f"kept, for example {printable(differing[0]['path'])} {printable(differing[0]['reason'])}: "
            "look at both, and correct the wrong label",
            fg="yellow",
            err=True,
        )


def _moved_before(out: Path) -> list[Row]:
    """Rows of files that an earlier run moved away. They are kept, to show where the files are."""
    rows = read_rows(out, COLUMNS) if out.is_file() else []
    return [row for row in rows if _MOVED in row["reason"] and not os.path.lexists(out.parent / row["path"])]


def _free(target: Path, taken: set[str]) -> Path:
    """The target with a number if it is taken: no file is overwritten."""
    number, free = 1, target.absolute()
    while str(free) in taken or os.path.lexists(free):
        free = target.absolute().with_name(legal_name(f"{target.stem}-{number}{target.suffix}"))
        number += 1
    return free


def _unchanged(folder: Path, journal: Journal) -> list[tuple[str, str]]:
    """The planned moves, without those of files that were replaced since they were inspected."""
    place = folder.resolve()
    return [pair for pair in journal.plan if _key(place, Path(pair[0]).resolve()) in journal.known]


def _carry_out(plan: Sequence[tuple[str, str]]) -> None:
    for source, target in plan:
        try:
            _move(Path(source), Path(target))
        except OSError as error:
            raise CannotWrite(
                target, error, f"free some disk space, then run the same command to go on moving {source}"
            ) from error


def _move(source: Path, target: Path) -> None:
    """Move a file, also to another disk. If it has been moved already, do nothing; never overwrite another file."""
    if not os.path.lexists(source):
        return
    if os.path.lexists(target):
        if not filecmp.cmp(source, target, shallow=False):
            raise FileExistsError(0, "another file has this name", str(target))
        source.unlink()  # the former run was stopped between copying and removing
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        source.rename(target)
    except OSError:  # on another disk
        copy_whole(source, target, keep_metadata=True)
        source.unlink()


def _limits(recipe: Recipe) -> dict[str, int]:
    return {"bytes": recipe.limits.bytes, "pixels": recipe.limits.pixels}


def _report(rows: Sequence[Row], folder: Path, out: Path, recipe: str) -> None:
    moved = [row for row in rows if _MOVED in row["reason"]]
    count = Counter(row["verdict"] for row in rows)
    for verdict in VERDICTS:
        if count[verdict]:
            click.echo(f"{count[verdict]:7d}  {verdict}")
    for row in _examples(rows):
        click.echo(printable(f"  {row['path']}: {row['verdict']}: {row['reason']}"))
    if (more := len(rows) - count["ok"] - EXAMPLES) > 0:
        click.echo(f"  and {more} more in {out}")
    if count["ok"] < MINIMUM:
        click.secho(
            f"only {number_of(count['ok'], 'photo is', 'photos are')} usable; "
            f"at least {MINIMUM} are recommended (classroom document, 6.3)",
            fg="yellow",
            err=True,
        )
    click.echo(
        f"{out}: verdict and reason of {number_of(len(rows), 'file')}" + (f", {len(moved)} moved away" if moved else "")
    )
    if not count["ok"]:
        return
    resolved = read_recipe(recipe)
    labelled = is_labelled(folder, resolved.labels, resolved.aliases)
    next_step("dataset", "stats" if labelled else "label", folder, "--recipe", recipe)


def _examples(rows: Sequence[Row]) -> list[Row]:
    """The first rows of every verdict other than ok, rather than many of one."""
    seen: Counter[str] = Counter()
    ranked = []
    for row in rows:
        if row["verdict"] != "ok":
            seen[row["verdict"]] += 1
            ranked.append((seen[row["verdict"]], row))
    return [row for _, row in sorted(ranked, key=lambda pair: pair[0])][:EXAMPLES]
