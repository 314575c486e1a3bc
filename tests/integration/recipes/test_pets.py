"""Recipe pets end to end with a narrow VGG and drawn photos: train, export, answer."""

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from deploy.archive import pack
from handler import goldens
from handler.service import ClassifierService
from tests.helpers.commands import newest
from tests.helpers.handler import ask, context
from tests.helpers.siblings import bundle_of, run
from tests.helpers.small import narrow_networks
from training.__main__ import main


@pytest.fixture(scope="module")
def pets_folder(sibling: Callable[[str], Path]) -> Path:
    return sibling("pets")


def test_a_run_counts_steps_and_keeps_its_checkpoints(pets_folder: Path) -> None:
    folder = newest(pets_folder / "runs" / "pets", "train")
    facts = json.loads((folder / "run.json").read_text())
    assert [entry["step"] for entry in facts["epochs"]] == [100, 200, 300]
    assert facts["trained_parameters"] == 256 * 3 + 3
    kept = [path.name for path in sorted((folder / "checkpoints").iterdir())]
    assert kept and set(kept) <= {f"{step:08d}.safetensors" for step in (100, 200, 300)}


def test_the_archive_answers_with_the_three_likeliest_labels(pets_folder: Path, tmp_path: Path) -> None:
    shutil.unpack_archive(pack(bundle_of(pets_folder, "pets"), "1.0", tmp_path / "store"), tmp_path / "unpacked", "zip")
    service = ClassifierService()
    service.initialize(context(tmp_path / "unpacked"))
    golden = goldens.read(tmp_path / "unpacked")[0]
    photo = base64.b64encode((tmp_path / "unpacked" / golden.photo).read_bytes()).decode()
    body = json.dumps({"image_id": "7", "image_base64": photo}).encode()
    answers, _ = ask(service, tmp_path / "unpacked", body, b"{}")
    good, bad = answers
    assert list(good) == ["image_id", "result", "top"]
    assert (good["image_id"], good["result"]) == ("7", golden.label)
    assert [set(entry) for entry in good["top"]] == [{"label", "score"}] * 3
    scores = [entry["score"] for entry in good["top"]]
    assert scores == sorted(scores, reverse=True)
    assert scores == pytest.approx(sorted(golden.probabilities, reverse=True), abs=0.05)
    assert good["top"][0]["label"] == golden.label
    assert set(bad) == {"image_id", "error"}


@narrow_networks()
def test_versions_go_up_by_one_and_only_when_better(pets_folder: Path, tmp_path: Path) -> None:
    trained, to = newest(pets_folder / "runs" / "pets", "train"), tmp_path / "versions"
    words = ["export", str(trained), "--data", str(pets_folder / "photos"), "--to", str(to)]
    run(main, *words, "--if-better")
    refused = CliRunner().invoke(main, [*words, "--if-better"], catch_exceptions=True)
    assert refused.exit_code == 1
    assert "not exported: balanced accuracy" in str(refused.output)
    assert [path.name for path in to.iterdir()] == ["1"]
    facts = json.loads((to / "1" / "run.json").read_text())
    facts["metrics"]["mean_accuracy"] = 0.0
    (to / "1" / "run.json").write_text(json.dumps(facts))
    run(main, *words, "--if-better")
    assert sorted(path.name for path in to.iterdir()) == ["1", "2"]
    facts["validation"]["sha256"] = "another"
    (to / "2" / "run.json").write_text(json.dumps(facts))
    refused = CliRunner().invoke(main, [*words, "--if-better"])
    assert "measured on other held-out photos" in str(refused.output)
