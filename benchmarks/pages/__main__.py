"""How fast the feedback pages are with many photos in the database: p50 and p95 of each page, in one process.

    python -m benchmarks.pages --photos 100000
    python -m benchmarks.pages --photos 100000 --database postgresql+psycopg://user@host/name

fills an empty database (default: SQLite in a temporary folder) with photos of which half are agreed, with an upload and
two opinions each, then asks every page as a reviewer. No network and no model are involved. The last column is the
CPU time of this process, which other work on the machine does not change. Prints Markdown.
"""

import statistics
import tempfile
import time
from datetime import timedelta
from typing import Any

import click
from rich.progress import track
from sqlalchemy import insert, text
from starlette.testclient import TestClient

from common.cli import command
from common.console import console
from feedback.settings import read_settings
from feedback.storage.tables import Base, Opinion, Photo, Upload, now
from feedback.web.app import application, open_site
from feedback.web.classifier import Classifier, Served
from feedback.web.guards import SESSION
from feedback.web.site import Site
from handler.spec import Input, Spec

PAGES = (
    "/",
    "/mine",
    "/results/5",
    "/review",
    "/statistics",
    "/versions",
    "/model",
    "/user-labels?after=0",
    "/metrics",
)
BLOCK = 5_000
PEOPLE = 5
HEX_DIGITS = 36
KEEP = timedelta(days=1)
_PRIME = 7919


class _Fixed(Classifier):
    """A model that is never asked."""

    def served(self) -> Served:
        return Served(
            "shapes", "1.0", Spec(name="shapes", labels=("circle", "square"), input=Input(height=32, width=32))
        )


@command(epilog="Example: python -m benchmarks.pages --photos 100000")
@click.option("--photos", default=100_000, show_default=True, type=click.IntRange(100))
@click.option("--requests", default=40, show_default=True, type=click.IntRange(1), help="Of each page.")
@click.option("--database", help="URL of an empty database.  [default: SQLite in a temporary folder]")
def main(photos: int, requests: int, database: str | None) -> None:
    """Measure the pages."""
    with tempfile.TemporaryDirectory() as name:
        environment = {"SERVE_VAR": name, **({"FEEDBACK_DATABASE": database} if database else {})}
        site = open_site(read_settings(environment))
        site = Site(site.settings, site.database, site.people, site.album, _Fixed(site.settings))
        people = [site.people.add(f"person {number}", "reviewer", "a long password").id for number in range(PEOPLE)]
        for start in track(range(0, photos, BLOCK), "filling", console=console, transient=True):
            _fill(site, people, range(start + 1, min(start + BLOCK, photos) + 1))
        with site.database.begin() as session:
            session.execute(text("ANALYZE"))
        client = TestClient(application(site), "http://testserver", follow_redirects=False)
        client.cookies.set(SESSION, site.people.sign_in("person 0", "a long password") or "")
        click.echo(
            f"| {photos:,} photos, {site.database.engine.name} | p50, ms | p95, ms | p95, CPU ms |\n|---|---|---|---|"
        )
        for page in PAGES:
            times = [_ask(client, page) for _ in range(requests)]
            wall, cpu = zip(*times, strict=True)
            p95 = [statistics.quantiles(values, n=20)[-1] for values in (wall, cpu)]
            click.echo(f"| {page} | {statistics.median(wall):.0f} | {p95[0]:.0f} | {p95[1]:.0f} |")
        site.database.close()


def _ask(client: TestClient, page: str) -> tuple[float, float]:
    """Milliseconds of a request: by the clock, and of CPU."""
    begun, cpu = time.perf_counter(), time.process_time()
    answer = client.get(page)
    spent = (time.perf_counter() - begun) * 1000, (time.process_time() - cpu) * 1000
    if answer.status_code not in (200, 404):
        raise click.ClickException(f"{page} answers {answer.status_code}")
    return spent


def _fill(site: Site, people: list[int], numbers: range) -> None:
    photos, uploads, opinions = list[dict[str, Any]](), list[dict[str, Any]](), list[dict[str, Any]]()
    for number in numbers:
        agreed = number % 2 == 0
        state, label = ("agreed", "square") if agreed else ("proposed", None)
        photos.append(_photo(number) | {"state": state, "agreed": label, "agreed_at": now() if agreed else None})
        account = people[number % PEOPLE]
        row = {"photo_id": number, "account_id": account, "name": f"{number}.jpg", "model": "shapes", "version": "1.0"}
        answer = {"probabilities": {"circle": 0.7, "square": 0.3}}
        uploads.append({**row, "label": "circle", "confidence": 0.7, "answer": answer, "milliseconds": 12.0})
        for blind in (False, True)[: 1 + agreed]:
            voter = people[(number + blind) % PEOPLE]
            opinions.append({"photo_id": number, "account_id": voter, "value": "label:square", "blind": blind})
    with site.database.begin() as session:
        for table, rows in ((Photo, photos), (Upload, uploads), (Opinion, opinions)):
            session.execute(insert(Base.metadata.tables[table.__tablename__]), rows)


def _photo(number: int) -> dict[str, Any]:
    scattered = number * _PRIME % 2**31
    return {
        "id": number,
        "sha256": f"{number:064x}",
        "key": f"00/{number:032x}.jpg",
        "phash": f"{scattered:0{HEX_DIGITS}x}",
        "chain": number,
        "width": 640,
        "height": 480,
        "bytes": 100_000,
        "reason": "random" if number % 10 == 1 else "upload",
        "place": scattered,
        "expires_at": now() + KEEP,
    }


if __name__ == "__main__":
    main()
