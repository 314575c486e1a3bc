"""The second opinion: one photo at a time, one key per decision. No other answer is shown, the model's neither."""

import string
from http import HTTPStatus

from starlette.responses import JSONResponse, Response

from feedback.review.agreement import LABEL, value_of
from feedback.review.album import Refused
from feedback.storage.tables import Photo
from feedback.web.site import Ask, failed

KEYS = [*"123456789", *(letter for letter in string.ascii_lowercase if letter not in "bus")]
"""Keys of the labels; b, u and s are broken, unclear and skip."""


def review(ask: Ask) -> Response:
    """GET /review: the next photo."""
    account = _account(ask)
    skipped = ask.request.query_params.get("skip", "")
    queue = ask.site.album.queue(account, 3)
    if skipped.isdecimal() and len(queue) > 1 and queue[0].id == int(skipped[:9]):
        queue = [*queue[1:], queue[0]]
    labels = ask.site.classifier.served().spec.labels
    keys = [*KEYS, *[""] * len(labels)]
    buttons = [{"value": LABEL + label, "text": label, "key": key} for label, key in zip(labels, keys, strict=False)]
    photos = [{"id": photo.id, "url": url_of(photo)} for photo in queue]
    return ask.page("review.html", photos=photos, buttons=buttons, said=ask.request.query_params.get("said", "")[:20])


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
    return JSONResponse({"id": number}) if ask.wants_json else ask.go("/review?said=saved")


def statistics(ask: Ask) -> Response:
    """GET /statistics: how many photos are in which state, who judged how many, how often people agree."""
    return ask.page("statistics.html", statistics=ask.site.statistics.of(ask.site.database))


def url_of(photo: Photo) -> str:
    """Where a photo can be fetched."""
    return f"/uploads/{photo.key.rpartition('/')[2]}"


def _account(ask: Ask) -> int:
    if ask.caller.account is None:
        raise Refused("only people review", "sign in")
    return ask.caller.account
