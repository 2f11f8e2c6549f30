"""A request id on everything, and one JSON line for each request; no token, query or header is ever logged."""

import logging
import re
import secrets
import sys
import time
from typing import Any

import structlog
from flask import Flask, Response, g, request

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
log: structlog.stdlib.BoundLogger = structlog.get_logger("adapterhub")


def configure() -> None:
    """Log JSON lines to stderr; a process does this once, libraries and tests never."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )


def register(app: Flask) -> None:
    """Number each request, and write down how it ended."""
    app.before_request(_begin)
    app.after_request(_end)


def _begin() -> None:
    # the second is what Hugging Face clients number their requests with
    sent = request.headers.get("X-Request-Id") or request.headers.get("X-Amzn-Trace-Id", "")
    g.request_id = sent if _REQUEST_ID.fullmatch(sent) else secrets.token_hex(8)
    g.started = time.perf_counter()
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=g.request_id)


def _end(response: Response) -> Response:
    response.headers["X-Request-Id"] = g.get("request_id", "")
    facts: dict[str, Any] = {
        "method": request.method,
        "path": request.path,
        "status": response.status_code,
        "milliseconds": round(1000 * (time.perf_counter() - g.get("started", 0.0)), 1),
    }
    viewer = g.get("viewer")
    if viewer is not None and viewer.name:
        facts["account"] = viewer.name
    log.info("request", **facts)
    return response
