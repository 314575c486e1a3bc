"""The recipe flowers on small drawn photos: the job on S3, the package in a stand-in of the cloud, a bundle served."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import torch
from click.testing import CliRunner, Result

from config.recipe import read_recipe
from handler.image import preprocess
from tests.helpers import pictures
from tests.helpers.commands import command, newest
from tests.helpers.pictures import draw_small_set
from tests.helpers.s3 import keys, put, s3_server
from tests.helpers.siblings import FLOWERS_DRAWN, bundle_of, flowers_recipe
from training.__main__ import main
from training.cloud.package import build_package
from training.evaluation import schemas
from training.models.registry import build
from training.records.weights import load_model

STANDIN = Path(__file__).parents[2] / "standin"


def test_the_recipe_is_the_documents() -> None:
    recipe = read_recipe("flowers")
    assert recipe.labels == ("daisy", "dandelion", "roses", "sunflowers", "tulips")
    assert (recipe.backbone.name, recipe.input.height, recipe.input.width) == ("resnet34", 224, 224)
    assert (recipe.train.epochs, recipe.train.batch_size, recipe.train.learning_rate) == (3, 16, 0.0001)


def test_it_is_trained_exported_and_answers_a_form(sibling: Callable[[str], Path]) -> None:
    bundle = bundle_of(sibling("flowers"), "flowers")
    lines = command("training", "predict", bundle, *sorted((bundle / "goldens").iterdir())).stdout.splitlines()
    expected = {row["photo"]: row["label"] for row in json.loads((bundle / "goldens.json").read_text())}
    for line in map(json.loads, lines):
        assert line["result"] == expected[f"goldens/{Path(line['photo']).name}"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe, and drawn photos in the folders of the flowers document."""
    folder = tmp_path_factory.mktemp("flowers")
    recipe = flowers_recipe(folder)
    draw_small_set(folder / "drawn", read_recipe(recipe), 16)
    for label in FLOWERS_DRAWN:
        for number, path in enumerate(sorted((folder / "drawn" / label).iterdir())):
            target = folder / "data_set" / ("val" if number % 4 == 0 else "train") / label / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    return folder


@pytest.fixture(scope="module")
def weights(place: Path) -> bytes:
    """What lies at data_url as BACKBONE-pre.pth: a state dict for a thousand classes."""
    recipe = read_recipe(place / "flowers.yaml")
    buffer = io.BytesIO()
    torch.manual_seed(7)
    torch.save(build(recipe.backbone, 1000).network.state_dict(), buffer)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def job_done(place: Path, weights: bytes) -> Iterator[dict[str, Any]]:
    """The job against a real S3 server: its environment and its output."""
    data = {p.relative_to(place).as_posix(): p.read_bytes() for p in (place / "data_set").rglob("*") if p.is_file()}
    with s3_server("flowers") as env:
        put(env, "flowers", data | {"data_set/smallnet-pre.pth": weights, "data_set/notes/readme.txt": b"not fetched"})
        yield {"env": env, "done": job(place, env)}


def job(place: Path, env: dict[str, str], code: int = 0, **urls: str) -> Result:
    defaults = {"data_url": "s3://flowers/data_set", "train_url": "s3://flowers/resnet", "eval_url": "s3://flowers/out"}
    words = [word for name, url in (defaults | urls).items() for word in (f"--{name}", url)]
    recipe = ["--recipe", str(place / "flowers.yaml"), "--runs", str(place / "runs"), "--every", "0.5"]
    done = CliRunner().invoke(main, ["job", *words, *recipe], env=env)
    assert done.exit_code == code, done.output
    return done


def test_a_job_reads_from_and_writes_to_object_storage(place: Path, job_done: dict[str, Any]) -> None:
    stored = keys(job_done["env"], "flowers")
    written = {name for name in stored if not name.startswith("data_set/")}
    assert {
        "resnet/model/config.json",
        "resnet/model/customize_service.py",
        "resnet/model/model.py",
        "resnet/model/handler/image.py",
        "resnet/model/_SUCCESS",
        "resnet/run/run.json",
        "resnet/run/job.json",
        "resnet/run/_SUCCESS",
        "out/analysis-train/model_analysis_results.json",
        "out/analysis-val/model_analysis_results.json",
        "out/analysis-val/all_samples.json",
        "out/analysis-val/tmp_model_analysis.npz",
        "out/analysis-val/_SUCCESS",
    } <= written
    assert not [name for name in written if ".partial" in name]
    log = job_done["done"].stderr
    assert "weights: smallnet-pre.pth" in log
    assert re.search(r"CPU \d+ %, memory \d+ MB", log)
    (data,) = (place / "runs" / "jobs").glob("*/data")
    assert not (data / "notes").exists()
    assert (data / "smallnet-pre.pth").is_file()


