"""`python -m deploy`: one command a step. Imports no torch."""

from common.cli import CommandGroup

main = CommandGroup(
    "deploy",
    {
        "archive": "Pack a bundle as a TorchServe archive with its manifest.",
        "up": "Serve in the background; returns when predictions are correct.",
        "down": "Stop the server.",
        "serve": "Serve in the foreground, until Ctrl-C.",
        "predict": "Ask the running server about photos.",
        "rollout": "Replace the serving version without losing a request.",
        "rollback": "Make the former default version the default again.",
        "retire": "Unregister a kept version.",
        "status": "Show what is served, what should be, and who is changing it.",
        "history": "List rollouts, rollbacks, retirements and repairs.",
        "tune": "Measure workers, threads and batches on this machine, for SERVE_PROFILE.",
        "models": "List what the running server serves.",
        "token": "Print the inference token of the running server.",
    },
    modules={"down": "up"},
)
main.help = "A bundle -> an archive -> a version that is registered, proven and answers."

if __name__ == "__main__":
    main(prog_name="python -m deploy")
