"""The composition root: the only place that chooses implementations."""

from collections.abc import Callable
from typing import Any

from flask import Flask, Request, Response, request
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface
from werkzeug.middleware.proxy_fix import ProxyFix

from adapterhub_registry import api, health, huggingface, ratelimit, telemetry, web
from adapterhub_registry import request as requests
from adapterhub_registry.api import problem
from adapterhub_registry.draining import Drained
from adapterhub_registry.errors import InvalidRequest
from adapterhub_registry.legacy import routes as legacy
from adapterhub_registry.runtime import Clock, open_runtime, utc_now
from adapterhub_registry.settings import Settings
from adapterhub_registry.storage import BlobStore

POLICY = (
    "default-src 'none'; base-uri 'none'; connect-src 'self'; font-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; img-src 'self' data:; script-src 'self'; style-src 'self'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

_HEADERS = {name.lower(): (name, value) for name, value in HEADERS.items()}


def create_app(
    settings: Settings, *, store: BlobStore | None = None, clock: Clock = utc_now
) -> Flask:
    """Build the app; tests give a store and a clock of their own. The database must have been migrated."""
    app = _Registry("adapterhub_registry", static_folder=None)
    app.config.update(
        SECRET_KEY=settings.secret_key,
        MAX_CONTENT_LENGTH=settings.max_body_bytes,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE=(settings.public_url or "").startswith("https:"),
    )
    app.session_interface = _PageSessions()
    app.url_map.strict_slashes = False
    requests.bind(app, open_runtime(settings, store=store, clock=clock))
    telemetry.register(app)
    app.before_request(_refuse_nul)
    app.after_request(_secure)
    health.register(app)
    api.register(app)
    problem.register(app)
    web.register(app)
    app.register_blueprint(legacy.blueprint)
    huggingface.register(app)
    ratelimit.register(app, settings)
    app.wsgi_app = Drained(app.wsgi_app)  # type: ignore[method-assign]
    if settings.proxies:
        count = settings.proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=count, x_proto=count, x_host=count)  # type: ignore[method-assign]
    return app


class _Registry(Flask):
    """Flask without coroutines: no view is one, and to ask for each function of each request takes its time."""

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Call a function as it is."""
        return func


class _PageSessions(SecureCookieSessionInterface):
    """Flask's sessions, for pages: the API reads no cookie."""

    def open_session(self, app: Flask, request: Request) -> SecureCookieSession | None:
        """Read the cookie of a page."""
        return None if request.path.startswith("/api/") else super().open_session(app, request)


def _refuse_nul() -> None:
    """No name and no search has a NUL character; PostgreSQL would fail on one."""
    if "\x00" in request.path or b"%00" in request.query_string or b"\x00" in request.query_string:
        raise InvalidRequest("The address has a NUL character.")


def _secure(response: Response) -> Response:
    said = {name.lower() for name, _ in response.headers}
    response.headers.extend([header for name, header in _HEADERS.items() if name not in said])
    return response
