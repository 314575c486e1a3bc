"""Upload photos, see the answer, correct it."""

from dataclasses import dataclass
from http import HTTPStatus
from pathlib import PurePosixPath
from typing import Any

from starlette.datastructures import UploadFile
from starlette.responses import JSONResponse, Response

from common.errors import NotFound
from feedback.accounts.roles import at_least
from feedback.review.agreement import LABEL, State, value_of
from feedback.review.arrivals import Answered, shown_name
from feedback.storage.tables import Photo, Upload
from feedback.web.classifier import NotAnswered
from feedback.web.site import Ask, failed
from handler.errors import RequestError

TYPES = {".jpg": "image/jpeg", ".png": "image/png", ".webp": "image/webp"}
FEW_LABELS = 8
BARS = 5
PAGE = 24
STATES = {
    State.NEW.value: "waits for a reviewer",
    State.PROPOSED.value: "waits for a reviewer",
    State.DISAGREED.value: "people disagree: waits for a third person",
    State.AGREED.value: "agreed",
    State.ASIDE.value: "set aside: broken or unclear",
    State.DISPUTED.value: "set aside: people disagree",
}


def form(ask: Ask) -> Response:
    """GET /: the upload form."""
    if ask.caller.person is None and not ask.site.settings.anonymous:
        return ask.go("/login")
    return ask.page("upload.html", problems=[])


def upload(ask: Ask) -> Response:
    """POST /upload_image: classify and store the files of a form; continue with the result."""
    if ask.caller.person is None and not ask.site.settings.anonymous:
        return failed(ask, HTTPStatus.UNAUTHORIZED, "no_account", "sign in first")
    files = [item for _, item in ask.form.multi_items() if isinstance(item, UploadFile) and item.filename]
    if not files:
        return _not_uploaded(ask, HTTPStatus.BAD_REQUEST, "no_photo", ["choose a photo first"])
    ids, problems, status, code = [], [], 400, "invalid"
    for file in files:
        try:
            ids.append(_one(ask, file))
        except NotAnswered as error:
            status, code = error.status, error.code
            problems.append(f"{shown_name(file.filename or '')}: {error}")
    if not ids:
        return _not_uploaded(ask, status, code, problems)
    if ask.wants_json:
        return JSONResponse({"id": ids[0], "url": f"/results/{ids[0]}", "problems": problems})
    if problems:
        return ask.page("upload.html", problems=problems)
    return ask.go(f"/results/{ids[0]}" if len(ids) == 1 else "/mine")


def _one(ask: Ask, file: UploadFile) -> int:
    site, caller = ask.site, ask.caller
    key = str(caller.account) if caller.person else (ask.request.client.host if ask.request.client else "")
    if not site.uploads.allow(key):
        raise NotAnswered(HTTPStatus.TOO_MANY_REQUESTS, "too_many", "too many photos at once: wait a minute")
    limits = site.classifier.served().spec.limits
    data = file.file.read(limits.bytes + 1)  # one byte over the limit is refused by the model, with its message
    answer, milliseconds = site.classifier.ask(data)
    answered = Answered(data, file.filename or "", site.classifier.served().name, answer, milliseconds)
    try:
        return site.album.add(answered, caller.account, caller.visitor, limits)
    except RequestError as error:  # the model could read it, and we cannot
        raise NotAnswered(error.status, error.code, error.message) from error


def _not_uploaded(ask: Ask, status: int, code: str, problems: list[str]) -> Response:
    if ask.wants_json:
        return failed(ask, status, code, problems[0])
    return ask.page("upload.html", status, problems=problems)


def result(ask: Ask) -> Response:
    """GET /results/ID: the photo, the answer, and the form to correct it."""
    upload, photo = ask.site.album.upload(_id(ask), ask.caller.account, ask.caller.visitor)
    own = ask.site.album.own_opinion(photo.id, ask.caller.account)
    shown = describe(upload, photo, own)
    if ask.wants_json:
        return JSONResponse(
            {key: shown[key] for key in ("id", "url", "label", "confidence", "unsure", "version", "own")}
        )
    labels = ask.site.classifier.served().spec.labels
    return ask.page("result.html", shown=shown, labels=labels, few=len(labels) <= FEW_LABELS)


