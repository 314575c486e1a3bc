"""A manifest, whatever it is: a table or a folder of photos."""

from pathlib import Path

from common.errors import NotFound
from reports.manifest.checking import Check
from reports.manifest.folders import PATTERN, open_folder
from reports.manifest.tables import open_table


def open_manifest(path: Path, pattern: str = PATTERN, published_at: str = "") -> Check:
    """Open a table, or a folder whose file names follow a pattern, to be checked row by row.

    Raises:
        NotFound: there is no such file or folder.
        InvalidInput: it cannot be read, or a column is missing.
    """
    if path.is_dir():
        return Check(open_folder(path, pattern, published_at), path)
    if not path.is_file():
        raise NotFound(
            f"{path}: there is no such file or folder", "give a CSV, TSV or Parquet file, or a folder of photos"
        )
    return Check(open_table(path), path.parent)
