"""The routes of the web application.

GET  /                   upload form                          POST /upload_image      one or more files
GET  /results/ID         photo and answer, also /results ID   POST /results/ID        label, as the document spells it
GET  /mine               own uploads                          GET  /uploads/NAME      a photo
GET  /review             the next photo                       POST /review/ID         a blind opinion
GET  /statistics         states, days, people, agreement      GET  /export.csv        agreed labels
GET  /user-labels        agreed labels as JSON                GET, POST /model        newest version, a new one
GET, POST /login         POST /logout                         GET, POST /first        the first account
POST /samples            a photo of a report's sample
GET  /versions           announced versions, their gate    GET  /metrics            counts for Prometheus
GET  /healthz            whether the database answers
"""

import logging
from http import HTTPStatus
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from common.web.assets import SecurityHeaders, shared_files
from feedback.accounts.people import People
from feedback.photos.store import PhotoStore
from feedback.review.album import Album
from feedback.settings import Settings
from feedback.storage.database import Database
from feedback.web import exports, machines, reviewing, sessions, uploads, versions
from feedback.web.classifier import Classifier
from feedback.web.guards import CONTENT_POLICY, Guard
from feedback.web.site import TEMPLATES, Site, Work, endpoint

STATIC = Path(__file__).parent / "static"
_log = logging.getLogger(__name__)


def open_site(settings: Settings, frozen: tuple[str, ...] = ()) -> Site:
    """Open the database and the photo store.

    Raises:
        UserError: one of them cannot be opened.
    """
    database = Database(settings.database)
    album = Album(database, PhotoStore(settings.photos), settings.keep_days, frozen)
    return Site(settings, database, People(database), album, Classifier(settings))


def application(site: Site) -> Starlette:
    """The application."""

    def route(path: str, work: Work, method: str = "GET", role: str = "", scopes: tuple[str, ...] = ()) -> Route:
        return Route(path, endpoint(site, work, role, scopes), methods=[method])

    labels, models, reports = ("labels", "nightly"), ("models", "nightly"), ("reports",)
    results = [
        route(path, work, method)
        for path in ("/results/{id:int}", "/results{id:int}")
        for work, method in ((uploads.result, "GET"), (uploads.correct, "POST"))
    ]
    return Starlette(
        routes=[
            route("/", uploads.form),
            route("/upload_image", uploads.upload, "POST"),
            *results,
            route("/mine", uploads.mine),
            route("/uploads/{name}", uploads.photo, scopes=labels),
            route("/review", reviewing.review, role="reviewer"),
            route("/review/{id:int}", reviewing.judge, "POST", "reviewer"),
            route("/statistics", reviewing.statistics, role="reviewer"),
            route("/export.csv", exports.table, role="reviewer", scopes=labels),
            route("/user-labels", machines.user_labels, role="reviewer", scopes=(*labels, *reports)),
            route("/samples", machines.sample, "POST", "admin", reports),
            route("/model", machines.newest, role="uploader", scopes=(*labels, *models)),
            route("/model", machines.announce, "POST", "admin", models),
            route("/login", sessions.sign_in_form),
            route("/login", sessions.sign_in, "POST"),
            route("/logout", sessions.sign_out, "POST"),
            route("/first", sessions.first_form),
            route("/first", sessions.first, "POST"),
            route("/versions", versions.versions, role="reviewer"),
            route("/metrics", versions.metrics),
            route("/healthz", machines.health),
            shared_files(),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        middleware=[Middleware(Guard), Middleware(SecurityHeaders, content_policy=CONTENT_POLICY)],
        exception_handlers={HTTPException: _refused, Exception: _broken},
    )


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _failure(request, error.status_code, error.detail, error.headers)


def _broken(request: Request, error: Exception) -> Response:
    _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _failure(request, HTTPStatus.INTERNAL_SERVER_ERROR, "the server failed: its log says why")


def _failure(request: Request, status: int, message: str, headers: object = None) -> Response:
    """An error without a caller: as JSON, unless a browser asks for a page."""
    extra = dict(headers) if isinstance(headers, dict) else None
    if "text/html" in request.headers.get("accept", ""):
        page = (TEMPLATES / "plain.html").read_text(encoding="utf-8").replace("MESSAGE", _escaped(message))
        return HTMLResponse(page, status, extra)
    code = HTTPStatus(status).phrase.lower().replace(" ", "_")
    return JSONResponse({"error": {"code": code, "message": message}}, status, extra)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
