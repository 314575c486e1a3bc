"""`python -m dataset`: one command a step."""

from config.steps import Steps

main = Steps(
    "dataset",
    {
        "sample": "Draw a set of photos, so that every command can be tried with none at hand.",
    },
)
main.help = "Photos before any model sees them."

if __name__ == "__main__":
    main(prog_name="python -m dataset")
