"""Connections: each read sees what is committed, writes are one transaction each and wait for their turn.

SQLite lets one connection write at a time. A transaction that reads first and writes later would be refused when
another one wrote in between, so writers begin with `BEGIN IMMEDIATE` and queue. An engine must not cross a fork:
every process makes its own `Database`.

PostgreSQL may undo a transaction because of others beside it: a deadlock, or a serialization failure where the
operator chose that isolation. `transact` runs such a transaction again; what runs in it must therefore change
nothing but the database.
"""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Generic, TypeVar

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    Dialect,
    Engine,
    Select,
    create_engine,
    event,
    func,
    make_url,
    select,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPICursor, ExecutionContext
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry, StaticPool

from adapterhub_registry.models import Model

_READS = "adapterhub_reads"
_WRITES = "adapterhub_writes"
_AT_ONCE = "at once"
_BUSY_SECONDS = 60
_RECYCLE_SECONDS = 1800
_RUSH = 3
_IDLE_SINCE = "idle since"
_TRUSTED_SECONDS = 0.5
_CONNECTING = {
    "connect_timeout": 5,
    # a server that vanished without a word is noticed within half a minute
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 4,
}
_BLOBS = 7_203_145_882
"""any number that nobody else locks in PostgreSQL"""

_UNDONE = frozenset(["40001", "40P01"])
"""PostgreSQL's codes for a serialization failure and a deadlock: the same transaction may work the next time"""
_ATTEMPTS = 12
_PAUSE_SECONDS = 0.02
_LONGEST_PAUSE_SECONDS = 1.0

Row = TypeVar("Row", bound=Model)
Result = TypeVar("Result")
Found = TypeVar("Found", bound=tuple[Any, ...])


class Limits(msgspec.Struct, frozen=True):
    """What one process may ask of PostgreSQL; zero seconds are no limit."""

    connections: int = 8
    """kept open; three times as many more for a rush"""
    statement_seconds: float = 0
    lock_seconds: float = 0
    idle_seconds: float = 0
    """within a transaction: of a process that hangs, the locks shall not stay"""
    waiting_seconds: float = 30
    """for a connection of the pool"""


UNLIMITED = Limits()


class Database:
    """A database and the ways to use it."""

    def __init__(self, url: str, limits: Limits = UNLIMITED) -> None:
        self.engine = _engine(url, limits)
        self._reading = self.engine.execution_options(**{_READS: True})
        self._read = sessionmaker(self._reading, expire_on_commit=False)
        self._write = sessionmaker(
            self.engine.execution_options(**{_WRITES: True}), expire_on_commit=False
        )

    def open(self, connection: Connection | None = None) -> Session:
        """Open a session that only reads, over a connection that is open already or its own; the caller closes it."""
        return self._read() if connection is None else self._read(bind=connection)

    def connect(self) -> Connection:
        """Open a connection that only reads, for what builds no objects; the caller closes it."""
        return self._reading.connect()

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

    @contextmanager
    def writing_at_once(self) -> Iterator[Session]:
        """The same for what is not worth waiting for: DBAPIError where another one writes."""
        engine = self.engine.execution_options(**{_WRITES: _AT_ONCE})
        with Session(engine) as session, session.begin():
            if engine.dialect.name == "postgresql":
                session.execute(text("SET LOCAL lock_timeout = '50ms'"))
            yield session

    def transact(self, work: Callable[[Session], Result]) -> Result:
        """Run `work` in a transaction, again where the database undid it because of others beside it.

        What it changes outside the session would happen twice.
        """
        pause = _PAUSE_SECONDS
        for _ in range(_ATTEMPTS - 1):
            try:
                with self.writing() as session:
                    return work(session)
            except DBAPIError as error:
                if getattr(error.orig, "sqlstate", None) not in _UNDONE:
                    raise
            time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311  # spreads them, hides nothing
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
        with self.writing() as session:
            return work(session)

    def close(self) -> None:
        """Let go of every connection."""
        self.engine.dispose()


class Lookup(Generic[Found]):
    """A statement for the few rows of one key; its rows are named tuples.

    PostgreSQL plans it once for each connection. It goes to the driver without SQLAlchemy, whose work on a statement
    and its result takes as long as the database's; columns have to be of types that the driver reads by itself.
    """

    def __init__(self, query: Select[*tuple[Any, ...]], row: Callable[..., Found]) -> None:
        self._query = query.execution_options(**_PREPARED)
        self._row = row
        self._compiled: tuple[str, dict[str, Any]] | None = None

    def rows(
        self,
        connection: Connection,
        given: dict[str, object],
        where: ColumnElement[bool] | None = None,
    ) -> list[Found]:
        """All of them, or those for which a further condition holds."""
        dialect = connection.dialect
        if where is None and dialect.name == "postgresql":
            statement, known = self._compiled = self._compiled or _compiled(self._query, dialect)
            driver: Any = connection.connection.driver_connection
            with suppress(dialect.loaded_dbapi.Error):
                found = driver.execute(statement, {**known, **given}, prepare=True)
                return [self._row(*each) for each in found]
            # It fails again below, where SQLAlchemy says so in its words and gives up a connection that is lost.
        query = self._query if where is None else self._query.where(where)
        return [self._row(*each) for each in connection.execute(query, given)]


