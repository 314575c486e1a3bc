"""docs/openapi.yaml is what `python -m scripts.openapi` writes."""

import pytest
import yaml

from deploy.settings import ROOT
from handler.errors import CODES
from handler.spec import read_spec
from scripts.openapi import FRONT_END, SHIPPED, TARGET, as_yaml, describe

SPEC = read_spec(SHIPPED / "recipe.json")


def test_the_file_is_up_to_date() -> None:
    written = TARGET.read_text(encoding="utf-8")
    assert written == as_yaml(describe(SPEC)), "run `python -m scripts.openapi` and commit docs/openapi.yaml"


def test_every_error_code_is_an_error_of_its_status() -> None:
    responses = yaml.load(TARGET.read_text(encoding="utf-8"), yaml.CSafeLoader)["components"]["responses"]
    for code, status in CODES.items():
        assert code in responses[f"Predicted{int(status)}"]["description"]


@pytest.mark.parametrize("changes", [{"format": "top", "top": 2}, {"unsure_below": 0.5}])
def test_a_recipe_changes_the_answer(changes: dict[str, object]) -> None:
    spec = SPEC.model_copy(update={"answer": SPEC.answer.model_copy(update=changes)})
    answer = describe(spec)["components"]["schemas"]["Answer"]
    assert ("top" in answer["required"]) is (changes.get("format") == "top")
    assert str(spec.answer.unsure_below) in answer["properties"]["unsure"]["description"]


def test_the_front_ends_statuses_are_in_the_page() -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    rows = page.partition("TorchServe's front end")[2]
    assert all(f"| {status} |" in rows for status in FRONT_END)
