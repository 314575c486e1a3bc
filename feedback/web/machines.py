"""What the training machine asks: agreed labels, and the newest version. The routes are those of the pets document."""

import json
import re
from http import HTTPStatus
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse, Response

from common.errors import InvalidInput, NotFound
from feedback.delivery.download import allowed
from feedback.review.arrivals import Answered, Why
from feedback.storage.tables import Model, Photo, Upload
from feedback.web.reviewing import url_of
from feedback.web.site import Ask
from handler.errors import RequestError

PAGE = 400
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}", re.ASCII)
MOST_GATE = 32 * 1024
"""The longest gate.json, in characters."""
_TEXT = re.compile(r"[\w.:-]{1,200}", re.ASCII)


def user_labels(ask: Ask) -> Response:
    """GET /user-labels: the agreed labels as a list of id, label (class index), name and url.

    `?after=ID` continues a list of at most 400; `?detail=1` adds what a training needs: the photo's chain of near
    duplicates, who uploaded it (a number), its digest, its reason and probability.
    """
    query = ask.request.query_params
    labels = list(ask.site.classifier.served().spec.labels)
    paged = "after" in query
    after, rows = _number(query.get("after", "0"), "after"), []
    while True:
        page = ask.site.album.agreed(after, PAGE)
        rows += [_row(photo, uploader, labels, "detail" in query) for photo, uploader in page]
        if paged or len(page) < PAGE:
            return JSONResponse([row for row in rows if row])
        after = page[-1][0].id


def _row(photo: Photo, uploader: int | None, labels: list[str], detail: bool) -> dict[str, Any]:
    """Empty if the served model no longer has the label."""
    if photo.agreed not in labels:
        return {}
    row = {"id": photo.id, "label": labels.index(photo.agreed), "name": photo.agreed, "url": url_of(photo)}
    if not detail:
        return row
    more = {"chain": photo.chain, "uploader": uploader, "sha256": photo.sha256, "phash": photo.phash}
    when = photo.agreed_at.isoformat() if photo.agreed_at else ""
    return {**row, **more, "reason": photo.reason, "probability": photo.probability, "agreed_at": when}


def sample(ask: Ask) -> Response:
    """POST /samples with `file`, `result`, `confidence`, `probability`: a photo of a report's sample; its id.

    The answer is the report's, not the served version's, and no reviewer sees it. The same photo again has the same id.
    """
    file, served = ask.form.get("file"), ask.site.classifier.served()
    if not isinstance(file, UploadFile):
        raise InvalidInput("there is no file", "send the photo as the field file of a form")
    probability = _probability(ask.text("probability"), "probability")
    answer = {"result": ask.text("result")[:100], "confidence": _probability(ask.text("confidence"), "confidence")}
    data = file.file.read(served.spec.limits.bytes + 1)
    if len(data) > served.spec.limits.bytes:
        raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the photo is larger than the model's limit")
    answered = Answered(data, file.filename or "", served.name, answer, 0.0)
    try:
        upload = ask.site.album.add(answered, None, "", served.spec.limits, Why("report", probability))
    except RequestError as error:
        raise InvalidInput(str(error)) from error
    with ask.site.database.begin() as session:
        return JSONResponse({"id": session.scalar(select(Upload.photo_id).where(Upload.id == upload))})


def _probability(text: str, name: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise InvalidInput(f"{name} is {text[:80]!r}", "send a number above 0 and at most 1")
    return value


def newest(ask: Ask) -> Response:
    """GET /model: the newest version that was announced."""
    with ask.site.database.begin() as session:
        model = session.scalar(select(Model).order_by(Model.id.desc()).limit(1))
    if model is None:
        raise NotFound("no version was announced yet", "send one with POST /model")
    return JSONResponse(as_row(model))


def announce(ask: Ask) -> Response:
    """POST /model with `link`, `ckpt_name`, `version`, `name`: announce a version; answers its row.

    `gate` may be added: gate.json, which the page Versions shows.
    """
    link, name = ask.text("link"), ask.text("name")
    version = _number(ask.text("version"), "version")
    if not _NAME.fullmatch(name):
        raise InvalidInput(f"name is {name[:80]!r}", "send the recipe's name")
    if not _TEXT.fullmatch(ask.text("ckpt_name")):
        raise InvalidInput(f"ckpt_name is {ask.text('ckpt_name')[:80]!r}", "send letters, digits, . : _ and -")
    if not allowed(link, ask.site.settings.links):
        message = "link is outside of FEEDBACK_LINKS: add its prefix there if it is your training machine"
        raise HTTPException(HTTPStatus.FORBIDDEN, message)
    gate = _gate(ask.text("gate"))
    try:
        with ask.site.database.begin() as session:
            model = Model(name=name, version=version, ckpt_name=ask.text("ckpt_name"), link=link, gate=gate)
            session.add(model)
    except IntegrityError as error:
        raise HTTPException(
            HTTPStatus.CONFLICT, f"{name} {version} was announced already: send the next one"
        ) from error
    return JSONResponse(as_row(model))


def _gate(text: str) -> dict[str, object]:
    try:
        gate = json.loads(text or "{}") if len(text) <= MOST_GATE else None
    except (ValueError, RecursionError):
        gate = None
    if not isinstance(gate, dict):
        raise InvalidInput("gate is not a JSON object, or too long", "send gate.json, or leave it out")
    return gate


def as_row(model: Model) -> dict[str, Any]:
    """A version as the document's client reads it."""
    return {
        "ckpt_name": model.ckpt_name,
        "id": model.id,
        "link": model.link,
        "name": model.name,
        "version": model.version,
    }


def health(ask: Ask) -> Response:
    """GET /healthz: whether the database answers."""
    with ask.site.database.begin() as session:
        session.execute(select(1))
    return PlainTextResponse("ok")


def _number(text: str, name: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 9:
        raise InvalidInput(f"{name} is {text[:80]!r}", "send a whole number")
    return int(text)
