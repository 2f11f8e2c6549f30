"""A registry for each test: the real app over the real migrations, blobs in memory, a clock that stands still."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import psycopg
import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import create_engine, event, make_url, text
from werkzeug.test import TestResponse

from adapterhub_client import wire
from adapterhub_registry import migration
from adapterhub_registry import request as requests
from adapterhub_registry.app import create_app
from adapterhub_registry.database import Database
from adapterhub_registry.models import Model
from adapterhub_registry.runtime import Runtime
from adapterhub_registry.service import account as accounts
from adapterhub_registry.service import token as tokens
from adapterhub_registry.settings import Settings, from_environment
from adapterhub_registry.storage import BlobStore, MemoryStore

Answer = TypeVar("Answer")
POSTGRES = os.environ.get("ADAPTERHUB_TEST_DATABASE_URL") or os.environ.get("DATABASE_URL", "")
NO_POSTGRES = "no PostgreSQL: neither ADAPTERHUB_TEST_DATABASE_URL nor DATABASE_URL names one"


class Clock:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.moment

    def move(self, **step: float) -> None:
        self.moment += timedelta(**step)


class Hub:
    """A registry as its users see it: requests in, structs or problems out."""

    def __init__(self, app: Flask, clock: Clock) -> None:
        self.app, self.clock = app, clock

    @property
    def runtime(self) -> Runtime:
        runtime: Runtime = self.app.extensions["adapterhub"]
        return runtime

    @property
    def client(self) -> FlaskClient:
        return self.app.test_client()

    def call(self, method: str, path: str, token: str | None = None, **more: Any) -> TestResponse:
        headers = dict(more.pop("headers", {}))
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        if "body" in more:
            more["data"] = msgspec.json.encode(more.pop("body"))
            headers.setdefault("Content-Type", "application/json")
        return self.client.open(f"/api/v1{path}", method=method, headers=headers, **more)

    def get(self, path: str, token: str | None = None, **more: Any) -> TestResponse:
        return self.call("GET", path, token, **more)

    def token(self, name: str, *scopes: wire.Scope, days: int | None = None) -> str:
        """Sign in: make the account if it is not there, and a token for it."""
        asked = wire.TokenRequest(label="test", scopes=list(scopes) or ["admin"], expires_days=days)
        with self.runtime.database.writing() as session:
            try:
                account = accounts.find_account(session, name)
            except accounts.AccountNotFound:
                account = accounts.create_account(session, name, self.clock())
            return tokens.issue(session, account, asked, self.clock())[1]

    def begin(self, token: str, manifest: wire.Manifest, *, private: bool = False) -> wire.Upload:
        draft = wire.UploadDraft(manifest=manifest, private=private)
        return ok(self.call("POST", "/uploads", token, body=draft), wire.Upload)

    def publish(
        self,
        token: str,
        manifest: wire.Manifest,
        files: dict[str, bytes],
        *,
        private: bool = False,
    ) -> wire.Version:
        upload = self.begin(token, manifest, private=private)
        contents = {file.sha256: files[file.path] for file in manifest.files}
        for target in upload.missing:
            path = target.url.removeprefix("/api/v1")
            assert self.call("PUT", path, token, data=contents[target.sha256]).status_code == 204
        return ok(self.call("POST", f"/uploads/{upload.id}/commit", token), wire.Version)


def ok(response: TestResponse, model: type[Answer]) -> Answer:
    """The struct of a good answer."""
    assert response.status_code < 300, response.text
    return msgspec.json.decode(response.data, type=model)


def problem(response: TestResponse) -> wire.Problem:
    """The problem of a refusal."""
    assert response.content_type == "application/problem+json", response.text
    found = msgspec.json.decode(response.data, type=wire.Problem)
    assert found.status == response.status_code
    return found


@contextmanager
def statements(hub: Hub) -> Iterator[list[tuple[str, Any]]]:
    """What is said to the database meanwhile, each with its values; some passes SQLAlchemy by."""
    said: list[tuple[str, Any]] = []
    engine = hub.runtime.database.engine
    execute = psycopg.Cursor.execute

    def tell(cursor: Any, statement: Any, given: Any = None, **options: Any) -> Any:
        said.append((str(statement), given))
        return execute(cursor, statement, given, **options)

    def note(_connection: object, _cursor: object, statement: str, given: Any, *_: object) -> None:
        said.append((statement, given))

    if engine.dialect.name == "postgresql":
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(psycopg.Cursor, "execute", tell)
            yield said
        return
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield said
    finally:
        event.remove(engine, "before_cursor_execute", note)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A fresh PostgreSQL database for this session of tests, migrated."""
    if not POSTGRES:
        pytest.skip(NO_POSTGRES)
    url = make_url(POSTGRES).set(drivername="postgresql+psycopg")
    name = f"adapterhub_test_{os.getpid()}_{secrets.token_hex(4)}"
    server = create_engine(url, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(f'CREATE DATABASE "{name}"'))
        connection.execute(text(f'ALTER DATABASE "{name}" SET synchronous_commit = off'))
    fresh = url.set(database=name).render_as_string(hide_password=False)
    migrated(fresh)
    yield fresh
    with server.connect() as connection:
        connection.execute(text(f'DROP DATABASE "{name}" WITH (FORCE)'))
    server.dispose()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file to copy: migrating once is enough."""
    path = tmp_path_factory.mktemp("template") / "registry.sqlite"
    migrated(f"sqlite:///{path}")
    return path


def migrated(url: str) -> None:
    database = Database(url)
    migration.migrate(database)
    database.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Every kind of database, migrated and empty."""
    if request.param == "sqlite":
        copy = tmp_path / "registry.sqlite"
        shutil.copyfile(request.getfixturevalue("sqlite_template"), copy)
        return f"sqlite:///{copy}"
    url = str(request.getfixturevalue("postgres"))
    database = Database(url)
    with database.writing() as session:
        for table in reversed(Model.metadata.sorted_tables):
            session.execute(table.delete())
    database.close()
    return url


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return from_environment(
        {
            "ADAPTERHUB_HOME": str(tmp_path),
            "ADAPTERHUB_DATABASE_URL": database_url,
            "ADAPTERHUB_BLOBS": f"folder:{tmp_path / 'blobs'}",
            "ADAPTERHUB_SECRET_KEY": "for tests",
            "ADAPTERHUB_TRY_SECONDS": "0",
            "ADAPTERHUB_DIRECT_BYTES": str(1024 * 1024),  # parts are tested with less
        }
    )


@pytest.fixture
def store() -> BlobStore:
    return MemoryStore()


@pytest.fixture
def hub(settings: Settings, store: BlobStore) -> Iterator[Hub]:
    clock = Clock()
    app = create_app(settings, store=store, clock=clock)
    yield Hub(app, clock)
    with app.app_context():
        requests.runtime().database.close()
