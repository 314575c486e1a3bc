"""The web server of the labelling page, on top of `dataset.labelling.assignments`.

    GET  /                   the page, dataset/labelling/page/
    GET  /api/state          labels with their keys, who labels, the session
    GET  /common/...         common/web/static/: the look, keys, zoom
    GET  /photo/INDEX        the photo for a browser: JPEG, upright, at most 1600 pixels wide or high; ?small: 160
    GET  /?photo=NAME        the page with this photo
    POST /api/turn           the client's current photo           {client}
    POST /api/open           this photo, decided or not           {client, id or name}
    POST /api/skip           show another one                     {client, id}
    POST /api/hold           renew the lease of a photo           {client, id}
    POST /api/decide         {client, id, revision, by} and either label or set_aside
    POST /api/undo           undo the last decision               {client, by}
    POST /api/list           the photos that match                {client, text, kind, start}, see search.py

Only people at this machine can use it: requests for other host names are refused (DNS rebinding), and a POST needs
a header with the session, which pages of other sites cannot send. An error is `{"error": {"code", "message"}}`.
"""

import math
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

from common.web.assets import SecurityHeaders, shared_files
from config.recipe import NO_CLASS
from dataset.labelling.assignments import Assignment, AssignmentQueue
from dataset.labelling.entries import SET_ASIDE_REASONS, Decision
from dataset.labelling.messages import (
    Refusal,
    client_of,
    error_answer,
    name_of,
    number_of,
    shown,
    text_of,
    with_refusals,
)
from dataset.labelling.search import UNDECIDED
from dataset.labelling.suggestions import Suggestions, read_photo
from dataset.listing import composed
from handler.errors import RequestError
from handler.spec import Limits

PAGE = Path(__file__).parent / "page"
MAX_SIDE = 1600
SMALL_SIDE = 160
PER_LIST = 60
_RESERVED_KEYS = "bunsz"  # broken, unclear, no class, skip, undo
_KEYS = [*"123456789", *(letter for letter in string.ascii_lowercase if letter not in _RESERVED_KEYS)]
_MAX_BODY = 10_000


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
        posts |= {"open": self.open, "list": self.list}
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
            version = f'"{path.stat().st_mtime_ns:x}-{path.stat().st_size:x}"'
            headers = {"Cache-Control": "private, no-cache", "ETag": version}
            if request.headers.get("if-none-match") == version:
                return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
            photo = read_photo(path, self.limits)
        except ValueError as error:
            return error_answer(Refusal(HTTPStatus.NOT_FOUND, "no_photo", str(error)))
        except RequestError as error:
            return JSONResponse({"error": error.as_json()}, error.status)
        except OSError as error:
            return error_answer(Refusal(HTTPStatus.GONE, "unreadable", f"the file cannot be read: {error.strerror}"))
        side = SMALL_SIDE if "small" in request.query_params else MAX_SIDE
        photo.thumbnail((side, side))
        buffer = BytesIO()
        photo.save(buffer, "JPEG", quality=88)
        return Response(buffer.getvalue(), media_type="image/jpeg", headers=headers)

    def next(self, body: dict[str, Any]) -> dict[str, Any]:
        return self._show(self.queue.next(client_of(body)))

    def skip(self, body: dict[str, Any]) -> dict[str, Any]:
        return self._show(self.queue.skip(client_of(body), number_of(body, "id")))

    def renew(self, body: dict[str, Any]) -> dict[str, Any]:
        index = number_of(body, "id")
        renewed = self.queue.renew(client_of(body), index)
        return {"held": renewed, "suggestion": self._suggestion(index), **self._status()}

    def decide(self, body: dict[str, Any]) -> dict[str, Any]:
        decision = Decision(text_of(body, "label"), text_of(body, "set_aside"))
        index, revision = number_of(body, "id"), number_of(body, "revision")
        return self._show(self.queue.decide(client_of(body), index, revision, decision, self._person(body)))

    def undo(self, body: dict[str, Any]) -> dict[str, Any]:
        name, assignment = self.queue.undo(client_of(body), self._person(body))
        return {"undone": shown(name), **self._show(assignment)}

    def open(self, body: dict[str, Any]) -> dict[str, Any]:
        client = client_of(body)
        index = self._named(name_of(body)) if "name" in body else number_of(body, "id")
        return self._show(self.queue.open(client, index))

    def list(self, body: dict[str, Any]) -> dict[str, Any]:
        client_of(body)
        found = self.queue.find(text_of(body, "text"), text_of(body, "kind", 200))
        start = max(0, number_of(body, "start"))
        photos = [{"id": index, **self._described(index)} for index in found[start : start + PER_LIST]]
        return {"total": len(found), "photos": photos, **self._status()}

    def _named(self, name: str) -> int:
        """The index of the photo with this name, as the page shows it. Raises: ValueError: there is none."""
        names = [shown(entry.name) for entry in self.queue.labelling.entries]
        for same in (str, composed):  # two names can differ only in how accents are stored
            for index, other in enumerate(names):
                if same(other) == same(name):
                    return index
        raise ValueError(f"there is no photo {name} in {self.queue.labelling.folder}")

    def _person(self, body: dict[str, Any]) -> str:
        return " ".join(text_of(body, "by").split()) or self.info.by

    def _described(self, index: int) -> dict[str, Any]:
        entry = self.queue.entry(index)
        decision = {key: entry.row[key] for key in ("label", "set_aside", "labelled_by", "labelled_at")}
        return {"name": shown(entry.name), "revision": entry.revision, **decision}

    def _show(self, assignment: Assignment) -> dict[str, Any]:
        photo = None
        if assignment.index is not None:
            photo = {"id": assignment.index, **self._described(assignment.index)}
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
        seconds = self.queue.seconds_left()
        return {
            "progress": {"total": progress.total, "decided": decided, "left": progress.left, "text": str(progress)},
            "counts": {
                **{f"label:{label}": count for label, count in progress.by_label.items()},
                **{f"aside:{reason}": count for reason, count in progress.by_reason.items()},
                UNDECIDED: progress.left,
                "": progress.total,
            },
            "minutes_left": None if seconds is None else math.ceil(seconds / 60),
            "notice": self.queue.labelling.notice,
            "scoring": self.suggestions.busy,
            "fault": self.suggestions.fault,
        }

    def _suggestion(self, index: int) -> dict[str, Any] | None:
        suggestion = self.suggestions.of(index)
        if suggestion is None:
            return None
        return {"label": suggestion.label, "percent": round(100 * suggestion.probability)}

    def _post(self, work: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            try:
                return JSONResponse(await run_in_threadpool(with_refusals, work, await self._body(request)))
            except Refusal as refusal:
                return error_answer(refusal)

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
