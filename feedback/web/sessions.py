"""Sign in, sign out, and the first start."""

from http import HTTPStatus

from starlette.responses import Response

from common.errors import InvalidInput
from feedback.web.guards import SESSION, VISITOR
from feedback.web.site import Ask, set_cookie

_MOST_TRIES = "too many attempts: wait five minutes"


def sign_in_form(ask: Ask) -> Response:
    """GET /login."""
    return ask.page("login.html", problem="", name="")


def sign_in(ask: Ask) -> Response:
    """POST /login with `name` and `password`: a new session, whatever cookie the browser had."""
    name = ask.text("name")[:100]
    client = ask.request.client.host if ask.request.client else ""
    if not (ask.site.sign_ins.allow(f"name {name.lower()}") and ask.site.sign_ins.allow(f"address {client}")):
        return ask.page("login.html", HTTPStatus.TOO_MANY_REQUESTS, problem=_MOST_TRIES, name=name)
    secret = ask.site.people.sign_in(name, ask.text("password"))
    if secret is None:
        problem = "the name or the password is wrong"
        return ask.page("login.html", HTTPStatus.UNAUTHORIZED, problem=problem, name=name)
    ask.site.sign_ins.forget(f"name {name.lower()}")
    ask.site.sign_ins.forget(f"address {client}")
    return _signed_in(ask, secret)


def sign_out(ask: Ask) -> Response:
    """POST /logout."""
    if ask.caller.person:
        ask.site.people.sign_out(ask.caller.secret)
    response = ask.go("/login")
    response.delete_cookie(SESSION)
    return response


def first_form(ask: Ask) -> Response:
    """GET /first?key=SECRET, the link that the first start prints: make the first account."""
    key = ask.request.query_params.get("key", "")
    if not ask.site.people.first_is_valid(key):
        return ask.page("error.html", HTTPStatus.NOT_FOUND, message="this link was used or is not valid: sign in")
    return ask.page("first.html", problem="", name="", key=key)


def first(ask: Ask) -> Response:
    """POST /first with `key`, `name` and `password`: make the first account, an admin, and sign in."""
    key, name = ask.text("key"), ask.text("name")
    try:
        person = ask.site.people.first(key, name, ask.text("password"))
    except InvalidInput as error:
        return ask.page("first.html", HTTPStatus.BAD_REQUEST, problem=error.message, name=name, key=key)
    return _signed_in(ask, ask.site.people.start(person.id))


def _signed_in(ask: Ask, secret: str) -> Response:
    response = ask.go("/")
    set_cookie(response, ask.request, SESSION, secret)
    response.delete_cookie(VISITOR)
    return response