def correct(ask: Ask) -> Response:
    """POST /results/ID with `label`: a name, a class index, `unclear` or `broken`; or with `right`."""
    upload, _ = ask.site.album.upload(_id(ask), ask.caller.account, ask.caller.visitor)
    labels = ask.site.classifier.served().spec.labels
    decision = LABEL + upload.label if ask.text("right") else ask.text("label")
    if decision.isdecimal() and decision not in labels and len(decision) < 6 and int(decision) < len(labels):
        decision = LABEL + labels[int(decision)]
    ask.site.album.correct(upload.id, ask.caller.account, ask.caller.visitor, value_of(decision, labels))
    if ask.wants_json:
        return JSONResponse({"id": upload.id, "own": decision.removeprefix(LABEL)})
    return ask.go(f"/results/{upload.id}")


def mine(ask: Ask) -> Response:
    """GET /mine: the caller's uploads, newest first."""
    if ask.caller.person is None and not ask.site.settings.anonymous:
        return ask.go("/login")
    text = ask.request.query_params.get("before", "")
    before = int(text) if text.isdecimal() and len(text) < 10 else None
    rows = ask.site.album.uploads(ask.caller.account, ask.caller.visitor, before, PAGE + 1)
    shown = [describe(upload, photo, "") for upload, photo in rows[:PAGE]]
    return ask.page("mine.html", shown=shown, more=shown[-1]["id"] if len(rows) > PAGE else None)


def photo(ask: Ask) -> Response:
    """GET /uploads/NAME: a stored photo, for its uploaders, for reviewers and for machines that learn from it."""
    name = ask.request.path_params["name"]
    found = ask.site.album.photo_by_key(f"{name[:2]}/{name}") if name.isprintable() else None
    if found is None or not _may_see(ask, found):
        raise NotFound(f"there is no photo {name[:80]!r}")
    data = ask.site.album.store.read(found.key)
    headers = {"Cache-Control": "private, max-age=3600", "Content-Security-Policy": "default-src 'none'; sandbox"}
    return Response(data, media_type=TYPES[PurePosixPath(found.key).suffix], headers=headers)


def _may_see(ask: Ask, photo: Photo) -> bool:
    caller = ask.caller
    if caller.scope or (caller.person and at_least(caller.person.role, "reviewer")):
        return True
    return ask.site.album.made_by(photo.id, caller.account, caller.visitor)


@dataclass(frozen=True)
class Bar:
    """A label with its probability, 0 to 1."""

    label: str
    probability: float

    @property
    def percent(self) -> str:
        return f"{self.probability:.1%}"


def describe(upload: Upload, photo: Photo, own: str) -> dict[str, Any]:
    """What the pages show of an upload."""
    answer = upload.answer
    probabilities = answer.get("probabilities")
    pairs = probabilities.items() if isinstance(probabilities, dict) else []
    bars = sorted((Bar(str(label), float(p)) for label, p in pairs), key=lambda bar: -bar.probability)
    return {
        "id": upload.id,
        "name": upload.name,
        "url": f"/uploads/{photo.key.rpartition('/')[2]}",
        "label": upload.label,
        "confidence": upload.confidence,
        "percent": f"{upload.confidence:.0%}",
        "unsure": bool(answer.get("unsure")),
        "outside": answer.get("in_scope") is False or bool(answer.get("out_of_scope")),
        "version": upload.version,
        "model": upload.model,
        "milliseconds": round(upload.milliseconds),
        "bars": bars[:BARS],
        "others": max(0, len(bars) - BARS),
        "state": STATES[photo.state],
        "agreed": photo.agreed,
        "own": own.removeprefix(LABEL),
        "width": photo.width,
        "height": photo.height,
    }


def _id(ask: Ask) -> int:
    number = int(ask.request.path_params["id"])
    if number > 2**31 - 1:
        raise NotFound(f"there is no result {number}")
    return number
