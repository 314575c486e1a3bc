"""What became of the announced versions: the page for people, and the figures for Prometheus."""

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from sqlalchemy import func, select
from starlette.responses import Response

from feedback.storage.tables import Model, Photo
from feedback.web.site import Ask

SHOWN = 50


def versions(ask: Ask) -> Response:
    """GET /versions: the newest announced versions, with their gate and why one was refused."""
    with ask.site.database.begin() as session:
        rows = list(session.scalars(select(Model).order_by(Model.id.desc()).limit(SHOWN)))
    return ask.page("versions.html", models=[{"row": row, "conditions": _conditions(row)} for row in rows])


def _conditions(model: Model) -> list[tuple[bool, str]]:
    """Whether each condition of the gate held, and its sentence. A machine sent them: they may be anything."""
    rows = model.gate.get("conditions")
    rows = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return [(row.get("passed") is True, str(row.get("sentence", ""))[:400]) for row in rows]


def metrics(ask: Ask) -> Response:
    """GET /metrics: counts of photos and versions by state; nothing about a photo or a person."""
    registry = CollectorRegistry()
    photos = Gauge("feedback_photos", "Photos by state.", ["state"], registry=registry)
    models = Gauge("feedback_versions", "Announced versions by state.", ["model", "state"], registry=registry)
    with ask.site.database.begin() as session:
        for state, count in session.execute(select(Photo.state, func.count()).group_by(Photo.state)):
            photos.labels(state).set(count)
        query = select(Model.name, Model.state, func.count()).group_by(Model.name, Model.state)
        for name, state, count in session.execute(query):
            models.labels(name, state).set(count)
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
