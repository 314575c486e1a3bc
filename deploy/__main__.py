"""`python -m deploy`: one command per step, from a bundle to a served version. Imports no torch."""

from common.cli import CommandGroup

main = CommandGroup(
    "deploy",
    {
        "archive": "Pack a bundle as a TorchServe archive with its manifest.",
        "fetch": "Download an archive into the store, by its digest.",
        "up": "Serve in the background; returns when predictions are correct.",
        "down": "Stop the server.",
        "serve": "Serve in the foreground, until Ctrl-C.",
        "predict": "Classify photos with the running server.",
        "load": "Measure latencies and errors under many requests at once.",
        "rollout": "Replace the serving version without losing a request.",
        "rollback": "Make the former default version the default again.",
        "retire": "Unregister a kept version.",
        "status": "Show what is served, what should be, and who is changing it.",
        "history": "List rollouts, rollbacks, retirements and repairs.",
        "tune": "Measure workers, threads and batch sizes on this machine, for SERVE_PROFILE.",
        "models": "List what the running server serves.",
        "token": "Print the inference token of the running server.",
    },
    modules={"down": "up"},
)
main.help = "Pack a bundle as an archive, serve it, and replace the served version."

if __name__ == "__main__":
    main(prog_name="python -m deploy")
