"""deploy fetch: only an archive with the wanted digest reaches the store."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from deploy.fetch import fetch
from tests.helpers.light import pack_quickly


@pytest.fixture(scope="module")
def packed(light: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_quickly(light, "1.0", tmp_path_factory.mktemp("remote"))


def run(url: str, digest: str, store: Path) -> Result:
    return CliRunner(env={"SERVE_STORE": str(store)}).invoke(fetch, [url, "--digest", digest])


def test_the_archive_and_its_manifest_are_fetched_once(packed: Path, tmp_path: Path) -> None:
    digest = json.loads(packed.with_suffix(".json").read_text())["digest"]
    first = run(packed.as_uri(), digest, tmp_path / "store")
    assert first.exit_code == 0, first.output
    assert (tmp_path / "store" / packed.name).read_bytes() == packed.read_bytes()
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == ["shapes-1.0.json", "shapes-1.0.mar"]
    assert "already" in run("file:///nowhere/shapes-1.0.mar", digest, tmp_path / "store").output


@pytest.mark.parametrize("fault", ["digest", "cut", "absent", "huge manifest"])
def test_nothing_else_reaches_the_store(packed: Path, tmp_path: Path, fault: str) -> None:
    digest = json.loads(packed.with_suffix(".json").read_text())["digest"]
    copy = Path(shutil.copytree(packed.parent, tmp_path / "remote")) / packed.name
    if fault == "cut":
        copy.write_bytes(copy.read_bytes()[:-100])
    if fault == "absent":
        copy.unlink()
    if fault == "huge manifest":
        manifest = copy.with_suffix(".json")
        manifest.write_bytes(manifest.read_bytes() + b" " * 2**20)
    done = run(copy.as_uri(), "0" * 64 if fault == "digest" else digest, tmp_path / "store")
    assert done.exit_code == 1 and copy.stem in done.stderr
    assert not (tmp_path / "store").exists()
