"""Adapters side by side."""

from flask import Response, request

from adapterhub_registry.request import runtime, session, viewer
from adapterhub_registry.web.page import blueprint, rendered
from adapterhub_registry.web.shown import comparison


@blueprint.get("/compare")
def compare_page() -> Response:
    """Up to four adapters, each named by `with`; the address is the whole state."""
    asked = request.args.getlist("with")
    found = comparison.comparison(runtime(), session(), viewer(), asked)
    return rendered("compare.html", found=found, left_out=asked[comparison.MOST :])
