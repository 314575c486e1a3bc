"""`python -m training`: one command a step, each reads a folder and writes a folder."""

from common.cli import CommandGroup

main = CommandGroup(
    "training",
    {
        "sanity": "Ask a pretrained backbone for ImageNet's names of a few photos.",
        "train": "Train a model on labelled photos.",
        "prune": "Set a share of a run's weights to zero and fine-tune what is left.",
        "evaluate": "Measure a run or a bundle: accuracy by class, confusion, latency.",
        "export": "Turn a run into a bundle that can be packed: one-file ONNX, goldens, gate.",
        "crossvalidate": "Train, prune and export on all but one group of sources, test on it, in turn.",
        "summary": "Show a model's layers, shapes, parameters and memory.",
        "predict": "Ask a run or a bundle about photos, without a server.",
        "onnx-predict": "Ask a graph about a photo with ONNX Runtime alone: table and bar chart.",
        "graph": "Write a graph as readable text and as SVG.",
        "recipes": "List the recipes: task, classes, input, backbone, weights.",
        "analyse": "Write a run's answers and what they depend on, as files that other systems read.",
        "job": "Train as a cloud job: data from a URL, package and analysis to two others.",
        "runs": "List runs with metrics and lineage, compare two, delete some.",
    },
)
main.help = "Labelled photos -> a candidate: train, prune, evaluate, export."

if __name__ == "__main__":
    main(prog_name="python -m training")
