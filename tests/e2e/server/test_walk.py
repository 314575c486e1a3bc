"""All steps of the data team, with the commands that a person types."""

import base64
import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from config.recipe import read_recipe
from tests.helpers import pictures
from tests.helpers.commands import SHAPES, command, newest
from tests.helpers.pictures import draw_small_set


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


@pytest.fixture
def scraped(tmp_path: Path) -> Path:
    """Drawn photos as a scraper leaves them: some broken, some twice, one class smaller."""
    folder = tmp_path / "scraped"
    draw_small_set(folder, read_recipe(SHAPES), 36)
    for path in sorted((folder / "stripe").iterdir())[28:]:
        path.unlink()
    whole = (folder / "disc" / "0000.jpg").read_bytes()
    (folder / "disc" / "page.jpg").write_bytes(b"<!doctype html><title>gone</title>")
    (folder / "disc" / "half.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "cross" / "moving.gif").write_bytes(pictures.animated("GIF"))
    (folder / "cross" / "tiny.png").write_bytes(pictures.encode(pictures.photo().resize((20, 20)), "PNG"))
    (folder / "cross" / "zbomb.png").write_bytes(pictures.bomb())
    (folder / "disc" / "zcopy.jpg").write_bytes(whole)
    (folder / "disc" / "znear.jpg").write_bytes(pictures.encode(Image.open(io.BytesIO(whole)), "JPEG", quality=45))
    return folder


VERDICTS = {
    "disc/page.jpg": "not_a_photo",
    "disc/half.jpg": "truncated",
    "cross/moving.gif": "not_a_photo",
    "cross/tiny.png": "too_small",
    "cross/zbomb.png": "too_large",
    "disc/zcopy.jpg": "exact_duplicate",
    "disc/znear.jpg": "near_duplicate",
}


def test_from_scraped_photos_to_served_answers(scraped: Path, tmp_path: Path, server: Any, settings: Any) -> None:
    content = yaml.safe_load(SHAPES.read_text())
    recipe = tmp_path / "walk.yaml"
    gate = {"mean_accuracy": 0.6, "max_loss": 0.3}  # few photos: the quality of the model does not matter here
    changes = {"name": "walk", "gate": gate, "export": {"int8": "never", "opset": 17}}  # torch's older exporter
    recipe.write_text(yaml.safe_dump({**content, **changes}))
    split, runs = tmp_path / "split", tmp_path / "runs"

    audit = command("dataset", "audit", scraped, "--recipe", recipe, "--move-to", tmp_path / "refused")
    verdicts = {row["path"]: row["verdict"] for row in rows(scraped / "audit.tsv")}
    assert {path: verdict for path, verdict in verdicts.items() if verdict != "ok"} == VERDICTS
    assert "500" in audit.stdout + audit.stderr
    assert {path.relative_to(tmp_path / "refused").as_posix() for path in (tmp_path / "refused").rglob("*.*")} == set(
        VERDICTS
    )

    command("dataset", "split", scraped, "--recipe", recipe, "--train", 0.7, "--out", split)
    command("dataset", "balance", split, "--recipe", recipe)
    assert len({len(list((split / "train" / label).iterdir())) for label in content["labels"]}) == 1

    command("training", "train", recipe, "--data", split, "--runs", runs)
    trained = newest(runs / "walk", "train")
    command("training", "prune", trained, "--data", split, "--runs", runs)
    pruned = newest(runs / "walk", "prune")
    command("training", "evaluate", pruned, "--data", split)
    report = (pruned / "evaluation" / "report.html").read_text()
    assert not re.search(r"(?:src|href)=[\"'](?!data:)", report), "the report needs something that is not in it"
    assert report.count("data:image/png;base64,") >= 3
    validation = sorted(path for path in (split / "val").rglob("*") if path.is_file())
    answers = rows(pruned / "evaluation" / "answers.tsv")
    assert sorted(row["path"] for row in answers) == [path.as_posix() for path in validation]
    assert json.loads((pruned / "evaluation" / "report.json").read_text())["metrics"]["mean_accuracy"] > 0.6

    command("training", "export", pruned, "--data", split)
    command("deploy", "archive", pruned / "bundle", "1.0", env={"SERVE_STORE": str(settings.store)})
    server.client.register("walk-1.0.mar", "walk")
    try:
        lines = command("training", "predict", pruned / "bundle", *validation).stdout.splitlines()
        for path, line in zip(validation, map(json.loads, lines), strict=True):
            body = {"image_id": path.name, "image_base64": base64.b64encode(path.read_bytes()).decode()}
            answer = server.client.predict("walk", {**body, "detail": True}).json()
            assert (answer["image_id"], answer["result"]) == (path.name, line["result"])
            assert answer["probabilities"] == pytest.approx(line["probabilities"], abs=1e-4)
    finally:
        server.client.manage("DELETE", "/models/walk")
