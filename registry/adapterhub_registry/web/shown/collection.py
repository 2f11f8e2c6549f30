"""A page about what a list of adapters has in common."""

from typing import Any

from flask import Response

from adapterhub_registry.request import session, viewer
from adapterhub_registry.service import catalogue
from adapterhub_registry.service import search as searching
from adapterhub_registry.service.search import Search
from adapterhub_registry.web.page import rendered
from adapterhub_registry.web.shown import facets, listing


def collection(template: str, search: Search, **shown: Any) -> Response:  # noqa: ANN401
    """The page, with its first adapters and what would narrow them."""
    looked = searching.look(session(), viewer(), search.query)
    found = searching.page(session(), looked, search)
    return rendered(
        template,
        page=catalogue.measured_on(session(), found, search.base),
        search=search,
        everything=listing.url(search),
        facets=facets.facets(session(), search, looked),
        scores=facets.scores(session(), search, looked),
        feed=listing.url(search, listing.FEED),
        **shown,
    )
