"""Try an adapter on a text."""

from flask import Response, request

from adapterhub_client import wire
from adapterhub_client.charts import reported
from adapterhub_registry.errors import RegistryError
from adapterhub_registry.request import runtime, session, viewer
from adapterhub_registry.service import evaluation, trial
from adapterhub_registry.service.resolution import parsed
from adapterhub_registry.service.trial import CannotBeTried
from adapterhub_registry.web.page import blueprint, unkept
from adapterhub_registry.web.shown.adapter import Among, Subject, subject

_HELPLESS = (401, 403, 404, 410, 500)


@blueprint.get("/adapters/<task>/<name_at_org>/try")
def try_page(task: str, name_at_org: str) -> Response:
    """The form, where the version can be run here."""
    of = _subject(task, name_at_org)
    if not trial.is_offered(runtime(), of.manifest):
        raise CannotBeTried("This version cannot be tried here.")
    return _page(of, "", None)


@blueprint.post("/adapters/<task>/<name_at_org>/try")
def try_text(task: str, name_at_org: str) -> Response:
    """What the version says of a text; changes nothing, and the text is kept nowhere."""
    of = _subject(task, name_at_org)
    text, pair = request.form.get("text", ""), request.form.get("pair")
    try:
        tried = trial.attempt(runtime(), session(), viewer(), of.version.digest, (text, pair))
    except RegistryError as error:
        if error.status in _HELPLESS:
            raise
        return _page(of, text, pair, refused=error)
    return _page(of, text, pair, tried=tried)


def _page(
    of: Subject,
    text: str,
    pair: str | None,
    *,
    tried: wire.Tried | None = None,
    refused: RegistryError | None = None,
) -> Response:
    report = evaluation.report(runtime().store, of.manifest)
    attention = None
    if tried is not None and tried.attention:
        found = wire.Attention(members=tried.members, layers=tried.attention)
        attention = reported.attention(found)
    response = unkept(
        "try.html",
        status=refused.status if refused else 200,
        of=of,
        text=text,
        pair=pair or "",
        tried=tried,
        refused=refused,
        attention=attention,
        examples=report.examples[:3] if report else [],
        longest=wire.LONGEST_TEXT,
    )
    response.headers.update(refused.headers if refused else {})
    return response


def _subject(task: str, name_at_org: str) -> Subject:
    return subject(session(), viewer(), parsed(f"{task}/{name_at_org}"), Among())
