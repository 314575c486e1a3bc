"""The archive: its contents, what is refused, and that it computes the same as training."""

import concurrent.futures
import json
import shutil
import subprocess
import sys
import zipfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from common.errors import UserError
from config.recipe import Recipe, read_recipe
from deploy.archive import pack
from deploy.settings import ROOT
from deploy.store.mar import digests, identity, read_manifest
from tests.helpers import pictures
from tests.helpers.commands import SHAPES, command
from training.data.loader import PhotoSet


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return read_recipe(SHAPES)


def test_an_archive_contains_the_handler_and_nothing_else_of_the_project(packed_shapes: Path) -> None:
    with zipfile.ZipFile(packed_shapes) as mar:
        names = set(mar.namelist())
        modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "handler").rglob("*.py")}
        at_the_root = {"handler/torchserve_entry.py", "handler/worker/sitecustomize.py"}
        modules -= at_the_root
        expected = modules | {Path(name).name for name in at_the_root}
        assert {name for name in names if name.endswith(".py")} == expected
        assert {"model.onnx", "recipe.json", "goldens.json", "MAR-INF/MANIFEST.json"} <= names
        assert not [name for name in names if name.endswith(".data")]
        for name in modules:
            assert mar.read(name) == (ROOT / name).read_bytes()


def test_the_manifest_names_the_origin(packed_shapes: Path, bundle: Path) -> None:
    known, run = read_manifest(packed_shapes), json.loads((bundle / "run.json").read_text())
    assert (known.name, known.version) == ("shapes", "1.0")
    assert (known.run, known.parent) == (run["id"], run["parent"])
    assert known.contents == digests(packed_shapes)
    assert known.digest == identity(digests(packed_shapes))
    assert known.gate["passed"] is True
    assert known.runtime["engine"] == "onnxruntime"
    assert known.runtime["precision"] == "f32"
    assert known.recipe["labels"] == ["disc", "stripe", "cross"]
    assert {"metrics", "weights", "cpu_flags", "goldens_difference"} <= set(asdict(known))


def test_two_builds_of_one_bundle_have_one_identity(bundle: Path, packed_shapes: Path, tmp_path: Path) -> None:
    assert read_manifest(pack(bundle, "1.0", tmp_path)).digest == read_manifest(packed_shapes).digest


PROGRAM = """
import pathlib, sys
import numpy as np
from handler.image import preprocess
from handler.spec import read_spec
assert pathlib.Path(sys.modules["handler"].__file__).parent.parent == pathlib.Path.cwd(), "not the archive's handler"
spec = read_spec(pathlib.Path("recipe.json"))
for name in sys.argv[1:]:
    np.save(name + ".npy", preprocess(pathlib.Path(name).read_bytes(), spec.input, spec.limits))
"""


def test_an_unpacked_archive_computes_exactly_the_arrays_of_training(
    unpacked: Path, recipe: Recipe, tmp_path: Path
) -> None:
    from dataset.photos import Photo

    files = []
    for name, make in pictures.TAKEN.items():
        files.append(tmp_path / name)
        files[-1].write_bytes(make())
    subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, files)], cwd=unpacked, check=True, env={"PATH": "/usr/bin"}
    )
    photos = PhotoSet([Photo(path, 0, "x") for path in files], recipe, augment=False)
    for index, path in enumerate(files):
        assert np.array_equal(photos[index][0].numpy(), np.load(f"{path}.npy")), path.name


def test_the_script_packs_and_never_overwrites(bundle: Path, tmp_path: Path) -> None:
    env = {"SERVE_STORE": str(tmp_path)}
    done = command(ROOT / "scripts" / "archive.sh", bundle, "2.1", env=env)
    assert "shapes-2.1.mar" in done.stdout
    before = (tmp_path / "shapes-2.1.mar").read_bytes()
    again = command(ROOT / "scripts" / "archive.sh", bundle, "2.1", env=env, check=False)
    assert again.returncode == 1
    assert "is never overwritten: pack under a higher version" in again.stderr
    assert (tmp_path / "shapes-2.1.mar").read_bytes() == before
    assert command(ROOT / "scripts" / "archive.sh", env=env, check=False).returncode == 1


