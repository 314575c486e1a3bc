"""The page of the report: one HTML file with its data, style and script inside, so it needs no other file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

from reports.manifest.regions import REGIONS

_HERE = Path(__file__).parent


def render(data: Mapping[str, Any]) -> str:
    """The page as HTML.

    Args:
        data: `shares`, `institutions`, `regions` (rows of the tables), `facts`, `names`.
    """
    tiles = [vars(region) for region in REGIONS.values()]
    environment = Environment(loader=FileSystemLoader(_HERE), autoescape=True)
    return environment.get_template("page.html.j2").render(
        title=data["names"]["en"],
        style=(_HERE / "page.css").read_text(encoding="utf-8"),
        script=(_HERE / "page.js").read_text(encoding="utf-8"),
        words=_embedded(json.loads((_HERE / "words.json").read_text(encoding="utf-8"))),
        data=_embedded({**data, "tiles": tiles}),
    )


def _embedded(content: Any) -> str:
    """JSON that cannot end the script element that holds it (https://html.spec.whatwg.org/#restrictions-for-contents-of-script-elements)."""
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
