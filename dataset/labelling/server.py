"""The web server of the labelling page, on top of `dataset.labelling.assignments`.

    GET  /                   the page, dataset/labelling/page/
    GET  /api/state          labels with their keys, who labels, the session
    GET  /common/...         common/web/static/: the look, keys, zoom
    GET  /photo/INDEX        the photo for a browser: JPEG, upright, at most 1600 pixels wide or high
    POST /api/turn           the client's current photo           {client}
    POST /api/skip           show another one                     {client, id}
    POST /api/hold           renew the lease of a photo           {client, id}
    POST /api/decide         {client, id, revision, by} and either label or set_aside
    POST /api/undo           undo the last decision               {client}

Only people at this machine can use it: requests for other host names are refused (DNS rebinding), and a POST needs
a header with the session, which pages of other sites cannot send. An error is `{"error": {"code", "message"}}`.
"""

import os
import re
import secrets
import string
from collections.abc import Callable
from dataclasses import asdict, dataclass
from http import HTTPStatus
from io import BytesIO
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from common.errors import UserError
from common.web.assets import SecurityHeaders, shared_files
from config.recipe import NO_CLASS
from dataset.labelling.assignments import Assignment, AssignmentQueue
from dataset.labelling.decisions import Conflict
from dataset.labelling.entries import SET_ASIDE_REASONS, Decision
from dataset.labelling.suggestions import Suggestions, read_photo
from handler.errors import RequestError
from handler.spec import Limits

PAGE = Path(__file__).parent / "page"
MAX_SIDE = 1600
_RESERVED_KEYS = "bunsz"  # broken, unclear, no class, skip, undo
_KEYS = [*"123456789", *(letter for letter in string.ascii_lowercase if letter not in _RESERVED_KEYS)]
_MAX_BODY = 10_000


class Refusal(Exception):
    """An error answer."""

    def __init__(self, status: HTTPStatus, code: str, message: str, **details: object) -> None:
        super().__init__(message)
        self.status, self.content = status, {"code": code, "message": message, **details}


@dataclass(frozen=True)
class PageInfo:
    """What the page displays.

    Args:
        task: one sentence about the labels.
        by: who labels, unless the page says otherwise.
        table: path of the table.
        again: the command that starts this server again.
        next: the command to run when all photos are labelled.
    """

    task: str
    by: str
    table: str
    again: str
    next: str


