"""The start page, what this is, and the icon."""

from flask import Response

from adapterhub_registry.request import public_url, session, viewer
from adapterhub_registry.service import browsing
from adapterhub_registry.service import search as searching
from adapterhub_registry.service.places import Page
from adapterhub_registry.service.search import Search
from adapterhub_registry.web import assets
from adapterhub_registry.web.page import blueprint, rendered
from adapterhub_registry.web.shown import leaders

_NEWEST = 7
_BROWSED = 10
_BOARDS = 3


@blueprint.get("/")
def start() -> Response:
    """What is here, and what is new."""
    newest = searching.search(session(), viewer(), Search(limit=_NEWEST))
    return rendered(
        "start.html",
        stats=browsing.stats(session(), viewer()),
        newest=newest.items,
        leading=leaders.leading(session(), viewer(), _BOARDS) if newest.items else [],
        tasks=browsing.tasks(session(), viewer(), Page(limit=_BROWSED)).items,
        bases=browsing.bases(session(), viewer(), Page(limit=_BROWSED)).items,
        hub=public_url(),
    )


@blueprint.get("/about")
def about() -> Response:
    """What this is."""
    return rendered("about.html", stats=browsing.stats(session(), viewer()), hub=public_url())


@blueprint.get("/favicon.ico")
def icon() -> Response:
    """Where browsers look for a page that names no icon."""
    return assets.asset("mark.svg")
