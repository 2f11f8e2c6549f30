"""Take in the rest of a body that was refused, so that its sender reads why.

A server that answers and closes while bytes are still coming resets the connection, and a proxy before it then says
502 in place of the answer. So the rest is read and thrown away, once the answer is out, up to a size and for a while.
"""

import time
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from werkzeug.wsgi import ClosingIterator

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_MOST_BYTES = 64 * 1024 * 1024
_MOST_SECONDS = 10.0
_PAUSE_SECONDS = 2.0
"""a sender that stops for so long has read the answer"""
_CHUNK_BYTES = 256 * 1024


class Drained:
    """A WSGI app whose requests are read to their end."""

    def __init__(self, app: "WSGIApplication") -> None:
        self._app = app

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Answer, then drain."""
        answer = self._app(environ, start_response)
        if environ["REQUEST_METHOD"] in {"GET", "HEAD", "OPTIONS"}:
            return answer
        return ClosingIterator(answer, lambda: _drain(environ))


def _drain(environ: "WSGIEnvironment") -> None:
    body, socket = environ["wsgi.input"], environ.get("gunicorn.socket")
    end, left = time.monotonic() + _MOST_SECONDS, _MOST_BYTES
    before = None if socket is None else socket.gettimeout()
    with suppress(OSError, ValueError):
        if socket is not None:
            socket.settimeout(_PAUSE_SECONDS)
        while left > 0 and time.monotonic() < end and (chunk := body.read(_CHUNK_BYTES)):
            left -= len(chunk)
    if socket is not None:
        with suppress(OSError):
            socket.settimeout(before)
