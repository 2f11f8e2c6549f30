"""The list of adapters, and its feed."""

from flask import Response, request

from adapterhub_registry.request import session, viewer
from adapterhub_registry.service import catalogue
from adapterhub_registry.service import search as searching
from adapterhub_registry.web.page import blueprint, rendered
from adapterhub_registry.web.shown import facets, leaders, listing


@blueprint.get("/adapters")
def adapter_list() -> Response:
    """Adapters that fit a search; the address is the whole state."""
    search = listing.asked(request.args)
    query, mistake = listing.understood(search)
    looked = searching.look(session(), viewer(), query)
    found = searching.page(session(), looked, search)
    page = catalogue.measured_on(session(), found, search.base)
    counted = facets.facets(session(), search, looked)
    chosen = listing.active(search, counted)
    measured = listing.measured(search)
    return rendered(
        "adapters.html",
        search=search,
        page=page,
        mistake=mistake,
        chosen=chosen,
        relaxed=[] if page.total else listing.relaxed(session(), viewer(), search, chosen),
        facets=counted,
        scores=facets.scores(session(), search, looked),
        measured=measured,
        plots=leaders.plots(page.items, measured) if measured else {},
        sorts=listing.sorts(search),
        following=listing.url(search, after=page.next) if page.next else None,
        first=listing.url(search) if search.after else None,
        feed=listing.url(search, listing.FEED),
        kept={name: getattr(search, name) for name in (*listing.FILTERS, "sort") if name != "q"},
    )
