"""Which share of a model's requests goes to a candidate: one symbolic link, which nginx follows for each request.

    var/front/canary/NAME/route.json                     the candidate's version, the salt, the steps
    var/front/canary/NAME/now -> 1.2~SALT~5/             version 1.2 gets 5 %: the folder has the files 0000 to 0049

nginx computes the number of a request, 0000 to 0999, from salt and key (the header X-Image-Id, else the request)
and sends it to the candidate if the folder has a file of that name. So a key always gets the same version, and keeps
the candidate when the share grows; another canary has another salt, and other keys see it first. A share begins,
changes and ends with the link: no reload, which would close clients' connections, and no process. Files 00 to 99 of the
folder `shadow` in it say of which requests the shadow gets a copy.
"""

import contextlib
import json
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from common.errors import InvalidInput
from common.files import write_json, writing
from traffic.front.folder import folder

NUMBERS = 1000
"""A request has one of so many numbers: a share is a multiple of 0.1 %."""
_FILE, _LINK, _SHADOW = "route.json", "now", "shadow"


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


def begin(var: Path, name: str, version: str, steps: Sequence[float]) -> Route:
    """Prepare shares for a candidate. It gets no request yet; those that it will be compared with are counted.

    Raises:
        InvalidInput: the steps do not rise, or are not percentages with at most one digit after the point.
    """
    below = [*steps]
    if not below or below != sorted(set(below)) or not all(0.1 <= p <= 100 and round(p, 1) == p for p in below):
        raise InvalidInput(f"{below} are not steps", "give rising percentages, for example 1,5,25,100")
    route = Route(name, version, secrets.token_hex(8), tuple(below))
    with writing(place(var, name)):
        write_json(place(var, name) / _FILE, asdict(route))
    set_share(var, route, 0)
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


def set_share(var: Path, route: Route, percent: float, shadow: int = 0) -> None:
    """Give the candidate this share, from the next request on.

    Args:
        shadow: percent of the requests of which the shadow gets a copy.
    """
    home = place(var, route.name)
    target, link = home / f"{route.version}~{route.salt}~{percent:g}", home / f"{_LINK}.new"
    with writing(home):
        target.mkdir(exist_ok=True)
        for number in range(round(percent * NUMBERS / 100)):
            (target / f"{number:04d}").touch()
        shutil.rmtree(target / _SHADOW, ignore_errors=True)
        if shadow:
            (target / _SHADOW).mkdir()
        for number in range(shadow):
            (target / _SHADOW / f"{number:02d}").touch()
        link.unlink(missing_ok=True)
        link.symlink_to(target.name)
        link.replace(home / _LINK)


def share(var: Path, route: Route) -> float:
    """The percentage that the candidate gets now."""
    try:
        return float((place(var, route.name) / _LINK).readlink().name.rpartition("~")[2])
    except (OSError, ValueError):
        return 0.0


def shadowed(var: Path, route: Route) -> bool:
    """Whether the shadow gets copies of requests."""
    return (place(var, route.name) / _LINK / _SHADOW).is_dir()


def end(var: Path, name: str) -> None:
    """Give the candidate nothing more, at once, and forget it."""
    for path in (place(var, name) / _LINK, place(var, name) / _FILE):
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
    for path in place(var, name).glob("*~*~*"):
        shutil.rmtree(path, ignore_errors=True)


def place(var: Path, name: str) -> Path:
    """The folder of a model's canary."""
    return folder(var) / "canary" / name