def test_a_job_logs_what_it_used(job_done: dict[str, Any]) -> None:
    stored = keys(job_done["env"], "flowers", "resnet/run/")
    record = json.loads(stored["job.json"])
    assert list(record["stages"]) == ["fetch", "train", "analyse", "write"]
    assert record["resources"]["memory_mb"]["highest"] > 100
    samples = [json.loads(line) for line in stored["resources.jsonl"].decode().splitlines()]
    assert record["resources"]["samples"] == len(samples) > 1
    assert max(row["cpu_percent"] for row in samples) == record["resources"]["cpu_percent"]["highest"] > 0


def test_a_repeated_job_trains_nothing_and_fetches_nothing(place: Path, job_done: dict[str, Any]) -> None:
    before = keys(job_done["env"], "flowers", "resnet/run/")["run.json"]
    again = job(place, job_done["env"])
    assert "trained already" in again.stderr and "fetched" not in again.stderr
    assert keys(job_done["env"], "flowers", "resnet/run/")["run.json"] == before


def test_a_job_that_cannot_write_names_the_url_and_can_be_repeated(place: Path, job_done: dict[str, Any]) -> None:
    failed = job(place, job_done["env"], 1, eval_url="s3://nowhere/out")
    last = failed.stderr.splitlines()[-1]
    assert last.startswith("Error: s3://nowhere/out/analysis-train cannot be written: ")
    job(place, job_done["env"], eval_url="s3://flowers/elsewhere")
    assert "analysis-val/_SUCCESS" in keys(job_done["env"], "flowers", "elsewhere/")


def test_the_analysis_agrees_with_itself(place: Path, job_done: dict[str, Any]) -> None:
    for part, count in (("train", 60), ("val", 20)):
        stored = keys(job_done["env"], "flowers", f"out/analysis-{part}/")
        results, samples = (json.loads(stored[name]) for name in ("model_analysis_results.json", "all_samples.json"))
        schemas.check("model_analysis_results", results)
        schemas.check("all_samples", samples)
        arrays = np.load(io.BytesIO(stored["tmp_model_analysis.npz"]), allow_pickle=False)
        assert results["overall"]["photos"] == len(samples) == len(arrays["paths"]) == count
        right = sum(row["label"] == row["predicted"] for row in samples.values())
        assert right == results["overall"]["right"] == int((arrays["label"] == arrays["predicted"]).sum())
        assert right == sum(row[index] for index, row in enumerate(results["confusion_matrix"]))
        for feature in results["sensitivity"].values():
            assert sum(row["photos"] for row in feature["bins"]) == count
            assert sum(row["right"] for row in feature["bins"]) == right
        assert set(samples) == {
            path.relative_to(place / "data_set").as_posix() for path in (place / "data_set" / part).rglob("*.*")
        }


