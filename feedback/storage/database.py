"""Open the database: SQLite in WAL mode by default, PostgreSQL by URL. Missing migrations are run first."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from common.errors import InvalidInput, Unreachable
from common.files import writing

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_MS = 10_000
"""How long a writer waits for another one; SQLite allows one at a time."""


class Database:
    """One database.

    Args:
        url: as SQLAlchemy writes it.

    Raises:
        UserError: the URL is not valid, or the database does not answer.
    """

    def __init__(self, url: str) -> None:
        self.engine = _engine(url)
        try:
            migrate(self.engine)
        except SQLAlchemyError as error:
            shown = make_url(url).render_as_string(hide_password=True)
            reason = " ".join(str(error.__cause__ or error).split())[:200]
            raise Unreachable(f"the database {shown} does not answer: {reason}", "check FEEDBACK_DATABASE") from error
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)

    @contextmanager
    def begin(self) -> Iterator[Session]:
        """A transaction: committed when the block ends, rolled back after an exception."""
        with self._sessions.begin() as session:
            yield session

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def migrate(engine: Engine) -> None:
    """Bring the tables to the newest migration."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() != "sqlite":
            return create_engine(parsed, pool_pre_ping=True)
    except (ArgumentError, ModuleNotFoundError) as error:
        fix = "write sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME"
        raise InvalidInput(f"FEEDBACK_DATABASE is not valid: {' '.join(str(error).split())}", fix) from error
    if parsed.database:
        with writing(parsed.database):
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    engine = create_engine(parsed)
    event.listen(engine, "connect", _set_up)
    event.listen(engine, "begin", _begin)
    return engine


def _set_up(connection: Any, _: object) -> None:
    connection.isolation_level = None  # the driver would begin its transactions too late
    for line in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={BUSY_MS}", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {line}")


def _begin(connection: Any) -> None:
    """Take the write lock at once: a transaction that reads first and then waits for it would fail instead."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")
