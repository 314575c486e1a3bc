"""Which share of a model's requests goes to a candidate: files in var/front/canary/NAME that nginx looks for.

    route.json                 the candidate's version, the salt, the steps; nginx reads its configuration again
    s0010, s0050, s0250        shares of 1, 5 and 25 %: nginx sends a request on if the file of its share exists

A request belongs to the smallest share that includes the hash of salt and key (the header X-Image-Id, else the request
itself). So a key always gets the same version, and keeps the candidate when the share grows; another canary has
another salt, and other keys see it first. To change the share is to make or to remove a file: no reload, no process.
"""

import contextlib
import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from common.errors import InvalidInput, Unreachable
from common.files import write_json, writing
from traffic.front.folder import folder

FOLLOWED_S = 15.0
_FILE = "route.json"


@dataclass(frozen=True)
class Route:
    """A candidate that may get requests.

    Attributes:
        steps: shares in percent, rising.
    """

    name: str
    version: str
    salt: str
    steps: tuple[float, ...]

    @property
    def buckets(self) -> list[tuple[float, str]]:
        """(percent, file) of each share below 100, each without those before it: 1, 4, 20 for 1, 5, 25 %."""
        below = [percent for percent in self.steps if percent < 100]
        return [(round(now - before, 1), bucket(now)) for before, now in zip([0.0, *below], below, strict=False)]


def bucket(percent: float) -> str:
    """The file of a share."""
    return f"s{round(percent * 10):04d}"


def begin(var: Path, name: str, version: str, steps: Sequence[float]) -> Route:
    """Prepare shares for a candidate; it gets no request yet.

    Raises:
        InvalidInput: the steps do not rise, or are not percentages with at most one digit after the point.
    """
    below = [*steps]
    if not below or below != sorted(set(below)) or not all(0.1 <= p <= 100 and round(p, 1) == p for p in below):
        raise InvalidInput(f"{below} are not steps", "give rising percentages, for example 1,5,25,100")
    route = Route(name, version, secrets.token_hex(8), tuple(below))
    with writing(place(var, name)):
        write_json(place(var, name) / _FILE, asdict(route))
    return route


def read(var: Path, name: str) -> Route | None:
    """The route of a model; None if it has no candidate."""
    try:
        row = json.loads((place(var, name) / _FILE).read_text(encoding="utf-8"))
        return Route(**{**row, "steps": tuple(row["steps"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def read_all(var: Path) -> list[Route]:
    """The routes of all models."""
    names = sorted(path.parent.name for path in (folder(var) / "canary").glob(f"*/{_FILE}"))
    return [route for name in names if (route := read(var, name))]


def set_share(var: Path, route: Route, percent: float) -> None:
    """Give the candidate this share; 0: nothing. The files of smaller shares stay, so that keys keep the candidate."""
    wanted = {bucket(step) for step in route.steps if step <= percent}
    with writing(place(var, route.name)):
        for path in _buckets(var, route.name):
            if path.name not in wanted:
                path.unlink(missing_ok=True)
        for name in sorted(wanted):
            (place(var, route.name) / name).touch()


def share(var: Path, route: Route) -> float:
    """The percentage that the candidate gets now."""
    present = {path.name for path in _buckets(var, route.name)}
    return max((step for step in route.steps if bucket(step) in present), default=0.0)


def end(var: Path, name: str) -> None:
    """Give the candidate nothing more, at once, and forget it."""
    for path in _buckets(var, name):
        path.unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError):
        (place(var, name) / _FILE).unlink()


def wait_until_followed(var: Path, route: Route) -> None:
    """Wait until nginx's configuration has the route.

    Raises:
        Unreachable: it does not in time.
    """
    deadline = time.monotonic() + FOLLOWED_S
    while route.salt not in _configuration(var):
        if time.monotonic() > deadline:
            raise Unreachable("the front does not follow", "see var/logs/front_program.log; does the server run?")
        time.sleep(0.1)


def place(var: Path, name: str) -> Path:
    """The folder of a model's canary."""
    return folder(var) / "canary" / name


def _buckets(var: Path, name: str) -> list[Path]:
    return sorted(place(var, name).glob("s[0-9][0-9][0-9][0-9]"))


def _configuration(var: Path) -> str:
    try:
        return (folder(var) / "nginx.conf").read_text(encoding="utf-8")
    except OSError:
        return ""
