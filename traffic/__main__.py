"""python -m traffic COMMAND: the tokens of clients."""

from common.cli import CommandGroup

main = CommandGroup(
    "traffic",
    {
        "token": "Print, add or remove the token of a client of the front.",
    },
)
main.help = "Clients' requests: the front on ports 8086 and 8087."

if __name__ == "__main__":
    main(prog_name="python -m traffic")
