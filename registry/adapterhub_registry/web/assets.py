"""Static files under an address that changes with their content, so that browsers may keep them for good."""

import gzip
import hashlib
import mimetypes
from functools import lru_cache
from pathlib import Path

import msgspec
from flask import Blueprint, Response, request, url_for
from werkzeug.exceptions import NotFound
from werkzeug.security import safe_join

from adapterhub_client.charts import LOOK

FOLDER = Path(__file__).with_name("static")
_FOREVER = "public, max-age=31536000, immutable"
_HASH_DIGITS = 16
_STYLE = "site.css"
"""sent as one file with the look that the trainer's pages share"""
_FONTS = "fonts/"
"""their names have their version, since a stylesheet cannot know their hash"""
_PACKED = frozenset(["text/css", "text/javascript", "image/svg+xml"])

blueprint = Blueprint("static", __name__)


class Asset(msgspec.Struct, frozen=True):
    """A file as it is sent: whole, and packed where that pays."""

    content: bytes
    packed: bytes | None
    content_type: str
    content_hash: str


def address(filename: str) -> str:
    """Where a static file is, with the hash of its content."""
    return url_for("static.asset", filename=filename, v=_asset(filename).content_hash)


def font(filename: str) -> str:
    """Where a font is, as the stylesheet names it."""
    return url_for("static.asset", filename=_FONTS + filename)


@blueprint.get("/static/<path:filename>")
def asset(filename: str) -> Response:
    """A file; unknown names are 404 like any other address."""
    held = _asset(filename)
    is_packed = held.packed is not None and request.accept_encodings["gzip"] > 0
    content = held.packed if is_packed and held.packed is not None else held.content
    response = Response(content, content_type=held.content_type)
    if is_packed:
        response.content_encoding = "gzip"
    response.vary.add("Accept-Encoding")
    response.set_etag(held.content_hash + ("-gzip" if is_packed else ""))
    current = filename.startswith(_FONTS) or request.args.get("v") == held.content_hash
    response.headers["Cache-Control"] = _FOREVER if current else "no-cache"
    response.make_conditional(request)
    return response


@lru_cache(maxsize=64)
def _asset(filename: str) -> Asset:
    place = safe_join(str(FOLDER), filename)
    if place is None or not Path(place).is_file():
        raise NotFound
    content = Path(place).read_bytes()
    if filename == _STYLE:
        content = LOOK.read_bytes() + content
    kind = mimetypes.guess_type(filename)[0] or "application/octet-stream"
    is_text = kind.startswith("text/")
    return Asset(
        content=content,
        packed=gzip.compress(content, 9, mtime=0) if kind in _PACKED else None,
        content_type=f"{kind}; charset=utf-8" if is_text else kind,
        content_hash=hashlib.sha256(content).hexdigest()[:_HASH_DIGITS],
    )
