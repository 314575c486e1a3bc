"""The labelling page's server: routes -> `dataset.labelling.assignments`.

    GET  /                   the page, dataset/page/
    GET  /api/state          labels with their keys, who labels, the session
    GET  /photo/INDEX        the photo as a browser shows it: JPEG, upright, at most 1600 pixels wide or high
    POST /api/turn           the client's photo                   {client}
    POST /api/skip           ... another one                      {client, id}
    POST /api/hold           it is still being looked at          {client, id}
    POST /api/decide         {client, id, revision, by} and either label or set_aside
    POST /api/undo           {client}

It is for the people at this machine: other hosts' names are refused (DNS rebinding), and a POST needs the
session's own header, which no other site's page can send. An error is `{"error": {"code", "message"}}`.
"""

import os
import re
import secrets
import string
from collections.abc import Callable
from http import HTTPStatus
from io import BytesIO
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from common.errors import UserError
from dataset.labelling.assignments import Desk, Turn
from dataset.labelling.decisions import Conflict, Decision
from dataset.labelling.rows import ASIDE
from dataset.labelling.suggestions import Suggestions, read_photo
from handler.errors import RequestError
from handler.spec import Limits

PAGE = Path(__file__).parent / "page"
LONGEST = 1600
_KEYS = [*"123456789", *(letter for letter in string.ascii_lowercase if letter not in "busz")]  # broken, undo ...
_BODY = 10_000
_SAFE = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class Refusal(Exception):
    """An answer other than 200."""

    def __init__(self, status: HTTPStatus, code: str, message: str, **facts: object) -> None:
        super().__init__(message)
        self.status, self.content = status, {"code": code, "message": message, **facts}


class LabelPage:
    """The routes of one labelling.

    Args:
        facts: what the page tells people: `task`, `by`, `table`, `again` and `next` (commands).
        limits: of photos that can be shown.
    """

    def __init__(self, desk: Desk, suggestions: Suggestions, facts: dict[str, str], limits: Limits) -> None:
        self.desk, self.suggestions, self.facts, self.limits = desk, suggestions, facts, limits
        self.session = secrets.token_urlsafe(16)

    def app(self) -> Starlette:
        posts = {"turn": self.turn, "skip": self.skip, "hold": self.hold, "decide": self.decide, "undo": self.undo}
        return Starlette(
            routes=[
                Route("/", lambda _: FileResponse(PAGE / "index.html")),
                Route("/api/state", self.state),
                Route("/photo/{index:int}", self.photo),
                *(Route(f"/api/{name}", self._post(work), methods=["POST"]) for name, work in posts.items()),
                Mount("/static", StaticFiles(directory=PAGE)),
            ],
            middleware=[
                Middleware(Headers),
                Middleware(TrustedHostMiddleware, allowed_hosts=["localhost", "127.0.0.1"], www_redirect=False),
            ],
        )

    def state(self, _: Request) -> Response:
        """What the page needs once."""
        labels = self.desk.labelling.labels
        keys = [*_KEYS, *[""] * len(labels)]
        named = [{"label": label, "key": key} for label, key in zip(labels, keys, strict=False)]
        return JSONResponse({**self.facts, "session": self.session, "labels": named, "aside": ASIDE})

    def photo(self, request: Request) -> Response:
        """A photo, by its index: no path is ever taken from a request."""
        try:
            path = self.desk.entry(request.path_params["index"]).path
            photo = read_photo(path, self.limits)
        except ValueError as error:
            return _error(Refusal(HTTPStatus.NOT_FOUND, "no_photo", str(error)))
        except RequestError as error:
            return JSONResponse({"error": error.as_json()}, error.status)
        except OSError as error:
            return _error(Refusal(HTTPStatus.GONE, "unreadable", f"the file cannot be read: {error.strerror}"))
        photo.thumbnail((LONGEST, LONGEST))
        buffer = BytesIO()
        photo.save(buffer, "JPEG", quality=88)
        return Response(buffer.getvalue(), media_type="image/jpeg", headers={"Cache-Control": "private, max-age=86400"})

    def turn(self, body: dict[str, Any]) -> dict[str, Any]:
        return self._say(self.desk.turn(_client(body)))

    def skip(self, body: dict[str, Any]) -> dict[str, Any]:
        return self._say(self.desk.skip(_client(body), _number(body, "id")))

    def hold(self, body: dict[str, Any]) -> dict[str, Any]:
        index = _number(body, "id")
        held = self.desk.hold(_client(body), index)
        return {"held": held, "suggestion": self._suggestion(index), **self._standing()}

    def decide(self, body: dict[str, Any]) -> dict[str, Any]:
        decision = Decision(_text(body, "label"), _text(body, "set_aside"))
        by = " ".join(_text(body, "by").split()) or self.facts["by"]
        turn = self.desk.decide(_client(body), _number(body, "id"), _number(body, "revision"), decision, by)
        return self._say(turn)

    def undo(self, body: dict[str, Any]) -> dict[str, Any]:
        name, turn = self.desk.undo(_client(body))
        return {"undone": shown(name), **self._say(turn)}

    def _say(self, turn: Turn) -> dict[str, Any]:
        photo = None
        if turn.index is not None:
            entry = self.desk.entry(turn.index)
            photo = {"id": turn.index, "revision": entry.revision, "name": shown(entry.name)}
            photo["suggestion"] = self._suggestion(turn.index)
        return {"photo": photo, "soon": turn.soon, "elsewhere": turn.elsewhere, **self._standing()}

    def _standing(self) -> dict[str, Any]:
        progress = self.desk.progress()
        decided = progress.labelled + progress.set_aside
        told = {"total": progress.total, "decided": decided, "text": str(progress)}
        return {"progress": told, "scoring": self.suggestions.busy, "fault": self.suggestions.fault}

    def _suggestion(self, index: int) -> dict[str, Any] | None:
        said = self.suggestions.of(index)
        return {"label": said.label, "percent": round(100 * said.probability)} if said else None

    def _post(self, work: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            try:
                return JSONResponse(await run_in_threadpool(_refusing, work, await self._body(request)))
            except Refusal as refusal:
                return _error(refusal)

        return answer

    async def _body(self, request: Request) -> dict[str, Any]:
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "not_json", "send Content-Type: application/json")
        session = request.headers.get("x-labelling", "")
        if not session:
            raise Refusal(HTTPStatus.FORBIDDEN, "no_session", "send the session of /api/state as X-Labelling")
        if not secrets.compare_digest(session.encode(), self.session.encode()):
            raise Refusal(HTTPStatus.CONFLICT, "restarted", "the server was started again: nothing was written")
        if int(request.headers.get("content-length", _BODY + 1)) > _BODY:
            raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", f"send at most {_BODY} bytes")
        try:
            body = await request.json()
        except ValueError as error:
            raise Refusal(HTTPStatus.BAD_REQUEST, "invalid_json", "send JSON") from error
        return body if isinstance(body, dict) else {}


