"""Any error as an RFC 9457 problem."""

import msgspec
from flask import Flask, Response, request
from sqlalchemy.exc import InternalError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnectionFree
from werkzeug.exceptions import HTTPException

from adapterhub_client.wire import Problem
from adapterhub_registry import errors, telemetry
from adapterhub_registry.storage import StoreUnreachable
from adapterhub_registry.telemetry import log

MEDIA_TYPE = "application/problem+json"
_DATABASE_FAILURES = (OperationalError, InternalError, NoConnectionFree)
"""it is down, too slow or full; it only reads, as a standby does; all connections are taken"""


def register(app: Flask) -> None:
    """Answer every error of the app with a problem."""
    app.register_error_handler(errors.RegistryError, refused)
    app.register_error_handler(HTTPException, _routed)
    app.register_error_handler(StoreUnreachable, _without_store)
    for kind in _DATABASE_FAILURES:
        app.register_error_handler(kind, _without_database)
    app.register_error_handler(Exception, _failed)


def refused(error: errors.RegistryError) -> Response:
    """A refusal of our own."""
    response = answer(error.problem)
    response.headers.update(error.headers)
    telemetry.refuse(error.code)
    return response


def answer(problem: Problem) -> Response:
    """A problem as a response."""
    return Response(msgspec.json.encode(problem), problem.status, content_type=MEDIA_TYPE)


def _routed(error: HTTPException) -> Response:
    """What Flask and Werkzeug refuse before a view is reached."""
    response = refused(_translated(error))
    allowed = getattr(error, "valid_methods", None)
    if allowed:
        response.headers["Allow"] = ", ".join(sorted(allowed))
    return response


def _translated(error: HTTPException) -> errors.RegistryError:
    match error.code:
        case 404:
            return errors.RouteNotFound(f"There is nothing at {request.path!r}.")
        case 405:
            return errors.MethodNotAllowed(f"{request.method} is not for {request.path!r}.")
        case 413:
            return errors.TooLarge("The body is larger than this registry takes.")
        case 415:
            return errors.UnsupportedMediaType(request.mimetype)
        case code if code is not None and 400 <= code < 500:  # noqa: PLR2004  # any other refusal
            return errors.BadRequest(error.description or "The request cannot be read.")
        case _:
            return errors.InternalError()


def _without_store(error: StoreUnreachable) -> Response:
    log.error("store failed", exc_info=error)
    return refused(errors.StoreFailed(str(error)))


def _without_database(error: SQLAlchemyError) -> Response:
    log.error("database failed", exc_info=error)
    return refused(errors.Unavailable("The database does not answer."))


def _failed(error: Exception) -> Response:
    log.error("failed", exc_info=error)
    return refused(errors.InternalError())
