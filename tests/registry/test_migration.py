"""The migrations make exactly the tables that the models say, and take them away again."""

import ast
import secrets
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import op
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, inspect, make_url, text
from tests.factories import make_files, make_manifest
from tests.registry.conftest import NO_POSTGRES, POSTGRES, Hub

from adapterhub_registry import migration
from adapterhub_registry.database import Database
from adapterhub_registry.models import Model


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path):
    """A database with nothing in it."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'empty.sqlite'}"
        database = Database(url)
        yield database
        database.close()
        return
    if not POSTGRES:
        pytest.skip(NO_POSTGRES)
    name = f"adapterhub_empty_{secrets.token_hex(4)}"
    admin = make_url(POSTGRES).set(drivername="postgresql+psycopg")
    server = create_engine(admin, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(f'CREATE DATABASE "{name}"'))
    database = Database(admin.set(database=name).render_as_string(hide_password=False))
    yield database
    database.close()
    with server.connect() as connection:
        connection.execute(text(f'DROP DATABASE "{name}" WITH (FORCE)'))
    server.dispose()


def test_up_is_what_the_models_say_and_down_is_empty_again(empty: Database) -> None:
    assert not migration.is_current(empty)

    migration.migrate(empty)
    with empty.engine.connect() as connection:
        options = {"compare_type": True, "include_name": _is_modelled}
        context = MigrationContext.configure(connection, opts=options)
        differences = compare_metadata(context, Model.metadata)
        tables = set(inspect(connection).get_table_names())
    current = migration.is_current(empty)
    migration.downgrade(empty, "base")
    with empty.engine.connect() as connection:
        left = inspect(connection).get_table_names()

    assert (differences, current) == ([], True)
    assert set(Model.metadata.tables) <= tables
    assert left == ["alembic_version"]


def _is_modelled(name: str | None, kind: str, _parents: object) -> bool:
    """The full-text table of SQLite is virtual: no model can say it, and it keeps tables of its own."""
    return kind != "table" or not (name or "").startswith("search_text")


def test_a_database_behind_is_not_current_and_one_ahead_is(empty: Database) -> None:
    migration.migrate(empty)
    migration.downgrade(empty, "-1")
    behind = migration.is_current(empty)
    migration.migrate(empty)
    with empty.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'f00000000000'"))

    assert not behind
    assert migration.is_current(empty)


def test_migrating_twice_is_as_once(empty: Database) -> None:
    migration.migrate(empty)
    migration.migrate(empty)

    assert migration.is_current(empty)


def test_several_processes_may_migrate_at_once(empty: Database) -> None:
    databases = [Database(empty.engine.url.render_as_string(hide_password=False)) for _ in range(4)]

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(_migrate, databases))

    assert migration.is_current(empty)


def _migrate(database: Database) -> None:
    migration.migrate(database)
    database.close()


def test_sqlite_keeps_its_promises(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'registry.sqlite'}")

    with database.engine.connect() as connection:
        found = {
            name: connection.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "foreign_keys", "synchronous", "busy_timeout")
        }
    database.close()

    assert found == {
        "journal_mode": "wal",
        "foreign_keys": 1,
        "synchronous": 2,
        "busy_timeout": 60_000,
    }


VERSIONS = sorted((Path(__file__).parents[2] / "migrations" / "versions").glob("*.py"))
TAKES_AWAY = {"drop_table", "drop_column", "drop_constraint", "alter_column", "rename_table"}


@pytest.mark.parametrize("path", VERSIONS, ids=lambda path: path.stem)
def test_no_upgrade_takes_away_what_the_code_before_it_reads(path: Path) -> None:
    (upgrade,) = (
        node
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name == "upgrade"
    )

    called = {node.attr for node in ast.walk(upgrade) if isinstance(node, ast.Attribute)}

    assert called & TAKES_AWAY == set()
    assert "op" in {node.id for node in ast.walk(upgrade) if isinstance(node, ast.Name)}


def test_reads_go_on_while_a_full_database_is_upgraded(hub: Hub) -> None:
    token = hub.token("ukp")
    for seed in range(3):
        files = make_files(seed)
        hub.publish(token, make_manifest(f"nli/number-{seed}@ukp", files), files)
    before = hub.get("/adapters").json
    done = threading.Event()
    answers: list[int] = []

    def read() -> None:
        while not done.is_set():
            answers.append(hub.get("/adapters").status_code)
            answers.append(hub.get("/resolve?ref=nli/number-1@ukp").status_code)

    reader = threading.Thread(target=read)
    migration.downgrade(hub.runtime.database, "-1")
    reader.start()
    try:
        migration.migrate(hub.runtime.database)
        while len(answers) < 20:
            time.sleep(0.01)
    finally:
        done.set()
        reader.join()

    assert set(answers) == {200}
    assert hub.get("/adapters").json == before
    assert hub.get("/whoami", token).status_code == 200


def test_a_full_database_can_go_back_and_come_again(hub: Hub) -> None:
    files = make_files()
    hub.publish(hub.token("ukp"), make_manifest(files=files), files)
    before = hub.get("/adapters/nli/multinli@ukp").json

    for _ in range(len(VERSIONS) - 2):  # the search that lists are cut from came with the second
        migration.downgrade(hub.runtime.database, "-1")
    migration.migrate(hub.runtime.database)

    assert hub.get("/adapters/nli/multinli@ukp").json == before


def test_an_upgrade_that_breaks_off_leaves_what_was(
    empty: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    migration.migrate(empty, "5a1c0d2e9f07")

    def fail(*_arguments: object, **_more: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(op, "create_index", fail)
        with pytest.raises(KeyboardInterrupt):
            migration.migrate(empty)
    tables = set(inspect(empty.engine).get_table_names())
    migration.migrate(empty)

    assert "invitation" not in tables
    assert migration.is_current(empty)
