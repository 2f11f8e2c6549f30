"""The blueprint of all pages, and how one is answered."""

import re
from typing import Any
from urllib.parse import quote, urlencode

from flask import Blueprint, Response, make_response, redirect, render_template, request

from adapterhub_client import names, wire
from adapterhub_registry.service.places import Page

_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff]")
"""what people may have written, and HTML cannot have"""
LISTED = 200
"""rows of a page that lists names"""
DESCRIBED = 50
"""rows of a page that says more of each"""

blueprint = Blueprint("web", __name__, template_folder="templates")


def rendered(template: str, /, *, status: int = 200, **shown: Any) -> Response:  # noqa: ANN401
    """A rendered page that a browser may keep, and has to ask whether it is still the same."""
    content = _UNPRINTABLE.sub("", render_template(template, **shown))
    response = make_response(content, status)
    response.headers["Cache-Control"] = "private, no-cache"
    response.vary.update(["Accept", "Authorization", "Cookie"])
    if status == 200 and request.method in {"GET", "HEAD"}:  # noqa: PLR2004  # nothing else is kept
        response.add_etag()
        response.make_conditional(request)
    return response


def unkept(template: str, /, *, status: int = 200, **shown: Any) -> Response:  # noqa: ANN401
    """A rendered page that nobody may keep: what is on it is shown once."""
    response = rendered(template, status=status, **shown)
    response.headers["Cache-Control"] = "no-store"
    return response


def onward(path: str) -> Response:
    """Go to another page after a change, so that loading it again changes nothing."""
    response = make_response(redirect(path, 303))
    response.headers["Cache-Control"] = "no-store"
    return response


def asked(limit: int = LISTED) -> Page:
    """Which page of a long list the address asks for."""
    return Page(limit=limit, after=request.args.get("after") or None)


def adapter_path(reference: str, version: object = None) -> str:
    """The page of an adapter, or of one version of it."""
    parts = names.parse(reference).at(None if version is None else str(version))
    return f"/adapters/{parts}"


def method_path(name: str) -> str:
    """The page of a method."""
    return f"/methods/{quote(name, safe='')}"


def board_path(board: wire.Board) -> str:
    """The page of a leaderboard."""
    return dataset_path(board.dataset, board.metric, board.split)


def dataset_path(dataset: str, metric: str, split: str) -> str:
    """The page of a dataset, where one metric on one split is compared."""
    query = urlencode({"metric": metric, "split": split})
    return f"/leaderboards/{quote(dataset)}?{query}"
