"""Talk to the serving machine over HTTP: the two machines share no disk and no database."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import requests

from common.errors import AlreadyExists, InvalidInput, Unreachable, UserError

TIMEOUT_S = (5, 60)
MOST_BYTES = 60 * 2**20
_URL = re.compile(r"/uploads/[0-9a-f]{32}\.(jpg|png|webp)", re.ASCII)


@dataclass(frozen=True)
class Agreed:
    """A photo with an agreed label, as the server lists it."""

    id: int
    label: str
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


class FeedbackServer:
    """The web application of the serving machine.

    Args:
        url: for example http://10.0.0.5:5000
        token: with the scope `nightly`.
    """

    def __init__(self, url: str, token: str) -> None:
        self.url = url.rstrip("/")
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Bearer {token}"

    def agreed(self) -> Iterator[Agreed]:
        """All photos with an agreed label, by id."""
        after = 0
        while rows := self._ask("GET", "/user-labels", params={"detail": "1", "after": after}).json():
            yield from map(Agreed.read, rows)
            after = int(rows[-1]["id"])

    def photo(self, agreed: Agreed) -> bytes:
        """A photo's file."""
        with self._ask("GET", agreed.url, stream=True) as reply:
            data = bytes(reply.raw.read(MOST_BYTES + 1))
        if len(data) > MOST_BYTES:
            raise InvalidInput(f"{agreed.url} has more than {MOST_BYTES} bytes")
        return data

    def send_sample(self, data: bytes, name: str, result: str, confidence: float, probability: float) -> int:
        """Send a photo of a report's sample to the review; its id. Needs a token with the scope `reports`."""
        fields = {"result": result, "confidence": confidence, "probability": probability}
        return int(self._ask("POST", "/samples", files={"file": (name, data)}, data=fields).json()["id"])

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

    def _require_ok(self, reply: requests.Response, path: str) -> None:
        if not reply.ok:
            raise UserError(f"{self.url}{path} answers {reply.status_code}: {_message(reply)}")

    def _send(self, method: str, path: str, **arguments: Any) -> requests.Response:
        headers = {"Accept": "application/json"}
        try:
            return self._session.request(
                method, self.url + path, timeout=TIMEOUT_S, headers=headers, allow_redirects=False, **arguments
            )
        except requests.RequestException as error:
            raise Unreachable(f"{self.url} does not answer: {error}", "is the web application running?") from error


def _message(reply: requests.Response) -> str:
    try:
        return str(reply.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return reply.text[:100]
