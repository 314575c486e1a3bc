"""What every request passes: size, security headers, who asks, and whether a form came from our own pages."""

import base64
import hmac
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from feedback.accounts.people import People, Person
from feedback.accounts.secrets import csrf_token, digest, new_secret

SESSION, VISITOR = "photoloop", "photoloop-visitor"
"""Cookies: of somebody signed in, and of somebody who is not."""
SMALL_BODY, UPLOAD_BODY = 64 * 1024, 200 * 2**20
UPLOADS = "/upload_image"
CONTENT_POLICY = (
    "default-src 'self'; img-src 'self' blob:; object-src 'none'; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'self'"
)
"""As that of the other pages (common/web/assets.py), with forms and with previews of photos before they are sent."""


@dataclass(frozen=True)
class Caller:
    """Who sends a request.

    Attributes:
        person: somebody who is signed in.
        scope: of a machine's token.
        secret: of the cookie; forms carry a token that is derived from it.
        fresh: whether the cookie is new and must be set.
    """

    person: Person | None
    scope: str | None
    secret: str
    fresh: bool

    @property
    def account(self) -> int | None:
        """The account's id."""
        return self.person.id if self.person else None

    @property
    def visitor(self) -> str:
        """What is stored of somebody without an account."""
        return "" if self.person or self.scope or self.fresh else digest(self.secret)

    @property
    def csrf(self) -> str:
        """The token for forms."""
        return csrf_token(self.secret)


def identify(request: Request, people: People) -> Caller:
    """Who sends a request: a machine with a token, or a browser with a cookie.

    Raises:
        HTTPException: 401, the token is wrong.
    """
    secret = _machine_secret(request)
    if secret is not None:
        scope = people.scope_of(secret)
        if scope is None:
            raise HTTPException(HTTPStatus.UNAUTHORIZED, "the token is wrong or was revoked")
        return Caller(None, scope, secret, False)
    session = request.cookies.get(SESSION)
    person = people.who(session) if session else None
    if session and person:
        return Caller(person, None, session, False)
    visitor = request.cookies.get(VISITOR)
    return Caller(None, None, visitor or new_secret(), not visitor)


def _machine_secret(request: Request) -> str | None:
    """A token as `Bearer TOKEN`, or as the password of Basic, which clients send for http://machine:TOKEN@host."""
    kind, _, text = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return text.strip()
    if kind.lower() == "basic":
        try:
            return base64.b64decode(text, validate=True).decode().partition(":")[2]
        except ValueError:
            return ""
    return None


def require_own_page(request: Request, caller: Caller, token: str) -> None:
    """Refuse a form that another site's page sent. Machines send no cookies, so they need no such proof.

    Raises:
        HTTPException: 403.
    """
    if caller.scope is not None:
        return
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site", "same-origin")
    foreign = origin is not None and urlsplit(origin).netloc != request.headers.get("host", "")
    if foreign or site not in ("same-origin", "none"):
        raise HTTPException(HTTPStatus.FORBIDDEN, "this form was sent by a page of another site")
    if caller.fresh or not hmac.compare_digest(token.encode("utf-8", "replace"), caller.csrf.encode()):
        raise HTTPException(HTTPStatus.FORBIDDEN, "the page is out of date: load it again and repeat what you did")


class Guard:
    """Refuses a body that is too large while it arrives, and lets browsers say which page sent a form.

    With the referrer policy of the other pages, `no-referrer`, a browser sends `Origin: null` with every form.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        most = UPLOAD_BODY if scope.get("path") == UPLOADS else SMALL_BODY
        received = 0

        async def bounded() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > most:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"send at most {most} bytes in one request")
            return message

        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Referrer-Policy"] = "same-origin"
            await send(message)

        await self.app(scope, bounded, add)
