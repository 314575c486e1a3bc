"""`python -m reports COMMAND`: one command per step."""

from common.cli import CommandGroup

main = CommandGroup(
    "reports",
    {
        "sample-data": "Draw an example: photos of 34 regions during a wave of moves, with their manifest.",
        "check": "Say what is wrong with a manifest, row by row.",
        "score": "Classify every photo of a manifest with the code of an archive.",
        "sample": "Draw scored photos for review, to correct the shares for the classifier's errors.",
        "build": "Write the report: one page that needs no internet, and CSV files.",
        "drift": "Say on which days photos and answers differ from the days before.",
        "drift-served": "Say on which days the requests of a node differ from the days before.",
        "explore": "Ask the scores questions in the browser (Datasette, an extra).",
    },
)
main.help = "Score millions of photos, and report the share of a label by region and week."

if __name__ == "__main__":
    main(prog_name="python -m reports")
