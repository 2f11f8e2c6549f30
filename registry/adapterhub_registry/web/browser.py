"""Who looks at a page: a browser that signed in, known by its cookie; and that no other site speaks for it.

The cookie holds the secret of a token of the kind `session`. It counts for pages alone: the API takes tokens that its
callers send on purpose, so no page of another site can use what a browser sends by itself.
"""

from datetime import timedelta
from urllib.parse import urlsplit

from flask import Flask, Response, g, request

from adapterhub_client import wire
from adapterhub_registry.domain.permission import ANONYMOUS, Viewer
from adapterhub_registry.errors import ForeignRequest, WrongToken
from adapterhub_registry.request import recognise, runtime
from adapterhub_registry.service.signin import SESSION_DAYS

_READING = frozenset(["GET", "HEAD", "OPTIONS"])
_OURS = frozenset(["same-origin", "none"])
_PROGRAMS = {
    "Edg": "Edge",
    "OPR": "Opera",
    "Firefox": "Firefox",
    "Chrom": "Chrome",
    "Safari": "Safari",
}
_SYSTEMS = {
    "Android": "Android",
    "iPhone": "iPhone",
    "iPad": "iPad",
    "Windows": "Windows",
    "Mac OS": "macOS",
    "Linux": "Linux",
}
"""in the order in which to look: what is later is also in what others send"""
_PAGES = frozenset([None, "openapi_page", "openapi_part"])
"""endpoints besides the blueprint's that answer with pages: those of the API, and none at all"""


def register(app: Flask) -> None:
    """Let pages know who looks at them."""
    app.before_request(_begin)
    app.after_request(_end)
    app.context_processor(_shown)


def remember(response: Response, signed_in: wire.Token) -> Response:
    """Give the browser the cookie that keeps it signed in."""
    if signed_in.secret is None:
        raise ValueError("Only the answer that made a token has its secret.")
    response.set_cookie(
        _cookie(),
        signed_in.secret,
        max_age=timedelta(days=SESSION_DAYS),
        secure=_is_secure(),
        httponly=True,
        samesite="Lax",
        path="/",
    )
    return response


def forget(response: Response) -> Response:
    """Take the cookie away."""
    response.delete_cookie(_cookie(), path="/", secure=_is_secure(), httponly=True, samesite="Lax")
    return response


def called(agent: str) -> str:
    """A browser as its user would call it: `Firefox on Linux`."""
    program = next((name for mark, name in _PROGRAMS.items() if mark in agent), "A browser")
    system = next((name for mark, name in _SYSTEMS.items() if mark in agent), None)
    return program if system is None else f"{program} on {system}"


def is_session() -> bool:
    """Whether this browser's cookie says who looks, and not a token that was sent on purpose."""
    return _cookie() in request.cookies and "Authorization" not in request.headers


def _begin() -> None:
    if not (request.blueprint == "web" or request.endpoint in _PAGES):
        return
    secret = request.cookies.get(_cookie())
    if request.method not in _READING:
        _require_own(has_cookie=secret is not None)
    if secret is None or "Authorization" in request.headers:
        return
    try:
        recognise(secret)
    except WrongToken:  # it has expired, or was signed out elsewhere
        g.viewer, g.is_signed_out = ANONYMOUS, True


def _require_own(*, has_cookie: bool) -> None:
    """Go on only where the request comes from a page of this registry, or from no browser."""
    sent_from = request.headers.get("Sec-Fetch-Site")
    if sent_from is not None:
        is_own = sent_from in _OURS
    elif "Origin" in request.headers:
        is_own = urlsplit(request.headers["Origin"]).netloc in _hosts()
    else:
        is_own = not has_cookie
    if not is_own:
        raise ForeignRequest


def _hosts() -> set[str]:
    return {request.host, urlsplit(runtime().settings.public_url or "").netloc} - {""}


def _end(response: Response) -> Response:
    return forget(response) if g.get("is_signed_out") else response


def _shown() -> dict[str, object]:
    viewer: Viewer = g.get("viewer", ANONYMOUS)
    return {"who": viewer.name, "viewer": viewer}


def _cookie() -> str:
    return "__Host-adapterhub" if _is_secure() else "adapterhub"


def _is_secure() -> bool:
    return request.is_secure or (runtime().settings.public_url or "").startswith("https:")