class Headers:
    """Adds `_SAFE` to every answer, and has all but photos asked for anew."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_SAFE)
                headers.setdefault("Cache-Control", "no-cache")
            await send(message)

        await self.app(scope, receive, add)


def shown(name: str) -> str:
    """A file's name as text, also one that is no UTF-8."""
    return os.fsencode(name).decode("utf-8", "replace")


def _refusing(work: Callable[[dict[str, Any]], dict[str, Any]], body: dict[str, Any]) -> dict[str, Any]:
    """What the desk refuses, as an answer that the page can act on."""
    try:
        return work(body)
    except Conflict as error:
        facts = {"name": shown(error.name), "who": error.who, "what": str(error.what)}
        raise Refusal(HTTPStatus.CONFLICT, "conflict", shown(str(error)), **facts) from error
    except LookupError as error:
        raise Refusal(HTTPStatus.CONFLICT, "nothing_to_undo", str(error.args[0])) from error
    except ValueError as error:
        raise Refusal(HTTPStatus.BAD_REQUEST, "invalid_request", str(error)) from error
    except UserError as error:
        raise Refusal(HTTPStatus.INSUFFICIENT_STORAGE, "not_written", shown(error.message)) from error


def _error(refusal: Refusal) -> Response:
    return JSONResponse({"error": refusal.content}, refusal.status, headers={"Cache-Control": "no-store"})


def _client(body: dict[str, Any]) -> str:
    client = body.get("client")
    if not isinstance(client, str) or not re.fullmatch(r"[\w-]{8,64}", client, re.ASCII):
        raise ValueError("client: 8 to 64 letters, digits, - or _")
    return client


def _number(body: dict[str, Any], key: str) -> int:
    value = body.get(key)
    if type(value) is not int:
        raise ValueError(f"{key}: a whole number")
    return value


def _text(body: dict[str, Any], key: str) -> str:
    value = body.get(key, "")
    if not isinstance(value, str) or len(value) > 100 or not value.isprintable():
        raise ValueError(f"{key}: at most 100 printable characters")
    return value
