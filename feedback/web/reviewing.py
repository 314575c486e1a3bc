"""The second opinion: one photo at a time, one key per decision. No other answer is shown, the model's neither."""

import string
from http import HTTPStatus

from starlette.responses import JSONResponse, Response

from feedback.review.agreement import LABEL, OPEN, State, value_of
from feedback.review.album import Refused
from feedback.storage.tables import Photo
from feedback.web.site import Ask, failed

KEYS = [*"123456789", *(letter for letter in string.ascii_lowercase if letter not in "bus")]
"""Keys of the labels; b, u and s are broken, unclear and skip."""


FILTERS = {
    "": "all",
    State.NEW.value: "nobody has judged",
    State.PROPOSED.value: "wait for a second opinion",
    State.DISAGREED.value: "people disagree about",
}
"""What `?only=` may say, and the words of its link. None tells which photos are the random sample."""


def review(ask: Ask) -> Response:
    """GET /review: the next photo; `?only=` one of FILTERS."""
    account = _account(ask)
    skipped, only = ask.request.query_params.get("skip", ""), _only(ask.request.query_params.get("only", ""))
    queue = ask.site.album.queue(account, 3, (only,) if only else OPEN)
    if skipped.isdecimal() and len(queue) > 1 and queue[0].id == int(skipped[:9]):
        queue = [*queue[1:], queue[0]]
    labels = ask.site.classifier.served().spec.labels
    keys = [*KEYS, *[""] * len(labels)]
    buttons = [{"value": LABEL + label, "text": label, "key": key} for label, key in zip(labels, keys, strict=False)]
    photos = [{"id": photo.id, "url": url_of(photo)} for photo in queue]
    said = ask.request.query_params.get("said", "")[:20]
    return ask.page("review.html", photos=photos, buttons=buttons, said=said, filters=FILTERS, only=only)


def judge(ask: Ask) -> Response:
    """POST /review/ID with `decision`: a label, `unclear` or `broken`."""
    number = min(int(ask.request.path_params["id"]), 2**31 - 1)
    labels = ask.site.classifier.served().spec.labels
    try:
        ask.site.album.review(number, _account(ask), value_of(ask.text("decision"), labels))
    except Refused as error:
        if ask.wants_json:
            return failed(ask, HTTPStatus.CONFLICT, "refused", error.message)
        return ask.page("error.html", HTTPStatus.CONFLICT, message=error.message)
    only = _only(ask.text("only"))
    return JSONResponse({"id": number}) if ask.wants_json else ask.go(f"/review?said=saved&only={only}")


def statistics(ask: Ask) -> Response:
    """GET /statistics: how many photos are in which state, who judged how many, how often people agree."""
    return ask.page("statistics.html", statistics=ask.site.statistics.of(ask.site.database))


def url_of(photo: Photo) -> str:
    """Where a photo can be fetched."""
    return f"/uploads/{photo.key.rpartition('/')[2]}"


def _only(text: str) -> str:
    return text if text in FILTERS else ""


def _account(ask: Ask) -> int:
    if ask.caller.account is None:
        raise Refused("only people review", "sign in")
    return ask.caller.account
