"""What a view needs of its request: the runtime, a session, and who is looking. For the API and the pages alike."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import cast

from flask import Flask, Request, current_app, g, request
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from adapterhub_registry.domain.permission import ANONYMOUS, Viewer
from adapterhub_registry.errors import WrongToken
from adapterhub_registry.runtime import Runtime
from adapterhub_registry.service.token import note_use, viewer_of

_EXTENSION = "adapterhub"


def bind(app: Flask, runtime: Runtime) -> None:
    """Give the app its runtime, and close each request's session at its end."""
    app.extensions[_EXTENSION] = runtime
    app.teardown_appcontext(_close)


def runtime() -> Runtime:
    """The runtime of the app that handles the request."""
    return cast("Runtime", current_app.extensions[_EXTENSION])


def now() -> datetime:
    """The time by the runtime's clock."""
    return runtime().clock()


def public_url() -> str:
    """The address of this registry as people use it, without a slash at its end."""
    return (runtime().settings.public_url or request.url_root).rstrip("/")


def session() -> Session:
    """The request's one session for reading, opened on first use and closed with the request.

    It takes the request's connection where there is one: were each request to wait for a second, as many as the pool
    has connections would wait for each other.
    """
    if "session" not in g:
        g.session = runtime().database.open(g.get("connection"))
    return cast("Session", g.session)


def connection() -> Connection:
    """The request's connection for reads that build no objects: the session's, or one alone where none is open."""
    if "session" in g:
        return session().connection()
    if "connection" not in g:
        g.connection = runtime().database.connect()
    return cast("Connection", g.connection)


@contextmanager
def change() -> Iterator[Session]:
    """A session for writing: committed at the end, or not at all where an error is raised."""
    with runtime().database.writing() as writing:
        yield writing


def viewer() -> Viewer:
    """Who is looking: whom the bearer token speaks for, or the public where there is none.

    For the pages a browser that signed in was recognised before.

    Raises:
        WrongToken: A token came that is unknown, expired or revoked.
    """
    if "viewer" not in g:
        secret = _bearer(request)
        if secret is None:
            g.viewer = ANONYMOUS
        else:
            recognise(secret)
    return cast("Viewer", g.viewer)


def recognise(secret: str) -> None:
    """Let whom a token speaks for be the viewer of this request; WrongToken where it speaks for nobody."""
    is_first = "session" not in g
    g.viewer = viewer_of(session(), secret, now())
    if is_first:
        # Whoever writes takes a connection of his own: were this one kept as well, as many
        # requests as the pool has connections would all wait for a second one.
        session().rollback()
    _note_use(g.viewer)


def _note_use(seen: Viewer) -> None:
    """Write down that a token was used, now and then; nobody waits for it, and it need not work."""
    if seen.use_is_noted or seen.token_id is None:
        return
    with suppress(DBAPIError), runtime().database.writing_at_once() as writing:
        note_use(writing, seen.token_id, now())


def _bearer(incoming: Request) -> str | None:
    header = incoming.headers.get("Authorization")
    if header is None:
        return None
    scheme, _, secret = header.partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        raise WrongToken
    return secret.strip()


def _close(_error: BaseException | None) -> None:
    opened: list[Session | Connection | None] = [g.pop("session", None), g.pop("connection", None)]
    for each in opened:
        if each is None:
            continue
        try:
            each.close()
        except DBAPIError:  # the connection is lost; the answer has said so, or needed it no more
            each.invalidate()
