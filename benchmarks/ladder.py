"""Time every stage of the handler for one photo, compared with a plain implementation of the stage.

    python -m benchmarks.ladder [--quick]

Classifies a drawn photo of 1000 x 750 and one of 4000 x 3000 (base64 in JSON) in this process, without a server.
"Plain" is the standard library's JSON and base64, full decoding, a rotated copy and one transpose; "ours" is the
handler. Both are timed in turn, stage by stage. Prints Markdown and writes benchmarks/results/ladder.json.
"""

import base64
import json
import statistics
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from PIL import Image, ImageOps

from benchmarks.footprint import BUNDLE
from benchmarks.harness.commands import RESULTS
from benchmarks.harness.versions import drawn_photo
from common.cli import command
from common.files import write_json
from dataset.draw import draw
from handler import engine
from handler.encodings import decode_base64
from handler.image import fit, open_photo, to_input
from handler.spec import Spec, read_spec

Stage = tuple[str, Callable[[Any], Any], Callable[[Any], Any]]
"""Its name, and the functions of the plain and of our implementation; each takes the output of the stage before."""
NOISE = 5.5
"""Standard deviation of the noise on the large photo, in levels of 255: makes the file as large as a phone's."""


@command(epilog="Example: python -m benchmarks.ladder --quick")
@click.option("--bundle", default=BUNDLE, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--rounds", default=50, show_default=True, type=click.IntRange(1))
@click.option("--quick", is_flag=True, help="Three rounds; writes nothing.")
def main(bundle: Path, rounds: int, quick: bool) -> None:
    """Time every stage of one photo, plain and ours."""
    torch.set_num_threads(1)  # as in the handler
    spec = read_spec(bundle / "recipe.json")
    stages = stages_of(engine.load(bundle / "model.onnx", spec), spec)
    photos = {}
    for name, data in (("1000 x 750", drawn_photo()), ("4000 x 3000", large_photo())):
        rows = measure(stages, request_of(data), 3 if quick else rounds)
        photos[name] = {"bytes": len(data), "stages": rows}
        click.echo(f"{name}, {len(data):,} bytes\n\n{table(rows)}\n")
    if not quick:
        write_json(RESULTS / "ladder.json", {"benchmark": "ladder", "rounds": rounds, "photos": photos})
    click.echo(json.dumps({"benchmark": "ladder", "photos": photos}))


def stages_of(predict: engine.Engine, spec: Spec) -> list[Stage]:
    """From a request's body to the answer's text."""
    size, limits = spec.input, spec.limits

    def answer(probabilities: engine.Probabilities) -> str:
        return json.dumps({"image_id": "1", "result": spec.labels[int(probabilities.argmax())]})

    return [
        ("JSON", _json, _json),
        ("base64", lambda text: base64.b64decode(text, validate=True), lambda text: decode_base64(text, limits)),
        ("decode", _decode, lambda data: open_photo(data, limits, size)),
        ("resize", lambda photo: _transpose(fit(photo, size)), lambda photo: to_input(photo, size)),
        ("inference", predict, predict),
        ("answer", answer, answer),
    ]


def measure(stages: list[Stage], body: bytes, rounds: int) -> dict[str, dict[str, float]]:
    """Median milliseconds of each stage and of all together, for both implementations.

    The plain resize gets the photo in full size, as the plain stage decoded it.
    """
    spent: dict[str, dict[str, list[float]]] = {name: {"plain": [], "ours": []} for name, _, _ in stages}
    for number in range(rounds + 1):
        ways = ("plain", "ours") if number % 2 else ("ours", "plain")
        for way in ways:
            value: Any = body
            for name, plain, ours in stages:
                begun = time.perf_counter()
                value = (plain if way == "plain" else ours)(value)
                if number:  # the first round warms up
                    spent[name][way].append((time.perf_counter() - begun) * 1000)
    rows = {name: {way: round(statistics.median(ms), 3) for way, ms in ways.items()} for name, ways in spent.items()}
    return {**rows, "together": {way: round(sum(row[way] for row in rows.values()), 3) for way in ("plain", "ours")}}


def table(rows: dict[str, dict[str, float]]) -> str:
    """Markdown."""
    lines = ["| stage | plain, ms | ours, ms | |", "|---|---|---|---|"]
    lines += [f"| {name} | {r['plain']} | {r['ours']} | {r['plain'] / r['ours']:.1f} x |" for name, r in rows.items()]
    return "\n".join(lines)


def request_of(data: bytes) -> bytes:
    """The JSON request for a picture file."""
    return json.dumps({"image_id": "1", "image_base64": base64.b64encode(data).decode()}).encode()


def large_photo() -> bytes:
    """A drawn photo of 4000 x 3000 with a camera's noise: about 2.3 MB of JPEG."""
    pixels = np.asarray(draw("room", 1).resize((4000, 3000), Image.Resampling.BICUBIC), dtype=np.float32)
    noise = np.random.default_rng(0).normal(0, NOISE, (1500, 2000, 1)).repeat(2, 0).repeat(2, 1)
    buffer = BytesIO()
    Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _json(body: bytes) -> Any:
    return json.loads(body)["image_base64"]


def _decode(data: bytes) -> Image.Image:
    photo = Image.open(BytesIO(data))
    return ImageOps.exif_transpose(photo).convert("RGB")


def _transpose(photo: Image.Image) -> Any:
    return np.ascontiguousarray(np.asarray(photo).transpose(2, 0, 1))


if __name__ == "__main__":
    main()
