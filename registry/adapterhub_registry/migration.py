"""Bring a database to the newest revision, from a checkout or from an installed wheel."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from adapterhub_registry.database import Database

_PACKAGE = Path(__file__).parent
_CHECKOUT = _PACKAGE.parents[1] / "migrations"
_INSTALLED = _PACKAGE / "_migrations"
_LOCK = 7_203_145_881
"""any number that nobody else locks in PostgreSQL"""


def migrate(database: Database, revision: str = "head") -> None:
    """Upgrade to a revision; of several processes that try at once, one does it and the others wait."""
    with _alone(database) as connection, connection.begin():
        _lock(connection)
        command.upgrade(_config(connection), revision)


def downgrade(database: Database, revision: str) -> None:
    """Go back to a revision; `base` is the empty database."""
    with _alone(database) as connection, connection.begin():
        _lock(connection)
        command.downgrade(_config(connection), revision)


def is_current(database: Database) -> bool:
    """Whether the database has all that this program reads: the newest revision that it knows, or a later one.

    While a registry is upgraded, programs from before serve on a database that is ahead of them.
    """
    scripts = ScriptDirectory(str(_folder()))
    with database.engine.connect() as connection:
        revision = MigrationContext.configure(connection).get_current_revision()
    known = {script.revision for script in scripts.walk_revisions()}
    return revision is not None and (
        revision == scripts.get_current_head() or revision not in known
    )


def _alone(database: Database) -> Connection:
    return database.engine.execution_options(adapterhub_writes=True).connect()


def _lock(connection: Connection) -> None:
    """SQLite lets one connection write anyway; PostgreSQL has to be asked, and to wait as long as it takes."""
    if connection.dialect.name == "postgresql":
        for limit in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
            connection.execute(text(f"SET LOCAL {limit} = 0"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_folder()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _folder() -> Path:
    return _INSTALLED if _INSTALLED.exists() else _CHECKOUT
