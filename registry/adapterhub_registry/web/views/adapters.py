"""The page of an adapter."""

from flask import Response, request

from adapterhub_client import wire
from adapterhub_registry.errors import VersionNotFound
from adapterhub_registry.request import public_url, runtime, session, viewer
from adapterhub_registry.service import trial, visibility
from adapterhub_registry.service.resolution import parsed
from adapterhub_registry.web import snippets
from adapterhub_registry.web.page import blueprint, rendered
from adapterhub_registry.web.shown import adapter as adapters
from adapterhub_registry.web.shown import recorded


@blueprint.get("/adapters/<task>/<name_at_org>")
def adapter_page(task: str, name_at_org: str) -> Response:
    """One adapter: the path is a reference, so a version may follow, as in `nli/multinli@ukp:3`."""
    reference = parsed(f"{task}/{name_at_org}")
    among = adapters.Among(request.args.get("variant", ""), request.args.get("base", ""))
    try:
        subject = adapters.subject(session(), viewer(), reference, among)
    except VersionNotFound:
        without_weights = recorded.view(session(), viewer(), reference)
        if without_weights is None or without_weights.summary.versions:
            raise
        return rendered("recorded.html", view=without_weights)
    view = adapters.view(runtime(), session(), viewer(), subject)
    return rendered(
        "adapter.html",
        view=view,
        pinned=reference.version,
        snippets=snippets.snippets(snippets.about(public_url(), subject)),
        tools=snippets.TOOLS,
        pins=snippets.PINS,
        hub=public_url(),
        longest=wire.LONGEST_TEXT,
        can_be_tried=trial.is_offered(runtime(), subject.manifest),
        may_write=visibility.may(
            session(), viewer(), subject.version.reference.rpartition("@")[2], "writer"
        ),
    )
