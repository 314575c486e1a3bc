"""python -m traffic COMMAND: tokens of the front's clients, and canaries."""

from common.cli import CommandGroup

main = CommandGroup(
    "traffic",
    {
        "token": "Print, add or remove the token of a client of the front.",
        "canary": "Give a new version a growing share of the requests; stop it if it answers worse.",
        "status": "Print state and share of each canary.",
        "verdict": "Print the last verdict and every count that it rests on.",
        "stop": "Give the candidate no more requests, at once, and retire it.",
        "promote": "Make the candidate the default.",
    },
    {"verdict": "status"},
)
main.help = "Clients' requests: the front on ports 8086 and 8087, and canaries."

if __name__ == "__main__":
    main(prog_name="python -m traffic")