def test_make_archive_is_the_same(bundle: Path, tmp_path: Path) -> None:
    command("make", "archive", f"BUNDLE={bundle}", "VERSION=1.1", env={"SERVE_STORE": str(tmp_path)})
    assert sorted(path.name for path in tmp_path.glob("shapes*")) == ["shapes-1.1.json", "shapes-1.1.mar"]
    assert command("make", "archive", env={"SERVE_STORE": str(tmp_path)}, check=False).returncode != 0


def refusal(bundle: Path, version: str, store: Path) -> str:
    with pytest.raises(UserError) as caught:
        pack(bundle, version, store)
    assert not [path for path in store.iterdir() if path.name != ".lock"], "something was left behind"
    return caught.value.message


def test_a_run_that_failed_its_gate_is_refused(copy_of_bundle: Path, tmp_path: Path) -> None:
    run = json.loads((copy_of_bundle / "run.json").read_text())
    run["gate"]["passed"] = False
    (copy_of_bundle / "run.json").write_text(json.dumps(run))
    (tmp_path / "store").mkdir()
    assert "failed its gate" in refusal(copy_of_bundle, "1.0", tmp_path / "store")


def test_a_changed_golden_answer_is_refused(copy_of_bundle: Path, tmp_path: Path) -> None:
    rows = json.loads((copy_of_bundle / "goldens.json").read_text())
    rows[0]["probabilities"] = [p - 0.05 for p in rows[0]["probabilities"]]
    (copy_of_bundle / "goldens.json").write_text(json.dumps(rows))
    (tmp_path / "store").mkdir()
    message = refusal(copy_of_bundle, "1.0", tmp_path / "store")
    assert rows[0]["photo"] in message
    assert "tolerance 0.02" in message


@pytest.mark.parametrize("rows", [0, 3, "margin"])
def test_too_few_or_uncertain_goldens_are_refused(copy_of_bundle: Path, tmp_path: Path, rows: int | str) -> None:
    goldens = json.loads((copy_of_bundle / "goldens.json").read_text())
    if rows == "margin":
        goldens[0]["probabilities"] = [0.4, 0.35, 0.25]
    kept = goldens if rows == "margin" else goldens[: int(rows)]
    (copy_of_bundle / "goldens.json").write_text(json.dumps(kept))
    (tmp_path / "store").mkdir()
    assert ("is 0.050, below 0.3" if rows == "margin" else "fewer than the 8 of the recipe") in refusal(
        copy_of_bundle, "1.0", tmp_path / "store"
    )


def test_the_folder_of_a_killed_packer_is_removed(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / ".packing-left").mkdir()
    pack(bundle, "1.0", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "shapes-1.0.json", "shapes-1.0.mar"]


@pytest.mark.parametrize("damage", ["model.onnx", "goldens.json", "recipe.json", "run.json", "goldens/0_0.jpg"])
def test_a_damaged_bundle_is_refused(copy_of_bundle: Path, tmp_path: Path, damage: str) -> None:
    (copy_of_bundle / damage).write_bytes(b"\0garbage")
    (tmp_path / "store").mkdir()
    assert str(copy_of_bundle) in refusal(copy_of_bundle, "1.0", tmp_path / "store")


@pytest.mark.parametrize("version", ["1", "v1.0", "1.0.0.0", "../1.0", "1.0 ", "", "01.1", "1.00", "１.１", "1.-1"])
def test_an_invalid_version_is_refused(bundle: Path, tmp_path: Path, version: str) -> None:
    assert "give two or three numbers" in refusal(bundle, version, tmp_path)


def test_a_folder_that_is_not_a_bundle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    assert "is not a bundle" in refusal(tmp_path, "1.0", tmp_path / "store")


def test_two_packers_of_one_version_at_once_make_one_archive(bundle: Path, tmp_path: Path) -> None:
    def attempt(_: int) -> str:
        done = command(ROOT / "scripts" / "archive.sh", bundle, "3.0", env={"SERVE_STORE": str(tmp_path)}, check=False)
        return "packed" if done.returncode == 0 else done.stderr

    with concurrent.futures.ThreadPoolExecutor() as pool:
        results = sorted(pool.map(attempt, range(2)), key=len)
    assert results[0] == "packed"
    assert "is never overwritten" in results[1]
    assert read_manifest(tmp_path / "shapes-3.0.mar").contents == digests(tmp_path / "shapes-3.0.mar")


def test_a_full_disk_leaves_nothing(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copytree", full)
    assert "No space left on device" in refusal(bundle, "1.0", tmp_path)
