"""What a supervisor, a load balancer and a collector of metrics ask."""

import hmac

from flask import Flask, Response, request
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from adapterhub_registry import migration, telemetry
from adapterhub_registry.domain.permission import ANONYMOUS
from adapterhub_registry.errors import Forbidden, NotReady
from adapterhub_registry.request import runtime, session
from adapterhub_registry.service import browsing
from adapterhub_registry.storage import BlobMissing, StoreUnreachable

_NOTHING = "0" * 64
_LOOPBACK = frozenset(["127.0.0.1", "::1"])
_TEXT = "text/plain; version=0.0.4; charset=utf-8"


def register(app: Flask) -> None:
    """Add the three addresses to the app."""
    app.add_url_rule("/healthz", "healthz", _healthz)
    app.add_url_rule("/readyz", "readyz", _readyz)
    app.add_url_rule("/metrics", "metrics", _metrics)


def _healthz() -> dict[str, str]:
    """The process answers. Whoever restarts what does not must not restart it because the database is away."""
    return {"status": "ok"}


def _readyz() -> dict[str, str]:
    """The database answers and has the newest tables, and the store answers: requests may come."""
    lacking = [fault for fault in (_database_fault(), _store_fault()) if fault is not None]
    if lacking:
        raise NotReady(lacking)
    return {"status": "ok", "database": "ok", "store": "ok"}


def _database_fault() -> str | None:
    try:
        session().execute(text("SELECT 1"))
        current = migration.is_current(runtime().database)
    except SQLAlchemyError:
        return "the database does not answer"
    return None if current else "the database is not at the newest revision"


def _store_fault() -> str | None:
    try:
        runtime().store.size_bytes(_NOTHING)
    except BlobMissing:
        return None
    except (StoreUnreachable, OSError):
        return "the blob store does not answer"
    return None


def _metrics() -> Response:
    """What this server counted, and what the catalogue holds that everyone may read."""
    _require_collector()
    stats = browsing.stats(session(), ANONYMOUS)
    held = {"adapters": stats.adapters, "versions": stats.versions, "bytes": stats.size_bytes}
    lines = [
        line
        for name, value in held.items()
        for line in (
            f"# HELP adapterhub_catalogue_{name} {name.capitalize()} of the public catalogue",
            f"# TYPE adapterhub_catalogue_{name} gauge",
            f"adapterhub_catalogue_{name} {value}",
        )
    ]
    return Response(telemetry.numbers() + "\n".join([*lines, ""]).encode(), content_type=_TEXT)


def _require_collector() -> None:
    token = runtime().settings.metrics_token
    if token is not None:
        sent = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if hmac.compare_digest(sent.encode(), token.encode()):
            return
    elif request.remote_addr in _LOOPBACK and "X-Forwarded-For" not in request.headers:
        return
    raise Forbidden("Metrics are for the collector: see ADAPTERHUB_METRICS_TOKEN.")
