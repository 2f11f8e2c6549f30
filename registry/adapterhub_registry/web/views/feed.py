"""What is new in a search, as an Atom feed (RFC 4287)."""

from urllib.parse import urlsplit

from flask import Response, make_response, render_template, request

from adapterhub_registry.request import now, public_url, session, viewer
from adapterhub_registry.service import search as searching
from adapterhub_registry.service.representation import moment
from adapterhub_registry.web.page import blueprint
from adapterhub_registry.web.shown import listing

_ENTRIES = 30


@blueprint.get("/adapters.atom")
def feed() -> Response:
    """The adapters of a search that were updated last."""
    asked = listing.asked(request.args)
    query, _ = listing.understood(asked)
    newest = searching.Search(q=asked.q, sort="updated", limit=_ENTRIES)
    page = searching.page(session(), searching.look(session(), viewer(), query), newest)
    updated = page.items[0].updated_at if page.items else moment(now())
    content = render_template(
        "feed.xml",
        page=page,
        hub=public_url(),
        host=urlsplit(public_url()).hostname,
        path=listing.url(asked),
        own=listing.url(asked, listing.FEED),
        about=", ".join(choice.label for choice in listing.active(asked, [])) or "all adapters",
        updated=updated,
    )
    response = make_response(content)
    response.content_type = "application/atom+xml; charset=utf-8"
    response.headers["Cache-Control"] = "private, no-cache"
    response.vary.update(["Authorization", "Cookie"])
    response.add_etag()
    response.make_conditional(request)
    return response