def _compiled(query: Select[*tuple[Any, ...]], dialect: Dialect) -> tuple[str, dict[str, Any]]:
    """The text as the driver takes it, and the values in it that never change."""
    compiled = query.compile(dialect=dialect)
    return str(compiled), {
        name: value for name, value in compiled.params.items() if value is not None
    }


def keep_blobs(session: Session) -> None:
    """Until this transaction ends no blob is taken away. SQLite has one writer anyway; PostgreSQL has to be asked."""
    session.connection()  # a transaction begins with its first use, and only then is it SQLite's one writer
    if session.get_bind().dialect.name == "postgresql":
        session.execute(select(func.pg_advisory_xact_lock_shared(_BLOBS)))


def take_blobs(session: Session) -> None:
    """Wait for every transaction that keeps blobs, and keep new ones waiting until this one ends."""
    session.connection()
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


def ensure_all(session: Session, model: type[Model], rows: list[dict[str, Any]]) -> None:
    """Make those of the rows that are not there yet."""
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    session.execute(dialect.insert(model).on_conflict_do_nothing(), rows)


_PREPARED = {"prepared": True}
"""execution options of a statement that PostgreSQL plans once for each connection, whatever it is given

All others are planned each time: a plan for the very words that are asked for is worth more than the time it takes.
For one row by its key the plan takes longer than the rest (0.17 ms of 0.20).
"""
_NEVER = 2**31
_PLANNED = ("-c jit=off",)
"""no plan is worth compiling"""


def _engine(url: str, limits: Limits) -> Engine:
    if not url.startswith("sqlite"):
        engine = create_engine(
            url,
            pool_size=limits.connections,
            max_overflow=_RUSH * limits.connections,
            pool_timeout=limits.waiting_seconds,
            pool_recycle=_RECYCLE_SECONDS,
            pool_use_lifo=True,  # the one that was used last has its plans and tables at hand
            isolation_level="AUTOCOMMIT",  # the driver begins nothing by itself; `_begin_postgresql` does
            connect_args={**_CONNECTING, **_options(url, limits), "prepare_threshold": _NEVER},
        )
        event.listen(engine, "begin", _begin_postgresql)
        event.listen(engine, "do_execute", _execute)
        event.listen(engine, "checkin", _lay_down)
        event.listen(engine, "checkout", partial(_pick_up, engine.dialect))
        return engine
    in_memory = make_url(url).database in {None, "", ":memory:"}
    engine = create_engine(
        url,
        connect_args={"timeout": _BUSY_SECONDS, "check_same_thread": False},
        **({"poolclass": StaticPool} if in_memory else {"pool_size": 16, "max_overflow": 32}),
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _options(url: str, limits: Limits) -> dict[str, str]:
    """The limits as the server keeps them for each connection; what the URL says itself wins."""
    said = make_url(url).query.get("options", "")
    given = {
        "statement_timeout": limits.statement_seconds,
        "lock_timeout": limits.lock_seconds,
        "idle_in_transaction_session_timeout": limits.idle_seconds,
    }
    timed = [f"-c {name}={seconds * 1000:.0f}" for name, seconds in given.items() if seconds]
    ours = [*timed, *_PLANNED]
    return {"options": " ".join([*ours, *([said] if isinstance(said, str) else said)])}


def _execute(
    cursor: DBAPICursor, statement: str, parameters: object, context: ExecutionContext
) -> bool:
    """Run a statement that says so as a prepared one; the rest is run as ever."""
    if not context.execution_options.get("prepared"):
        return False
    driver: Any = cursor
    driver.execute(statement, parameters, prepare=True)
    return True


def _begin_postgresql(connection: Connection) -> None:
    """Begin a transaction, but for what only reads: at READ COMMITTED each statement has a snapshot of its own anyway.

    A request saves two waits for the server so.
    """
    driver: Any = connection.connection.dbapi_connection
    if driver.autocommit and not connection.get_execution_options().get(_READS):
        connection.exec_driver_sql("BEGIN")


def _lay_down(_connection: object, record: ConnectionPoolEntry) -> None:
    record.info[_IDLE_SINCE] = time.monotonic()


def _pick_up(
    dialect: Dialect, connection: DBAPIConnection, record: ConnectionPoolEntry, _proxy: object
) -> None:
    """Ask whether a connection that was idle for a moment still works, so that a restart of the server is not noticed.

    To ask each time, as the pool's own ping does, would cost every request a wait for the server.
    """
    idle_seconds = time.monotonic() - record.info.get(_IDLE_SINCE, time.monotonic())
    if idle_seconds < _TRUSTED_SECONDS:
        return
    try:
        is_alive = dialect.do_ping(connection)
    except dialect.loaded_dbapi.Error as error:
        raise DisconnectionError(str(error)) from error
    if not is_alive:
        raise DisconnectionError("The server closed the connection.")


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
    if writes != _AT_ONCE:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
        return
    connection.exec_driver_sql("PRAGMA busy_timeout = 0")
    try:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    finally:
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {_BUSY_SECONDS * 1000}")
