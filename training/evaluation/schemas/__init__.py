"""JSON schemas (draft 2020-12) of the files that other systems read."""

import json
from pathlib import Path
from typing import Any

import jsonschema

from common.errors import CheckFailed


def check(name: str, content: Any) -> None:
    """Check plain data against `training/evaluation/schemas/NAME.json`, before it is written.

    Raises:
        CheckFailed: names the first fault and its place.
    """
    schema = json.loads((Path(__file__).parent / f"{name}.json").read_text(encoding="utf-8"))
    fault = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(schema).iter_errors(content))
    if fault:
        raise CheckFailed(f"{name}.json: {fault.json_path}: {fault.message[:200]}", "report this bug")
