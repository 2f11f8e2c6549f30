"""A problem as a page, for whoever reads it in a browser."""

from urllib.parse import urlencode

import msgspec
from flask import Flask, Response, render_template, request

from adapterhub_client.wire import Problem
from adapterhub_registry.web.page import onward

_PROBLEM = "application/problem+json"
_SIGN_IN = "token_required"
_MACHINES = ("/api/", "/healthz", "/readyz", "/metrics")


def register(app: Flask) -> None:
    """Turn problems into pages where a page is asked for; the API answers with problems whatever is asked."""
    app.after_request(_as_page)


def _as_page(response: Response) -> Response:
    if response.mimetype != _PROBLEM or request.path.startswith(_MACHINES):
        return response
    response.vary.add("Accept")
    accepted = request.accept_mimetypes
    if accepted["text/html"] <= accepted[_PROBLEM]:
        return response
    problem = msgspec.json.decode(response.get_data(), type=Problem)
    if problem.code == _SIGN_IN and request.method == "GET":
        return onward(f"/sign-in?{urlencode({'next': request.full_path.rstrip('?')})}")
    response.set_data(render_template("problem.html", problem=problem))
    response.content_type = "text/html; charset=utf-8"
    return response
