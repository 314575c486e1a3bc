"""The commands of the feedback loop: python -m feedback COMMAND, or photoloop feedback COMMAND."""

from common.cli import CommandGroup

main = CommandGroup(
    "feedback",
    {
        "serve": "Serve the upload and review pages.",
        "user": "Add and list the accounts of people, and tokens of machines.",
        "export": "Write the agreed photos as label folders that training reads.",
        "forget": "Remove photos: those of an image id, or those that have expired.",
        "keys": "Make, show and trust the keys that sign archives.",
        "publish": "Serve the archives of the nights to the serving machine, read-only.",
        "deliver": "Download, check and roll out the versions that were announced.",
        "nightly": "Pull agreed labels, fine-tune, judge, and announce a better model.",
    },
)
main.help = "Upload, correct and review photos; fine-tune at night; deliver only a better model."

if __name__ == "__main__":
    main(prog_name="python -m feedback")
