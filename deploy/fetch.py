"""Download an archive into the store: python -m deploy fetch URL --digest DIGEST.

A node in a cluster starts with an empty store: it fetches the archive that its configuration names, by the digest that
packing printed, so that it serves these files and no others (kubernetes/base/node).
"""

import contextlib
import tempfile
from pathlib import Path

import click

from common.cli import command
from common.console import say
from common.download import blocks
from common.errors import CheckFailed, UserError
from common.files import copy_whole, writing
from deploy.settings import read_settings
from deploy.store.mar import Archive, check_archive, find_archive

_ARCHIVE, _MANIFEST = 4 * 2**30, 2**20  # bytes at most


@command(epilog="Example: python -m deploy fetch s3://models/classroom-1.1.mar --digest 0a1b...")
@click.argument("url")
@click.option("--digest", required=True, help="Digest of the contents, as in NAME-VERSION.json.")
def fetch(url: str, digest: str) -> None:
    """Download URL, an archive NAME-VERSION.mar with its .json beside it, into the store.

    URL is a file, https://... or s3://... (AWS_ENDPOINT_URL and access keys from the environment). Nothing is left in
    the store if the digest differs; an archive that is there already is checked and kept.
    """
    store, name = read_settings().store, url.rpartition("/")[2]
    with contextlib.suppress(UserError):
        _require(find_archive(Path(name), store), digest)
        return say(f"{name} is in {store} already")
    with tempfile.TemporaryDirectory() as folder:
        download = Path(folder)
        _download(url, download / name, _ARCHIVE)
        _download(url.removesuffix(".mar") + ".json", (download / name).with_suffix(".json"), _MANIFEST)
        _require(find_archive(Path(name), download), digest)
        with writing(store):
            store.mkdir(parents=True, exist_ok=True)
            for path in sorted(download.iterdir()):  # the manifest first: an archive without one is damaged
                copy_whole(path, store / path.name)
    return say(f"fetched {store / name}")


def _require(archive: Archive, digest: str) -> None:
    """Check an archive against its manifest, and that against the digest.

    Raises:
        UserError: they differ.
    """
    found = check_archive(archive)[0].digest
    if found != digest:
        raise CheckFailed(f"{archive.mar.name} has the digest {found}, not {digest}", "give the digest of its .json")


def _download(url: str, path: Path, most_bytes: int) -> None:
    with writing(path), path.open("wb") as target:
        target.writelines(blocks(url, most_bytes))
