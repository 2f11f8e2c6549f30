"""A request id on everything, one JSON line and some numbers for each request.

No token, query or header is ever logged. Numbers are kept by `prometheus_client`, in files that all workers of a server
share where PROMETHEUS_MULTIPROC_DIR names a folder, as `serve` makes one; that has to be set before this is imported.
"""

import logging
import os
import re
import secrets
import sys
import time
from typing import Any

import structlog
from flask import Flask, Response, g, request
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    generate_latest,
    multiprocess,
)

MULTIPROCESS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"

_REQUESTS = Histogram(
    "adapterhub_http_request_seconds",
    "Time to the first byte of an answer",
    ["method", "route", "status"],
    buckets=(0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60),
)
_REFUSALS = Counter("adapterhub_refusals_total", "Refusals and failures by their code", ["code"])
_VERSIONS = Counter("adapterhub_published_versions_total", "Versions that were published")
_BYTES = Counter("adapterhub_published_bytes_total", "Bytes of all versions that were published")
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


def refuse(code: str) -> None:
    """Count a refusal or a failure."""
    _REFUSALS.labels(code).inc()


def publish(size_bytes: int) -> None:
    """Count a version that was published."""
    _VERSIONS.inc()
    _BYTES.inc(size_bytes)


def numbers() -> bytes:
    """All that was counted, by every worker of this server, as Prometheus reads it."""
    if os.environ.get(MULTIPROCESS_FOLDER):
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)
    return generate_latest()


def forget_worker(pid: int) -> None:
    """Drop what a worker that ended said of itself; what it counted stays."""
    if os.environ.get(MULTIPROCESS_FOLDER):
        multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]


def _begin() -> None:
    # the second is what Hugging Face clients number their requests with
    sent = request.headers.get("X-Request-Id") or request.headers.get("X-Amzn-Trace-Id", "")
    g.request_id = sent if _REQUEST_ID.fullmatch(sent) else secrets.token_hex(8)
    g.started = time.perf_counter()
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
    # an address that is no route is the client's own text: as a label it would fill the memory
    route = "" if request.url_rule is None else request.url_rule.rule
    seconds = time.perf_counter() - g.get("started", time.perf_counter())
    _REQUESTS.labels(request.method, route, f"{response.status_code // 100}xx").observe(seconds)
    return response
