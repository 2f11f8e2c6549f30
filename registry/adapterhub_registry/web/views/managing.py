"""What may change about a version that is out: its status, its names, and who may read its adapter."""

from flask import Response, request
from sqlalchemy.orm import Session

from adapterhub_client import names
from adapterhub_registry.request import now, session, viewer
from adapterhub_registry.service import catalogue, lifecycle, lineage, ownership
from adapterhub_registry.service.resolution import parsed
from adapterhub_registry.service.visibility import require_role, require_scope
from adapterhub_registry.web import forms
from adapterhub_registry.web.page import adapter_path, blueprint, unkept
from adapterhub_registry.web.shown.adapter import Among, Subject, subject

_TOLD = {
    "yanked": "is yanked: nothing resolves to it any more, exact pins still do",
    "deprecated": "is deprecated: it still resolves, with your reason",
    "active": "is active again",
}


@blueprint.get("/adapters/<task>/<name_at_org>/manage")
def manage_page(task: str, name_at_org: str) -> Response:
    """The forms, and what depends on the version."""
    of = _writable(task, name_at_org)
    row = catalogue.version_by_digest(session(), viewer(), of.version.digest)
    return unkept(
        "manage.html",
        of=of,
        dependants=lineage.dependants(session(), viewer(), [row]),
        aliases=lifecycle.aliases(session(), viewer(), _exact(of).at(None)),
    )


@blueprint.post("/adapters/<task>/<name_at_org>/status")
def set_status(task: str, name_at_org: str) -> Response:
    """Yank, deprecate or restore the version that the path pins."""
    of = _writable(task, name_at_org)
    form = forms.read(forms.Status)
    reason = form.reason if form.status != "active" else None

    def work(writing: Session) -> None:
        wanted = lifecycle.Change(form.status, reason)
        lifecycle.set_status(writing, viewer(), _exact(of), wanted, now())

    told = f"Version {of.version.number} {_TOLD[form.status]}."
    return forms.changed(work, _page(of), told)


@blueprint.post("/adapters/<task>/<name_at_org>/aliases")
def set_alias(task: str, name_at_org: str) -> Response:
    """Let an alias point at the version, or take it away."""
    of = _writable(task, name_at_org)
    alias = request.form.get("alias", "").strip()
    is_gone = bool(request.form.get("remove"))

    def work(writing: Session) -> None:
        if is_gone:
            place = (alias, of.version.variant)
            lifecycle.remove_alias(writing, viewer(), _exact(of).at(None), place, now())
        else:
            lifecycle.set_alias(writing, viewer(), _exact(of), alias, now())

    told = f"{alias} is gone." if is_gone else f"{alias} is version {of.version.number} now."
    return forms.changed(work, f"{_page(of)}/manage", told)


@blueprint.post("/adapters/<task>/<name_at_org>/visibility")
def set_visibility(task: str, name_at_org: str) -> Response:
    """Let everyone read the adapter, or only its organization."""
    of = _writable(task, name_at_org)
    private = request.form.get("private") == "true"

    def work(writing: Session) -> None:
        reference = _exact(of).at(None)
        ownership.set_private(writing, viewer(), reference, now(), private=private)

    told = "Only its organization may read it now." if private else "Everyone may read it now."
    return forms.changed(work, f"{_page(of)}/manage", told)


def _writable(task: str, name_at_org: str) -> Subject:
    """The version of the path, for who may change it."""
    of = subject(session(), viewer(), parsed(f"{task}/{name_at_org}"), Among())
    require_scope(viewer(), "write")
    organization = names.parse(of.version.reference).org
    require_role(session(), viewer(), organization, "writer")
    session().rollback()  # whoever writes now takes a connection of their own
    return of


def _exact(of: Subject) -> names.Reference:
    return names.parse(of.version.reference).at(of.version.digest)


def _page(of: Subject) -> str:
    return adapter_path(of.version.reference, of.version.digest)
