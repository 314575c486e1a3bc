"""What the pages share: the services behind them, how a page is rendered, and how a request reaches its function."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from common.errors import NotFound, Unreachable, UserError
from feedback.accounts.limits import RateLimit
from feedback.accounts.people import People
from feedback.accounts.roles import at_least
from feedback.review.album import Album
from feedback.review.statistics import RecentStatistics
from feedback.settings import Settings
from feedback.storage.database import Database
from feedback.web.classifier import Classifier
from feedback.web.guards import VISITOR, Caller, identify, require_own_page

TEMPLATES = Path(__file__).parent / "templates"
MOST_FILES = 20
_templates = Environment(
    loader=FileSystemLoader(TEMPLATES),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass(frozen=True)
class Site:
    """The services behind the pages."""

    settings: Settings
    database: Database
    people: People
    album: Album
    classifier: Classifier
    sign_ins: RateLimit = field(default_factory=lambda: RateLimit(10, 300))
    uploads: RateLimit = field(default_factory=lambda: RateLimit(300, 60))
    statistics: RecentStatistics = field(default_factory=RecentStatistics)


@dataclass(frozen=True)
class Ask:
    """One request, with its caller and, for a POST, its form."""

    request: Request
    site: Site
    caller: Caller
    form: FormData

    def text(self, name: str) -> str:
        """A field of the form; empty if it is missing or a file."""
        value = self.form.get(name, "")
        return value.replace("\0", "") if isinstance(value, str) else ""  # PostgreSQL stores no NUL

    @property
    def wants_json(self) -> bool:
        """Whether a program asks: a script of our pages, or a machine."""
        return self.caller.scope is not None or "application/json" in self.request.headers.get("accept", "")

    def page(self, template: str, status: int = HTTPStatus.OK, **values: Any) -> HTMLResponse:
        """A page for the caller."""
        person = self.caller.person
        values |= {"person": person, "csrf": self.caller.csrf, "path": self.request.url.path}
        values["reviewer"] = person is not None and at_least(person.role, "reviewer")
        return HTMLResponse(_templates.get_template(template).render(values), status)

    def go(self, path: str) -> RedirectResponse:
        """Continue on another page."""
        return RedirectResponse(path, HTTPStatus.SEE_OTHER)


Work = Callable[[Ask], Response]
Endpoint = Callable[[Request], Awaitable[Response]]


def endpoint(site: Site, work: Work, role: str = "", scopes: tuple[str, ...] = ()) -> Endpoint:
    """A route's function: find the caller, check what they may do, read the form, answer in a thread.

    Args:
        role: the least role; empty: everybody.
        scopes: of machine tokens that may do this as well.
    """

    async def answer(request: Request) -> Response:
        caller = await run_in_threadpool(identify, request, site.people)
        denied = _denied(request, caller, role, scopes)
        if denied:
            return denied
        unsafe = request.method not in ("GET", "HEAD")
        form = await request.form(max_files=MOST_FILES, max_fields=50) if unsafe else FormData()
        try:
            if unsafe:
                require_own_page(request, caller, str(form.get("csrf") or request.headers.get("x-csrf", "")))
            response = await run_in_threadpool(_work, work, Ask(request, site, caller, form))
        finally:
            await form.close()
        if caller.fresh and not caller.scope:
            set_cookie(response, request, VISITOR, caller.secret)
        return response

    return answer


def set_cookie(response: Response, request: Request, name: str, secret: str) -> None:
    """Set a cookie that scripts cannot read and that other sites' forms do not send."""
    secure = request.url.scheme == "https"
    response.set_cookie(name, secret, httponly=True, samesite="lax", secure=secure, max_age=14 * 24 * 3600)


def _denied(request: Request, caller: Caller, role: str, scopes: tuple[str, ...]) -> Response | None:
    if caller.scope is not None:
        if caller.scope in scopes:
            return None
        raise HTTPException(HTTPStatus.FORBIDDEN, f"a token with scope {caller.scope} may not do this")
    if not role or (caller.person and at_least(caller.person.role, role)):
        return None
    if caller.person:
        raise HTTPException(HTTPStatus.FORBIDDEN, f"this needs the role {role}: ask an admin")
    if request.method == "GET" and not scopes and "application/json" not in request.headers.get("accept", ""):
        return RedirectResponse("/login", HTTPStatus.SEE_OTHER)
    raise HTTPException(HTTPStatus.UNAUTHORIZED, "sign in, or send a token", {"WWW-Authenticate": "Bearer"})


def _work(work: Work, ask: Ask) -> Response:
    try:
        return work(ask)
    except NotFound as error:
        return failed(ask, HTTPStatus.NOT_FOUND, "not_found", error.message)
    except Unreachable as error:
        return failed(ask, HTTPStatus.SERVICE_UNAVAILABLE, "no_answer", error.message)
    except UserError as error:
        return failed(ask, HTTPStatus.BAD_REQUEST, "invalid", error.message)
    except ValueError as error:
        return failed(ask, HTTPStatus.BAD_REQUEST, "invalid", str(error))
    except OSError as error:
        return failed(ask, HTTPStatus.INSUFFICIENT_STORAGE, "not_written", f"not saved: {error.strerror or error}")


def failed(ask: Ask, status: int, code: str, message: str) -> Response:
    """An error: JSON for programs, a page for people."""
    if ask.wants_json:
        return JSONResponse({"error": {"code": code, "message": message}}, status)
    return ask.page("error.html", status, message=message)
