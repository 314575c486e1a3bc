"""A scores folder: the checked manifest, what scored it, and one Parquet file for each part of 2,000 photos.

    scores/ID/
      job.json             archive, digest, labels, manifest
      manifest.parquet     the checked rows; row group N is part N
      parts/00000.parquet  written whole: a part that exists is complete and is never written again

The parts that exist are the state. A job that was killed continues with the missing ones.
"""

import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from common.errors import InvalidInput, NotFound
from common.files import new_folder, write_json, write_whole, writing
from common.words import number_of
from dataset.listing import files_of
from reports.manifest.checking import Check, Entry
from reports.scoring.archives import Model
from reports.scoring.schema import PART, PROBABILITY, columns_of, manifest_schema, part_schema
from reports.scoring.worker import Result

_FIX = "give another --out"


@dataclass(frozen=True)
class Job:
    """What a scores folder says about itself in job.json."""

    folder: Path
    model: str
    version: str
    digest: str
    labels: tuple[str, ...]
    manifest: str
    manifest_digest: str
    extra: tuple[str, ...]
    photos: int
    created: str
    part: int

    @property
    def parts(self) -> int:
        """How many parts there are when the job is complete."""
        return -(-self.photos // self.part)

    def part_path(self, index: int) -> Path:
        """The file of a part."""
        return self.folder / "parts" / f"{index:05d}.parquet"

    def missing(self) -> list[int]:
        """The parts that have not been written."""
        return [index for index in range(self.parts) if not self.part_path(index).exists()]

    def require_complete(self) -> None:
        """Raises: InvalidInput: parts are missing."""
        if missing := self.missing():
            raise InvalidInput(
                f"{self.folder} is incomplete: {number_of(len(missing), 'part')} of {self.parts} not scored",
                "run the same photoloop reports score command again; it continues",
            )

    def require_one_model(self) -> None:
        """Raises: InvalidInput: a part was scored by another model, for example because it was copied here."""
        for index in range(self.parts):
            with _reading(self.part_path(index)), pq.ParquetFile(self.part_path(index)) as file:
                column = file.schema_arrow.names.index("model_digest")
                groups = [file.metadata.row_group(group).column(column) for group in range(file.num_row_groups)]
                digests = {value for group in groups for value in (group.statistics.min, group.statistics.max)}
            if other := next(iter(digests - {self.digest}), None):
                was = f"by the model {other[:12]}, and not by {self.model} {self.version} ({self.digest[:12]})"
                raise InvalidInput(f"{self.part_path(index)} was scored {was}", "remove that file and score again")

    def clear_left_over(self) -> None:
        """Remove what a killed process has half-written. Call it under the lock."""
        for path in (self.folder / "parts").glob(".*"):
            path.unlink(missing_ok=True)

    def rows(self, part: int) -> pa.Table:
        """The rows of a part in the manifest.

        Raises:
            InvalidInput: manifest.parquet is missing or damaged.
        """
        path = self.folder / "manifest.parquet"
        try:
            with pq.ParquetFile(path) as file:
                return file.read_row_group(part)
        except (OSError, pa.ArrowException) as error:
            raise InvalidInput(f"{path} is damaged: {error}", "give another --out") from error

    def read(self, part: int, columns: Sequence[str] | None = None) -> pa.Table:
        """A scored part, or some of its columns; one that an earlier version did not write is empty.

        Raises:
            InvalidInput: it is damaged.
        """
        with _reading(self.part_path(part)):
            return _read(self.part_path(part), columns)

    def write_part(self, index: int, rows: pa.Table, results: list[Result]) -> None:
        """Write a part whole, with as few Python objects as can be: memory would rise with the most there ever were.

        Raises:
            CannotWrite: the disk is full.
        """
        now = datetime.now(UTC).replace(microsecond=0)
        facts = {"model": f"{self.model} {self.version}", "model_digest": self.digest, "scored_at": now}
        columns = [_columns(result) for result in results]

        def filled(field: pa.Field) -> Any:
            if field.name in rows.column_names:
                return rows[field.name]
            if field.name in facts:
                return pa.repeat(pa.scalar(facts[field.name], field.type), len(rows))
            return pa.array([column.get(field.name) for column in columns], field.type)

        schema = part_schema(self.extra, self.labels)
        table = pa.table([filled(field) for field in schema], schema)
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        with writing(self.part_path(index)):
            write_whole(self.part_path(index), buffer.getvalue())


def _columns(result: Result) -> dict[str, Any]:
    probabilities = result.get("probabilities", {})
    flat = {f"{PROBABILITY}{label}": value for label, value in probabilities.items()}
    return {"error_code": "", **{name: value for name, value in result.items() if name != "probabilities"}, **flat}


def read_job(folder: Path) -> Job:
    """Read a scores folder.

    Raises:
        NotFound: it is none.
        InvalidInput: its job.json is damaged.
    """
    try:
        content = json.loads((folder / "job.json").read_text(encoding="utf-8"))
        return Job(
            **{**content, "folder": folder, "labels": tuple(content["labels"]), "extra": tuple(content["extra"])}
        )
    except FileNotFoundError as error:
        raise NotFound(f"{folder} is not a folder of scores", "make one with: photoloop reports score") from error
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InvalidInput(f"{folder / 'job.json'} is damaged: {error}", "score the manifest again") from error


def label_of(job: Job, label: str | None) -> str:
    """The label whose share is reported: the last of the recipe unless another is given.

    Raises:
        InvalidInput: the model has no such label.
    """
    if label is not None and label not in job.labels:
        raise InvalidInput(f"the model has no label {label!r}", f"give one of {', '.join(job.labels)}")
    return label or job.labels[-1]


def digest_of(manifest: Path) -> str:
    """SHA-256 of a manifest's file; of a folder, of the paths of its photos."""
    if manifest.is_dir():
        return hashlib.sha256(
            b"\0".join(sorted(os.fsencode(file) for file in files_of(manifest.resolve())))
        ).hexdigest()
    with manifest.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_same(job: Job, model: Model, manifest: Path) -> None:
    """Refuse to continue a job with another archive or another manifest.

    Raises:
        InvalidInput: one of them differs.
    """
    if job.digest != model.digest:
        was = f"{job.model} {job.version} ({job.digest[:12]})"
        raise InvalidInput(f"{job.folder} was begun with {was}, not {model} ({model.digest[:12]})", _FIX)
    if job.manifest_digest != digest_of(manifest):
        raise InvalidInput(f"{manifest} has changed since {job.folder} was begun", _FIX)


def create_job(folder: Path, manifest: Path, check: Check, model: Model, part: int = PART) -> Job | None:
    """Check a manifest and write its rows; the folder appears only if no row has an error.

    Args:
        part: photos of a part.

    Returns:
        the job; None if a row has an error, which is in `check.findings`.

    Raises:
        InvalidInput, CannotWrite: the manifest cannot be read, or the folder cannot be written.
    """
    extra = columns_of(check.extra)
    job = Job(
        folder, model.name, model.version, model.digest, model.labels, str(manifest), digest_of(manifest), extra, 0,
        datetime.now(UTC).isoformat(timespec="seconds"), part,
    )  # fmt: skip
    try:
        with new_folder(folder) as work:
            photos = _write_manifest(work / "manifest.parquet", check, extra, part)
            if check.findings.errors:
                raise _Refused
            job = replace(job, photos=photos)
            write_json(work / "job.json", {key: value for key, value in asdict(job).items() if key != "folder"})
    except _Refused:
        return None
    return job


class _Refused(Exception):
    """Ends the block of `new_folder`, so that nothing is written."""


def _write_manifest(path: Path, check: Check, extra: Sequence[str], part: int) -> int:
    schema = manifest_schema(extra)
    entries = check.entries()
    photos = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while rows := [_row(entry, extra, photos + offset) for offset, entry in enumerate(islice(entries, part))]:
            writer.write_table(pa.Table.from_pylist(rows, schema), row_group_size=part)
            photos += len(rows)
    return photos


def _row(entry: Entry, extra: Sequence[str], number: int) -> dict[str, Any]:
    own = {key: value for key, value in vars(entry).items() if key != "extra"}
    return {"row": number, **own, **dict(zip(extra, entry.extra.values(), strict=True))}


def read_parts(job: Job, columns: Iterable[str] | None = None) -> pa.Table:
    """All rows of a complete job.

    Raises:
        InvalidInput: parts are missing, or one is damaged.
    """
    job.require_complete()
    job.require_one_model()
    names = list(columns) if columns is not None else None
    return pa.concat_tables([job.read(index, names) for index in range(job.parts)])


def _read(path: Path, names: Sequence[str] | None) -> pa.Table:
    if names is None:
        return pq.read_table(path)
    present = pq.read_schema(path).names
    table = pq.read_table(path, columns=[name for name in names if name in present])
    for name in names:
        if name not in present:
            field = part_schema((), ()).field(name)
            table = table.append_column(field, pa.nulls(len(table), field.type))
    return table.select(names)


@contextmanager
def _reading(part: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, AttributeError, pa.ArrowException) as error:
        raise InvalidInput(f"{part} is damaged: {error}", "remove that file and score again") from error
