"""Connections: reads see a snapshot, writes are one transaction each and wait for their turn.

SQLite lets one connection write at a time. A transaction that reads first and writes later would be refused when
another one wrote in between, so writers begin with `BEGIN IMMEDIATE` and queue. An engine must not cross a fork:
every process makes its own `Database`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, Select, create_engine, event, func, make_url, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import StaticPool

from adapterhub_registry.models import Model

_WRITES = "adapterhub_writes"
_BUSY_SECONDS = 60
_BLOBS = 7_203_145_882
"""any number that nobody else locks in PostgreSQL"""

Row = TypeVar("Row", bound=Model)


class Database:
    """A database and the two ways to use it."""

    def __init__(self, url: str) -> None:
        self.engine = _engine(url)
        self._read = sessionmaker(self.engine, expire_on_commit=False)
        self._write = sessionmaker(
            self.engine.execution_options(**{_WRITES: True}), expire_on_commit=False
        )

    def open(self) -> Session:
        """Open a session that only reads; the caller closes it."""
        return self._read()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that only reads."""
        with self._read() as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A session whose changes are committed together at the end, or not at all."""
        with self._write.begin() as session:
            yield session

    def close(self) -> None:
        """Let go of every connection."""
        self.engine.dispose()


def keep_blobs(session: Session) -> None:
    """Until this transaction ends no blob is taken away. SQLite has one writer anyway; PostgreSQL has to be asked."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(select(func.pg_advisory_xact_lock_shared(_BLOBS)))


def take_blobs(session: Session) -> None:
    """Wait for every transaction that keeps blobs, and keep new ones waiting until this one ends."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(select(func.pg_advisory_xact_lock(_BLOBS)))


def ensure(session: Session, model: type[Row], **keys: str) -> Row:
    """Find the row with these unique keys, or make it; of many that try at once, all get the same row."""
    return ensure_with(session, model, keys, {})


def ensure_with(
    session: Session, model: type[Row], keys: dict[str, Any], rest: dict[str, Any]
) -> Row:
    """Do as `ensure`, with further values for a row that has to be made."""
    query: Select[Row] = select(model).filter_by(**keys)
    found = session.scalar(query)
    if found is not None:
        return found
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    session.execute(dialect.insert(model).values(**keys, **rest).on_conflict_do_nothing())
    return session.scalars(query).one()


def _engine(url: str) -> Engine:
    if not url.startswith("sqlite"):
        return create_engine(url, pool_pre_ping=True, pool_size=8, max_overflow=24)
    in_memory = make_url(url).database in {None, "", ":memory:"}
    engine = create_engine(
        url,
        connect_args={"timeout": _BUSY_SECONDS, "check_same_thread": False},
        **({"poolclass": StaticPool} if in_memory else {"pool_size": 16, "max_overflow": 32}),
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: DBAPIConnection, _record: object) -> None:
    connection.isolation_level = None  # the driver begins nothing by itself; `_begin_sqlite` does
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_BUSY_SECONDS * 1000}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")  # what was answered survives a power cut
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
