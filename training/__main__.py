"""`python -m training`: one command per step; each reads a folder and writes a folder."""

from common.cli import CommandGroup

main = CommandGroup(
    "training",
    {
        "sanity": "Check a pretrained backbone: ImageNet names of a few photos.",
        "train": "Train a model on labelled photos.",
        "prune": "Remove a share of a run's weights or channels and fine-tune the rest.",
        "evaluate": "Evaluate a run or a bundle: accuracy by class, calibration, latency.",
        "export": "Export a run as a bundle: ONNX graph, golden photos, gate.",
        "crossvalidate": "Train, prune, export and test in folds grouped by source.",
        "summary": "Show a model's layers, shapes, parameters and memory.",
        "predict": "Predict photos with a run or a bundle, without a server.",
        "onnx-predict": "Predict a photo with ONNX Runtime only: table and bar chart.",
        "graph": "Write a graph as readable text and as SVG.",
        "recipes": "List the recipes: task, classes, input, backbone, weights.",
        "analyse": "Write predictions and their analysis as files for other systems.",
        "job": "Train as a cloud job: photos from a URL, results to two others.",
        "runs": "List runs with metrics and lineage, compare two, delete some.",
    },
)
main.help = "From labelled photos to a bundle: train, prune, evaluate, export."

if __name__ == "__main__":
    main(prog_name="python -m training")
