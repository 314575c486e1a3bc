"""The agreed labels as a file."""

import csv
from io import StringIO

from starlette.responses import Response

from feedback.web.machines import PAGE
from feedback.web.reviewing import url_of
from feedback.web.site import Ask

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def table(ask: Ask) -> Response:
    """GET /export.csv: id, label, url and digest of every photo with an agreed label."""
    text, after = StringIO(), 0
    writer = csv.writer(text)
    writer.writerow(["id", "label", "url", "sha256", "agreed_at"])
    while page := ask.site.album.agreed(after, PAGE):
        for photo, _ in page:
            when = photo.agreed_at.isoformat() if photo.agreed_at else ""
            writer.writerow([photo.id, _cell(photo.agreed or ""), url_of(photo), photo.sha256, when])
        after = page[-1][0].id
    headers = {"Content-Disposition": 'attachment; filename="agreed-labels.csv"'}
    return Response(text.getvalue(), media_type="text/csv; charset=utf-8", headers=headers)


def _cell(text: str) -> str:
    """A label that a spreadsheet does not take for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text
