"""Grouped cross-validation: every photo is tested once, by models that saw no photo of its source."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import click.testing
import numpy as np
import pytest
import torch
import yaml

from config.recipe import read_recipe
from dataset.photos import read_photos
from tests.helpers.commands import SHAPES, newest
from training.crossvalidate import crossvalidate
from training.experiments import crossvalidation
from training.fitting.distillation import TeacherRecipe, read_teacher_recipe
from training.fitting.trainer import train_model
from training.records.run import CrossValidated, Fold, Inputs


def test_crossvalidation_tests_each_photo_once_and_goes_on_after_an_interruption(
    short: Path, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    interruption = iter([True])

    def fold(recipe: Any, photos: Any, added: Any, tested: Any, teacher: Any) -> Fold:
        if len(calls) == 1 and next(interruption, False):
            raise KeyboardInterrupt
        calls.append(len(tested))
        assert not {p.source for p in photos} & {p.source for p in tested}
        rows = [[0.0 if index == photo.label else -5.0 for index in range(3)] for photo in tested]
        before = [[-10.0 if value == 0 else 0.0 for value in rows[0]], *rows[1:]]  # one wrong answer per fold
        conditions = crossvalidation.CONDITIONS
        return Fold(photos=[], answers=dict.fromkeys(conditions, rows), unpruned=dict.fromkeys(conditions, before))

    monkeypatch.setattr(crossvalidation, "run_fold", fold)
    arguments = [str(short), "--data", str(drawn), "--runs", str(tmp_path / "runs")]
    runner = click.testing.CliRunner()
    assert runner.invoke(crossvalidate, arguments).exit_code == 1
    done = runner.invoke(crossvalidate, arguments)
    assert done.exit_code == 0, done.output
    assert len(calls) == 2
    assert sum(calls) == 90
    run = json.loads((newest(tmp_path / "runs" / "shapes", "crossvalidate") / "run.json").read_text())
    assert run["metrics"]["as they are"]["mean_accuracy"] == 1.0
    paired = run["paired"]["as they are"]
    assert (paired["photos"], paired["lost"], paired["won"], paired["net_flips"]) == (90, 0, 2, -2)
    assert paired["mean_change"] == pytest.approx(2 / 90, abs=0.002)
    assert not list((tmp_path / "runs" / "shapes").glob("*.folds.json"))


def test_a_real_fold_runs_from_start_to_end(short: Path, drawn: Path) -> None:
    recipe = read_recipe(short)
    photos = read_photos(drawn, recipe.labels)
    result = crossvalidation.run_fold(recipe, photos[::2], [], photos[1::6])
    for condition in crossvalidation.CONDITIONS:
        for rows in (result.answers[condition], result.unpruned[condition]):
            assert np.exp(rows).sum(axis=1) == pytest.approx(1, abs=1e-3)
        assert np.shape(result.unpruned[condition]) == (15, 3)
        assert result.unpruned[condition] != result.answers[condition]
    assert torch.isfinite(torch.tensor(result.answers[crossvalidation.REENCODED])).all()


def test_cross_validation_sees_neither_the_test_part_nor_copies(
    short: Path, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = read_recipe(short)
    photos = [
        replace(photo, part="test") if index % 3 == 0 else photo
        for index, photo in enumerate(read_photos(drawn, recipe.labels))
    ]
    photos[1] = replace(photos[1], row={"made_from": "x.jpg"})

    def fold(recipe: Any, rest: Any, added: Any, tested: Any, teacher: Any) -> Fold:
        used = {photo.path for photo in (*rest, *tested)}
        assert used == {photo.path for photo in photos if photo.part != "test" and not photo.is_copy}
        answers = dict.fromkeys(crossvalidation.CONDITIONS, [[0.0, 0.0, 0.0]] * len(tested))
        return Fold(photos=[], answers=answers, unpruned=answers)

    monkeypatch.setattr(crossvalidation, "run_fold", fold)
    _, record = crossvalidation.cross_validate(recipe, photos, [], tmp_path)
    assert isinstance(record.result, CrossValidated)
    assert sum(map(sum, record.result.metrics["as they are"].confusion)) == 59


def test_the_teacher_of_a_fold_sees_only_the_photos_of_its_student(
    student: Path, drawn: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, teaching = read_recipe(student), read_recipe(SHAPES)
    photos = read_photos(drawn, recipe.labels)
    unlabelled = [replace(photo, label=-1) for photo in photos[3::6]]
    trained: list[tuple[str, set[Path], object]] = []
    really = train_model

    def recorded(of: Any, training: Any, validation: Any, **kwargs: Any) -> Any:
        result = really(of, training, validation, **kwargs)
        trained.append((of.name, {photo.path for photo in training}, kwargs.get("teacher")))
        assert not {photo.path for photo in (*training, *validation)} & {photo.path for photo in photos[1::6]}
        return result

    monkeypatch.setattr(crossvalidation, "train_model", recorded)
    result = crossvalidation.run_fold(recipe, photos[::2], [], photos[1::6], TeacherRecipe(teaching, unlabelled))
    (teacher, photos_of_teacher, teacher_of_teacher), (name, photos_of_student, teacher_of_student) = trained
    assert (teacher, name) == ("shapes", "student")
    assert teacher_of_teacher is None and teacher_of_student is not None
    assert photos_of_student - photos_of_teacher == {photo.path for photo in unlabelled}
    right = np.argmax(result.answers["as they are"], axis=1) == [photo.label for photo in photos[1::6]]
    assert right.mean() >= 0.6  # it never saw a label: a third is chance


@pytest.fixture
def student(short: Path) -> Path:
    """The drawn recipe, learning from a teacher alone."""
    content = yaml.safe_load(short.read_text())
    content["name"] = "student"
    content["train"] |= {"distill": 1.0, "epochs": 20}
    content["prune"]["epochs"] = 6
    path = short.parent / "student.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_run_names_the_recipe_of_its_teacher(student: Path) -> None:
    teacher = read_teacher_recipe("shapes", [], read_recipe(student))
    assert teacher is not None
    inputs = teacher.added_to(Inputs()).as_json()
    assert (inputs["taught_by"]["name"], inputs["unlabelled"]["photos"]) == ("shapes", 0)


@pytest.mark.parametrize(
    ("recipe", "options", "words"),
    [
        ("student", (), "train.distill needs a teacher: give --teacher RECIPE"),
        ("short", ("--unlabelled", "PHOTOS"), "--unlabelled needs a teacher: give --teacher RECIPE"),
        ("short", ("--teacher", "shapes"), "--teacher shapes has no share of the loss: set train.distill"),
        ("student", ("--teacher", "classroom"), "--teacher classroom has labels offline, online, this recipe has disc"),
        ("student", ("--teacher", "shape"), "did you mean shapes?"),
        ("student", ("--teacher", "shapes", "--unlabelled", "PHOTOS"), "leave it out"),
        ("student", ("--teacher", "shapes", "--unlabelled", "EMPTY"), "has no photo: give another folder"),
    ],
)
def test_a_teacher_that_cannot_teach_is_refused(
    student: Path, short: Path, drawn: Path, tmp_path: Path, recipe: str, options: tuple[str, ...], words: str
) -> None:
    (tmp_path / "empty").mkdir()
    places = {"PHOTOS": drawn / "disc", "EMPTY": tmp_path / "empty"}
    options_given = [places.get(word, word) for word in options]
    way = {"student": student, "short": short}[recipe]
    arguments = [way, "--data", drawn, "--runs", tmp_path / "runs", *options_given]
    done = click.testing.CliRunner().invoke(crossvalidate, [str(word) for word in arguments])
    assert done.exit_code == 1, done.output
    assert words in done.output.strip().splitlines()[-1]
    assert not list((tmp_path / "runs").rglob("*"))
