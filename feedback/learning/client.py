"""Talk to the serving machine over HTTP: the two machines share no disk and no database."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from common.errors import AlreadyExists, InvalidInput, Unreachable, UserError

TIMEOUT_S = (5, 60)
MOST_BYTES = 60 * 2**20
_TOKEN = re.compile(r"[\w-]{20,100}", re.ASCII)
_NEW_TOKEN = "make one with: python -m feedback user token NAME --scope nightly, or reports for reports sample"
_OTHER = "correct the address: these are not the pages of feedback"
_URL = re.compile(r"/uploads/[0-9a-f]{32}\.(jpg|png|webp)", re.ASCII)


@dataclass(frozen=True)
class Agreed:
    """A photo with an agreed label, as the server lists it."""

    id: int
    label: str
    sha256: str
    url: str
    chain: int
    uploader: int | None
    reason: str
    probability: float

    @classmethod
    def read(cls, row: Any) -> "Agreed":
        """Check a row of /user-labels.

        Raises:
            InvalidInput: the server sent something else.
        """
        try:
            agreed = cls(
                id=int(row["id"]),
                label=str(row["name"]),
                sha256=str(row["sha256"]),
                url=str(row["url"]),
                chain=int(row["chain"]),
                uploader=None if row["uploader"] is None else int(row["uploader"]),
                reason=str(row["reason"]),
                probability=float(row["probability"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(f"the server sent a row that is not valid: {row!r:.200}") from error
        if not _URL.fullmatch(agreed.url) or not 0 < agreed.probability <= 1:
            raise InvalidInput(f"the server sent a row that is not valid: {row!r:.200}")
        return agreed


def read_token(path: Path) -> str:
    """The token in a file. No error shows what is in the file.

    Raises:
        InvalidInput: it holds no token.
    """
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        token = ""
    if not _TOKEN.fullmatch(token):
        raise InvalidInput(f"{path} does not hold one token and nothing else", _NEW_TOKEN)
    return token


class FeedbackServer:
    """The web application of the serving machine.

    Args:
        url: for example http://10.0.0.5:5000
        token: with the scope `nightly`, or `reports` for samples.

    Raises:
        InvalidInput: the URL is not valid.
    """

    def __init__(self, url: str, token: str) -> None:
        self.url = _checked(url)
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Bearer {token}"

    def agreed(self) -> Iterator[Agreed]:
        """All photos with an agreed label, by id."""
        after = 0
        while rows := self._json("GET", "/user-labels", list, params={"detail": "1", "after": after}):
            page = [Agreed.read(row) for row in rows]
            yield from page
            after = page[-1].id

    def photo(self, agreed: Agreed) -> bytes:
        """A photo's file."""
        with self._ask("GET", agreed.url, stream=True) as reply:
            data = bytes(reply.raw.read(MOST_BYTES + 1))
        if len(data) > MOST_BYTES:
            raise InvalidInput(f"{agreed.url} has more than {MOST_BYTES} bytes")
        return data

    def require_reports(self) -> None:
        """Check that the site answers and takes samples with this token, by sending one without a photo.

        Raises:
            Unreachable, UserError: it does not.
        """
        reply = self._send("POST", "/samples")
        if reply.status_code != requests.codes.bad_request or not _message(reply):
            self._require_ok(reply, "/samples")
            raise InvalidInput(f"{self.url}/samples answers {reply.status_code}", _OTHER)

    def send_sample(self, data: bytes, name: str, result: str, confidence: float, probability: float) -> int:
        """Send a photo of a report's sample to the review; its id. Needs a token with the scope `reports`."""
        fields = {"result": result, "confidence": confidence, "probability": probability}
        return int(self._json("POST", "/samples", dict, files={"file": (name, data)}, data=fields)["id"])

    def newest_version(self) -> int:
        """The version that was announced last; 0 if there is none."""
        return int(self._newest().get("version", 0))

    def announce(self, **row: str | int) -> None:
        """Announce a version with POST /model; nothing to do if it was announced and the answer was lost.

        Raises:
            AlreadyExists: another version with this number was announced.
        """
        reply = self._send("POST", "/model", data=row)
        if reply.status_code == requests.codes.conflict:
            newest = self._newest()
            if (newest.get("link"), newest.get("ckpt_name")) == (row["link"], row["ckpt_name"]):
                return
            raise AlreadyExists(f"{row['name']} {row['version']} was announced by another training machine")
        self._require_ok(reply, "/model")

    def _newest(self) -> dict[str, Any]:
        reply = self._send("GET", "/model")
        return dict(reply.json()) if reply.ok else {}

    def _ask(self, method: str, path: str, **arguments: Any) -> requests.Response:
        reply = self._send(method, path, **arguments)
        self._require_ok(reply, path)
        return reply

    def _json(self, method: str, path: str, kind: type, **arguments: Any) -> Any:
        """The answer's JSON, which must be of a kind."""
        try:
            content = self._ask(method, path, **arguments).json()
        except ValueError:
            content = None
        if not isinstance(content, kind):
            raise InvalidInput(f"{self.url}{path} answers without the expected JSON", _OTHER)
        return content

    def _require_ok(self, reply: requests.Response, path: str) -> None:
        if reply.status_code < requests.codes.multiple_choices:
            return
        problem, message = f"{self.url}{path} answers {reply.status_code}", _message(reply)
        if not message:
            raise InvalidInput(problem, _OTHER)
        refused = reply.status_code in (requests.codes.unauthorized, requests.codes.forbidden)
        raise UserError(f"{problem}: {message}", _NEW_TOKEN if refused else "")

    def _send(self, method: str, path: str, **arguments: Any) -> requests.Response:
        headers = {"Accept": "application/json"}
        try:
            return self._session.request(
                method, self.url + path, timeout=TIMEOUT_S, headers=headers, allow_redirects=False, **arguments
            )
        except requests.RequestException as error:
            fix = "start the pages there, or correct the address"
            raise Unreachable(f"{self.url} does not answer: {_reason(error)}", fix) from error


def _checked(url: str) -> str:
    """The URL without a slash at its end.

    Raises:
        InvalidInput: it is not valid.
    """
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # the port
        valid = False
    if not valid:
        raise InvalidInput(f"{url!r} is not an address", "write http://HOST:PORT or https://HOST")
    return url.rstrip("/")


def _reason(error: BaseException) -> str:
    """The innermost reason of a failed request, without the classes of its libraries."""
    if isinstance(error, requests.Timeout):
        return f"no answer within {TIMEOUT_S[1]} s"
    cause: BaseException | None = error
    while cause:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return "the connection broke"


def _message(reply: requests.Response) -> str:
    """The message of an error of the web application; empty if another program answered."""
    try:
        return str(reply.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return ""
