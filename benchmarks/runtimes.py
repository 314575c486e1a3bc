"""Compare a network in torch, ONNX Runtime and OpenVINO: milliseconds per photo, and differences of answers.

    python -m benchmarks.runtimes                          # scenes11, the ONNX document's network
    python -m benchmarks.runtimes --recipe cifar10

The weights are random, because speed does not depend on them. The runtimes take turns with one photo at a time, in
float, with the recipe's number of threads. Prints Markdown and writes benchmarks/results/runtimes.json.
"""

import tempfile
from pathlib import Path

import click
import numpy as np
import torch

from benchmarks.harness.commands import RESULTS
from common.cli import command
from common.files import write_json
from config.recipe import override, read_recipe
from handler import engine
from training.bundles.onnx_export import to_onnx
from training.compression.cost import alternating
from training.models.registry import build


@command(epilog="Example: python -m benchmarks.runtimes --recipe shapes --rounds 3 --quick")
@click.option("--recipe", "name", default="scenes11", show_default=True)
@click.option("--rounds", default=30, show_default=True, type=click.IntRange(1))
@click.option("--quick", is_flag=True, help="Do not write the result.")
def main(name: str, rounds: int, quick: bool) -> None:
    """Time a recipe's network in three runtimes."""
    recipe = override(read_recipe(name), "backbone", weights="none")
    torch.manual_seed(0)
    torch.set_num_threads(recipe.runtime.threads)
    model = build(recipe.backbone, len(recipe.labels), recipe.input).eval()
    photo = np.random.default_rng(0).integers(0, 256, recipe.input.shape, dtype=np.uint8)
    batch = torch.from_numpy(photo)[None]
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder) / "model.onnx"
        graph.write_bytes(to_onnx(model, recipe).SerializeToString())
        engines = {
            runtime: engine.load(graph, override(recipe, "runtime", engine=runtime, device="cpu", precision="f32"))
            for runtime in ("onnxruntime", "openvino")
        }
    with torch.no_grad():
        expected = model(batch).softmax(1)[0].numpy()
    times = alternating([lambda: model(batch), *(lambda run=run: run(photo) for run in engines.values())], rounds)
    rows = {"torch": (times[0], 0.0)}
    for (runtime, run), spent in zip(engines.items(), times[1:], strict=True):
        rows[runtime] = (spent, float(np.abs(run(photo) - expected).max()))
    click.echo("| runtime | ms | torch / this | largest difference of p from torch |\n|---|---|---|---|")
    for runtime, (spent, difference) in rows.items():
        click.echo(f"| {runtime} | {spent} | {times[0] / spent:.2f} | {difference:.1e} |")
    if not quick:
        result = {runtime: {"ms": spent, "difference": difference} for runtime, (spent, difference) in rows.items()}
        write_json(RESULTS / "runtimes.json", {"benchmark": "runtimes", "recipe": name, "runtimes": result})


if __name__ == "__main__":
    main()
