"""Static files under an address that changes with their content, so that browsers may keep them for good."""

import hashlib
from functools import lru_cache
from pathlib import Path

from flask import Blueprint, Response, request, send_from_directory, url_for

FOLDER = Path(__file__).with_name("static")
_FOREVER = "public, max-age=31536000, immutable"
_HASH_DIGITS = 16

blueprint = Blueprint("static", __name__)


def address(filename: str) -> str:
    """Where a static file is, with the hash of its content."""
    return url_for("static.asset", filename=filename, v=_content_hash(filename))


@blueprint.get("/static/<path:filename>")
def asset(filename: str) -> Response:
    """A file; unknown names are 404 like any other address."""
    response = send_from_directory(FOLDER, filename, conditional=True)
    current = request.args.get("v") == _content_hash(filename)
    response.headers["Cache-Control"] = _FOREVER if current else "no-cache"
    return response


@lru_cache(maxsize=64)
def _content_hash(filename: str) -> str:
    return hashlib.sha256((FOLDER / filename).read_bytes()).hexdigest()[:_HASH_DIGITS]
