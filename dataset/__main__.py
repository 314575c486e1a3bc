"""`python -m dataset COMMAND`: one command per step."""

from common.cli import CommandGroup

main = CommandGroup(
    "dataset",
    {
        "fetch": "Download CIFAR-10, MNIST or Oxford-IIIT Pet into label folders.",
        "sample": "Draw sample photos, to try every command without a data set.",
        "convert": "Convert a published data set into lists of labelled photos.",
        "audit": "Check every file of a folder: a table of what is usable, and why the rest is not.",
        "groups": "Propose which photos show the same room or call, where no source is known.",
        "stats": "Count photos by class and source, plot their sizes, propose an input size.",
        "label": "Label photos on a local page, one at a time, with one key per label.",
        "balance": "Add modified copies of the smaller classes to the training part of a split.",
        "split": "Split labelled photos by source into train, val and test.",
    },
)
main.help = "Prepare photos for training: fetch, audit, label and split them."

if __name__ == "__main__":
    main(prog_name="python -m dataset")
