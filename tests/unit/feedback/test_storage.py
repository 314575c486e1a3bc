"""The same tests on SQLite and on a real PostgreSQL: migrations, opinions, concurrency, expiry, the queue's index."""

import contextlib
import re
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, event, insert, select, text

from common.errors import NotFound, UserError
from feedback.review.agreement import OPEN, State, Vote, derive, value_of
from feedback.review.statistics import Statistics
from feedback.storage.database import Database, migrate
from feedback.storage.tables import Base, Opinion, Photo, now
from feedback.web.site import Site
from tests.helpers.feedback import Browser, jpeg, site_in
from tests.helpers.postgres import missing, postgres


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with postgres() as url:
        yield url


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("postgresql", marks=[pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=missing())]),
    ]
)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    environ = {}
    if request.param == "postgresql":
        cluster = request.getfixturevalue("cluster")
        admin = create_engine(cluster.replace("NAME", "postgres"), isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {tmp_path.name}"))
        admin.dispose()
        environ["FEEDBACK_DATABASE"] = cluster.replace("NAME", tmp_path.name)
    site = site_in(tmp_path, **environ)
    yield site
    site.database.close()


def test_the_migrations_make_the_tables_that_the_code_uses(site: Site) -> None:
    migrate(site.database.engine)  # again: nothing to do
    with site.database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_the_whole_loop(site: Site) -> None:
    ann, ben = Browser(site).signed_in("ann"), Browser(site).signed_in("ben", "reviewer")
    result = ann.upload(jpeg(1), "photo\x00'; --.jpg")
    ann.post(f"/results/{result}", label="label:circle")
    ann.post(f"/results/{result}", label="label:square")
    ben.post(f"/review/{ben.shown()}", decision="label:square")
    headers = {"Authorization": f"Bearer {site.people.add_token('trainer', 'labels')}"}
    assert [row["name"] for row in ben.client.get("/user-labels", headers=headers).json()] == ["square"]
    assert "square" in ben.get("/statistics").text
    assert ben.post("/login", name="ann\x00", password="x\x00").status_code == 401
    with site.database.begin() as session:
        values = list(session.scalars(select(Opinion.value).order_by(Opinion.id)))
    assert values == ["label:circle", "label:square", "label:square"], "opinions are only added"


def test_two_reviewers_at_the_same_moment_lose_no_opinion(site: Site) -> None:
    people = [site.people.add(name, "reviewer", "a long password").id for name in ("ann", "ben", "cem", "dan")]
    ann = Browser(site)
    ann.post("/login", name="ann", password="a long password")
    photos = [site.album.upload(ann.upload(jpeg(seed)), people[0], "")[1].id for seed in range(4)]

    def judge(account: int) -> None:
        for photo in photos:
            with contextlib.suppress(UserError):  # two others were quicker
                site.album.review(photo, account, "label:square")

    threads = [threading.Thread(target=judge, args=(account,)) for account in people[1:]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with site.database.begin() as session:
        assert [row.state for row in session.scalars(select(Photo))] == [State.AGREED.value] * 4
        for photo in photos:
            rows = session.scalars(select(Opinion).where(Opinion.photo_id == photo).order_by(Opinion.id))
            assert derive(Vote(row.account_id, row.value, row.blind) for row in rows) == (State.AGREED, "square")


def test_a_photo_is_forgotten_and_an_expired_one_is_listed_and_not_handed_out(site: Site, tmp_path: Path) -> None:
    ann, ben = Browser(site).signed_in("ann"), Browser(site).signed_in("ben", "reviewer")
    for seed in (1, 2):
        ann.post(f"/results/{ann.upload(jpeg(seed))}", label="label:square")
        ben.post(f"/review/{ben.shown()}", decision="label:square")
    assert len(site.album.agreed(0, 10)) == 2
    assert site.album.forget(1) == "photo 1: 1 upload, 2 opinions, its file"
    with pytest.raises(NotFound):
        site.album.forget(1)
    assert len(list((tmp_path / "feedback" / "photos").rglob("*.jpg"))) == 1
    with site.database.begin() as session:
        session.get_one(Photo, 2).expires_at = now() - timedelta(seconds=1)
    assert site.album.expired() == [2]
    assert site.album.agreed(0, 10) == []


def test_the_queue_is_read_by_an_index(site: Site) -> None:
    """So a page costs the same with 100,000 photos as with 1,000."""
    site.people.add("ann", "reviewer", "a long password")
    blank = {"phash": "", "width": 1, "height": 1, "bytes": 1, "reason": "upload", "probability": 1.0, "frozen": False}
    rows = [
        {**blank, "sha256": f"{n:064}", "key": f"{n:032}", "chain": n, "place": n * 7919 % 1000, "state": "new"}
        | {"created_at": now(), "expires_at": now()}
        for n in range(1, 1001)
    ]
    with site.database.begin() as session:
        session.execute(insert(Photo), rows)
        session.execute(text("ANALYZE"))
    asked = list[tuple[str, Any]]()

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    event.listen(site.database.engine, "before_cursor_execute", note)
    assert [photo.place for photo in site.album.queue(1, 3)] == [0, 1, 2]
    event.remove(site.database.engine, "before_cursor_execute", note)
    queries = [row for row in asked if "photo.place" in row[0]]
    assert len(queries) == 2 * len(OPEN)
    for statement, parameters in queries:
        plan = plan_of(site, statement, parameters)
        assert "photo_queue" in plan or "photo_sample" in plan, plan
        assert not re.search(r"(?<!Incremental )Sort  |B-TREE FOR ORDER BY", plan), f"it sorts all open photos: {plan}"
    assert Statistics.of(site.database).photos == {"new": 1000}


def plan_of(site: Site, statement: str, parameters: Any) -> str:
    """How the database answers a query; PostgreSQL only sorts and reads whole tables if there is no other way."""
    with site.database.engine.begin() as connection:
        if site.database.engine.name == "sqlite":
            rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        else:
            for way in ("seqscan", "bitmapscan", "sort"):
                connection.exec_driver_sql(f"SET LOCAL enable_{way} = off")
            rows = connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)
        return "\n".join(str(row) for row in rows)


def test_a_database_that_does_not_answer_or_has_a_wrong_url_is_one_line() -> None:
    with pytest.raises(UserError, match="check FEEDBACK_DATABASE"):
        Database("postgresql+psycopg://nobody:secret@127.0.0.1:1/none")
    with pytest.raises(UserError, match="write sqlite:///FILE"):
        Database("not a url")


@pytest.mark.parametrize(
    ("votes", "expected"),
    [
        ([], (State.NEW, None)),
        ([(1, "a", False)], (State.PROPOSED, None)),
        ([(1, "a", False), (1, "a", False), (1, "a", True)], (State.PROPOSED, None)),
        ([(1, "a", False), (2, "a", False)], (State.PROPOSED, None)),
        ([(1, "a", False), (2, "a", True)], (State.AGREED, "a")),
        ([(1, "a", True), (2, "a", True)], (State.AGREED, "a")),
        ([(1, "a", False), (2, "b", True)], (State.DISAGREED, None)),
        ([(1, "a", False), (2, "b", True), (3, "b", True)], (State.AGREED, "b")),
        ([(1, "a", False), (2, "b", True), (1, "b", False)], (State.AGREED, "b")),
        ([(1, "a", True), (2, "b", True), (3, "c", True)], (State.DISPUTED, None)),
        ([(None, "a", False), (2, "a", True)], (State.PROPOSED, None)),
        ([(1, "broken", False), (2, "broken", True)], (State.ASIDE, None)),
        ([(1, "a", False), (2, "a", True), (1, "b", False)], (State.DISAGREED, None)),
    ],
)
def test_the_state_of_a_photo_follows_from_the_opinions(
    votes: list[tuple[int | None, str, bool]], expected: tuple[State, str | None]
) -> None:
    named = [(account, value if value == "broken" else f"label:{value}", blind) for account, value, blind in votes]
    assert derive(Vote(*vote) for vote in named) == expected


def test_a_decision_is_a_label_or_a_reason() -> None:
    assert value_of("label:unclear", ("unclear", "b")) == "label:unclear"
    assert value_of("unclear", ("unclear", "b")) == "unclear"
    with pytest.raises(ValueError, match="is not a label"):
        value_of("c", ("a", "b"))
