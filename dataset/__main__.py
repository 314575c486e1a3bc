"""`python -m dataset`: one command a step."""

from common.cli import CommandGroup

main = CommandGroup(
    "dataset",
    {
        "fetch": "Fetch CIFAR-10, MNIST or Oxford-IIIT Pet into label folders.",
        "sample": "Draw a set of photos, so that every command can be tried with none at hand.",
        "convert": "Turn a data set as it is published into lists of labelled photos.",
        "audit": "Decode each file of a folder whole: a table of what can be used and why not.",
        "stats": "Count photos by class and source, plot their sizes, propose an input size.",
        "label": "Label photos on a local page: one at a time, a key for each label.",
        "balance": "Add changed copies of the smaller classes to a split's train part.",
        "split": "Split labelled photos by source into train, val and test.",
    },
)
main.help = "Photos before any model sees them."

if __name__ == "__main__":
    main(prog_name="python -m dataset")