class LabelPage:
    """The routes of one labelling.

    Args:
        queue: assigns photos to browser tabs.
        suggestions: of the current model.
        info: what the page displays.
        limits: of photos that can be shown.
    """

    def __init__(self, queue: AssignmentQueue, suggestions: Suggestions, info: PageInfo, limits: Limits) -> None:
        self.queue, self.suggestions, self.info, self.limits = queue, suggestions, info, limits
        self.session = secrets.token_urlsafe(16)

    def app(self) -> Starlette:
        posts = {"turn": self.next, "skip": self.skip, "hold": self.renew, "decide": self.decide, "undo": self.undo}
        return Starlette(
            routes=[
                Route("/", lambda _: FileResponse(PAGE / "index.html")),
                Route("/api/state", self.state),
                Route("/photo/{index:int}", self.photo),
                *(Route(f"/api/{name}", self._post(work), methods=["POST"]) for name, work in posts.items()),
                Mount("/static", StaticFiles(directory=PAGE)),
                shared_files(),
            ],
            middleware=[
                Middleware(SecurityHeaders),
                Middleware(TrustedHostMiddleware, allowed_hosts=["localhost", "127.0.0.1"], www_redirect=False),
            ],
        )

    def state(self, _: Request) -> Response:
        """What the page needs once, when it is opened."""
        labels = self.queue.labelling.labels
        classes = [label for label in labels if label != NO_CLASS]
        keys = [*_KEYS, *[""] * len(labels)]
        rows = [{"label": label, "key": key} for label, key in zip(classes, keys, strict=False)]
        if NO_CLASS in labels:
            rows.append({"label": NO_CLASS, "key": "n", "text": "no class"})
        return JSONResponse({**asdict(self.info), "session": self.session, "labels": rows, "aside": SET_ASIDE_REASONS})

    def photo(self, request: Request) -> Response:
        """A photo by its index; a request never contains a path."""
        try:
            path = self.queue.entry(request.path_params["index"]).path
            photo = read_photo(path, self.limits)
        except ValueError as error:
            return _error(Refusal(HTTPStatus.NOT_FOUND, "no_photo", str(error)))
        except RequestError as error:
            return JSONResponse({"error": error.as_json()}, error.status)
        except OSError as error:
            return _error(Refusal(HTTPStatus.GONE, "unreadable", f"the file cannot be read: {error.strerror}"))
        photo.thumbnail((MAX_SIDE, MAX_SIDE))
        buffer = BytesIO()
        photo.save(buffer, "JPEG", quality=88)
        return Response(buffer.getvalue(), media_type="image/jpeg", headers={"Cache-Control": "private, max-age=86400"})

    def next(self, body: dict[str, Any]) -> dict[str, Any]:
        return self._show(self.queue.next(_client(body)))

    def skip(self, body: dict[str, Any]) -> dict[str, Any]:
        return self._show(self.queue.skip(_client(body), _number(body, "id")))

    def renew(self, body: dict[str, Any]) -> dict[str, Any]:
        index = _number(body, "id")
        renewed = self.queue.renew(_client(body), index)
        return {"held": renewed, "suggestion": self._suggestion(index), **self._status()}

    def decide(self, body: dict[str, Any]) -> dict[str, Any]:
        decision = Decision(_text(body, "label"), _text(body, "set_aside"))
        by = " ".join(_text(body, "by").split()) or self.info.by
        assignment = self.queue.decide(_client(body), _number(body, "id"), _number(body, "revision"), decision, by)
        return self._show(assignment)

    def undo(self, body: dict[str, Any]) -> dict[str, Any]:
        name, assignment = self.queue.undo(_client(body))
        return {"undone": shown(name), **self._show(assignment)}

    def _show(self, assignment: Assignment) -> dict[str, Any]:
        photo = None
        if assignment.index is not None:
            entry = self.queue.entry(assignment.index)
            photo = {"id": assignment.index, "revision": entry.revision, "name": shown(entry.name)}
            photo["suggestion"] = self._suggestion(assignment.index)
        return {
            "photo": photo,
            "soon": assignment.upcoming,
            "elsewhere": assignment.leased_by_others,
            **self._status(),
        }

    def _status(self) -> dict[str, Any]:
        progress = self.queue.progress()
        decided = progress.labelled + progress.set_aside
        counts = {"total": progress.total, "decided": decided, "text": str(progress)}
        return {"progress": counts, "scoring": self.suggestions.busy, "fault": self.suggestions.fault}

    def _suggestion(self, index: int) -> dict[str, Any] | None:
        suggestion = self.suggestions.of(index)
        if suggestion is None:
            return None
        return {"label": suggestion.label, "percent": round(100 * suggestion.probability)}

    def _post(self, work: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            try:
                return JSONResponse(await run_in_threadpool(_with_refusals, work, await self._body(request)))
            except Refusal as refusal:
                return _error(refusal)

        return answer

    async def _body(self, request: Request) -> dict[str, Any]:
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise Refusal(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "not_json", "send the header Content-Type: application/json"
            )
        session = request.headers.get("x-labelling", "")
        if not session:
            raise Refusal(
                HTTPStatus.FORBIDDEN, "no_session", "send the session from /api/state in the header X-Labelling"
            )
        if not secrets.compare_digest(session.encode(), self.session.encode()):
            raise Refusal(HTTPStatus.CONFLICT, "restarted", "the server has restarted: your last action was not saved")
        if int(request.headers.get("content-length", _MAX_BODY + 1)) > _MAX_BODY:
            raise Refusal(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                "too_large",
                f"the request is too large: send at most {_MAX_BODY} bytes",
            )
        try:
            body = await request.json()
        except ValueError as error:
            raise Refusal(HTTPStatus.BAD_REQUEST, "invalid_json", "the body is not valid JSON") from error
        return body if isinstance(body, dict) else {}


def shown(name: str) -> str:
    """A file's name as valid Unicode, also if it is not UTF-8 on disk."""
    return os.fsencode(name).decode("utf-8", "replace")


def _with_refusals(work: Callable[[dict[str, Any]], dict[str, Any]], body: dict[str, Any]) -> dict[str, Any]:
    """Turn the errors of the queue into answers that the page can act on."""
    try:
        return work(body)
    except Conflict as error:
        details = {"name": shown(error.name), "who": error.who, "what": str(error.what)}
        raise Refusal(HTTPStatus.CONFLICT, "conflict", shown(str(error)), **details) from error
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
        raise ValueError(f"client is {client!r:.80}: send 8 to 64 letters, digits, - or _")
    return client


def _number(body: dict[str, Any], key: str) -> int:
    value = body.get(key)
    if type(value) is not int:
        raise ValueError(f"{key} is {value!r:.80}: send an integer")
    return value


def _text(body: dict[str, Any], key: str) -> str:
    value = body.get(key, "")
    if not isinstance(value, str) or len(value) > 100 or not value.isprintable():
        raise ValueError(f"{key} is {value!r:.80}: send at most 100 printable characters")
    return value