@pytest.fixture(scope="module")
def cloud(place: Path, job_done: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The package from object storage, in a process that can import only the package and the stand-in."""
    folder = tmp_path_factory.mktemp("cloud")
    for name, data in keys(job_done["env"], "flowers", "resnet/model/").items():
        (folder / "model" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "model" / name).write_bytes(data)
    yield from serve(folder)


def serve(folder: Path) -> Iterator[str]:
    shutil.copytree(STANDIN, folder / "standin")
    path = f"{folder / 'model'}{os.pathsep}{folder / 'standin'}"
    env = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    words = [sys.executable, str(folder / "standin" / "cloud.py"), str(folder / "model")]
    with subprocess.Popen(words, cwd=folder / "model", env=env, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            line = process.stdout.readline()
            assert line, f"the stand-in ended with {process.wait(30)}"
            started = json.loads(line)
            assert started["sees"] == []
            yield f"http://127.0.0.1:{started['port']}/"
        finally:
            process.terminate()


def test_the_package_answers_the_form_of_the_flowers_document(
    place: Path, job_done: dict[str, Any], cloud: str
) -> None:
    samples = json.loads(keys(job_done["env"], "flowers", "out/analysis-val/")["all_samples.json"])
    for path, row in samples.items():
        answer = requests.post(cloud, files={"images": (place / "data_set" / path).read_bytes()}, timeout=60)
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json"), answer.text
        assert answer.json()["predicted_label"] == row["predicted"]
        assert dict(answer.json()["scores"]) == pytest.approx(row["probabilities"], abs=1e-4)
        scores = [score for _, score in answer.json()["scores"]]
        assert scores == sorted(scores, reverse=True) and sum(scores) == pytest.approx(1, abs=1e-4)


def test_the_package_says_what_is_wrong_with_a_photo(cloud: str) -> None:
    assert requests.post(cloud, files={"image": b"x"}, timeout=60).status_code == 400
    for data, code in ((b"<html>", "unsupported_format"), (pictures.animated("GIF"), "unsupported_format")):
        answer = requests.post(cloud, files={"images": ("a.jpg", data)}, timeout=60)
        assert (answer.status_code, answer.json()["error"]["code"]) == (200, code)
    two = [("images", ("a.jpg", b"x")), ("images", ("b.jpg", b"y"))]
    assert requests.post(cloud, files=two, timeout=60).json()["error"]["code"] == "invalid_request"


METRICS = {"f1": 0.5, "recall": 0.5, "precision": 0.5, "accuracy": 0.5}


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite0"])
def test_packages_of_real_networks_answer_as_the_model_does(name: str, place: Path, tmp_path: Path) -> None:
    recipe = read_recipe(flowers_recipe(tmp_path / "recipe", backbone={"name": name, "weights": "none", "pool": 2}))
    torch.manual_seed(3)
    model = build(recipe.backbone, len(recipe.labels)).eval()
    model.temperature.fill_(1.7)
    build_package(tmp_path / "model", recipe, model, METRICS)
    has = {path.name for path in (tmp_path / "model").iterdir()}
    assert ("weights.pth" in has) == (name == "resnet18") != ("network.pt2" in has)
    assert not [
        path for path in (tmp_path / "model").rglob("*") if path.is_file() and b"training/" in path.read_bytes()
    ]
    photo = sorted((place / "data_set" / "val" / "roses").iterdir())[0]
    pixels = torch.from_numpy(preprocess(photo.read_bytes(), recipe.input, recipe.limits))[None]
    with torch.no_grad():
        expected = model(pixels).softmax(1)[0].tolist()
    for url in serve(tmp_path):
        scores = dict(requests.post(url, files={"images": photo.read_bytes()}, timeout=60).json()["scores"])
    assert [scores[label] for label in recipe.labels] == pytest.approx(expected, abs=1e-4)


def test_training_starts_from_the_weights_at_data_url(place: Path, weights: bytes, tmp_path: Path) -> None:
    shutil.copytree(place / "data_set", tmp_path / "data")
    (tmp_path / "data" / "smallnet-pre.pth").write_bytes(weights)
    urls = {name: str(tmp_path / folder) for name, folder in (("data_url", "data"), ("train_url", "resnet"))}
    words = [word for name, url in urls.items() for word in (f"--{name}", url)] + ["--eval_url", str(tmp_path / "out")]
    common = ["--recipe", str(place / "flowers.yaml"), "--runs", str(tmp_path / "runs"), "--epochs", "0"]
    done = CliRunner().invoke(main, ["job", *words, *common])
    assert done.exit_code == 0, done.output
    _, model, _ = load_model(newest(tmp_path / "runs" / "flowers", "train"))
    initial = torch.load(io.BytesIO(weights), weights_only=True)
    assert torch.equal(model.network.state_dict()["0.weight"], initial["0.weight"])
    (tmp_path / "data" / "smallnet-pre.pth").write_bytes(b"no weights")
    broken = CliRunner().invoke(main, ["job", *words, *common])
    assert broken.exit_code == 1 and "smallnet-pre.pth cannot be read safely as a state dict" in broken.stderr
