"""Measure the shipped int8 graph with fewer CPU instructions: milliseconds per photo, and differences of answers.

    python -m benchmarks.instructions [BUNDLE]

Every measurement runs in another process with `ONEDNN_MAX_CPU_ISA`, which oneDNN reads when it starts. AVX512_CORE and
AVX2 have no VNNI: int8 products are summed in 16 bits there, which overflows without NNCF's overflow fix. The times
show that the runtime respects the limit. Writes benchmarks/results/instructions.json.
"""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.footprint import BUNDLE
from benchmarks.harness.commands import RESULTS
from common.cli import command
from common.files import write_json
from deploy.settings import ROOT
from handler import engine, goldens
from handler.image import preprocess
from handler.spec import read_spec
from training.compression.cost import alternating

LEVELS = ("", "AVX512_CORE", "AVX2", "SSE41")
"""What oneDNN may use; "" means everything."""


@command(epilog="Example: python -m benchmarks.instructions --rounds 1 --quick")
@click.argument("bundle", default=BUNDLE, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1))
@click.option("--quick", is_flag=True, help="Do not write the result.")
@click.option("--one", is_flag=True, hidden=True)
def main(bundle: Path, rounds: int, quick: bool, one: bool) -> None:
    """Time BUNDLE's graph at each level."""
    if one:
        click.echo(json.dumps(measure(bundle)))
        return
    measured: dict[str, list[dict[str, Any]]] = {level: [] for level in LEVELS}
    for _ in range(rounds):
        for level in LEVELS:
            measured[level].append(_in_a_process(bundle, level))
    rows = {level or "all": _row(runs, measured[""][0]["answers"]) for level, runs in measured.items()}
    click.echo("| instructions up to | ms | this / all | largest difference of p from all |\n|---|---|---|---|")
    for level, row in rows.items():
        click.echo(f"| {level} | {row['ms']} | {row['ms'] / rows['all']['ms']:.2f} | {row['difference']:.4f} |")
    if not quick:
        write_json(RESULTS / "instructions.json", {"benchmark": "instructions", "rounds": rounds, "levels": rows})


def measure(bundle: Path) -> dict[str, Any]:
    """Median time of one inference in ms, and the probabilities of every golden photo."""
    spec = read_spec(bundle / "recipe.json")
    predict = engine.load(bundle / "model.onnx", spec)
    photos = [preprocess((bundle / row.photo).read_bytes(), spec.input, spec.limits) for row in goldens.read(bundle)]
    (spent,) = alternating([lambda: predict(photos[0])], 50)
    return {"ms": spent, "answers": [predict(photo).tolist() for photo in photos]}


def _in_a_process(bundle: Path, level: str) -> dict[str, Any]:
    environment = {**os.environ, **({"ONEDNN_MAX_CPU_ISA": level} if level else {})}
    command = [sys.executable, "-m", "benchmarks.instructions", str(bundle.resolve()), "--one"]
    done = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _row(runs: list[dict[str, Any]], expected: list[list[float]]) -> dict[str, float]:
    difference = np.abs(np.array([run["answers"] for run in runs]) - np.array(expected)).max()
    return {"ms": round(statistics.median(run["ms"] for run in runs), 2), "difference": round(float(difference), 6)}


if __name__ == "__main__":
    main()
