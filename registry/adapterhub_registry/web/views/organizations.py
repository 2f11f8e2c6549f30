"""An organization from inside: members, invitations, quota, log."""

import msgspec
from flask import Response, flash, request
from sqlalchemy.orm import Session

from adapterhub_client import wire
from adapterhub_registry.domain.permission import covers
from adapterhub_registry.request import change, now, public_url, runtime, session, viewer
from adapterhub_registry.service import audit, invitation, organization, quota
from adapterhub_registry.service.visibility import require_role, require_scope
from adapterhub_registry.web import forms
from adapterhub_registry.web.page import blueprint, onward, rendered, unkept

_EVENTS = 50
_MEGABYTE = 1_000_000


@blueprint.get("/orgs/<name>/settings")
def organization_settings(name: str) -> Response:
    """Members, invitations and quota; those who are no admin only look."""
    return _settings(name)


@blueprint.post("/orgs/<name>/members")
def set_member(name: str) -> Response:
    """Give an account a role, or take it out; everyone may leave."""
    form = forms.read(forms.Member)
    leaves = form.role is None and form.name == viewer().name

    def work(writing: Session) -> None:
        organization.set_member(writing, viewer(), (name, form.name), form.role, now())

    told = f"{form.name} is {form.role or 'no member'} of {name} now."
    return forms.changed(work, f"/orgs/{name}" if leaves else f"/orgs/{name}/settings", told)


@blueprint.post("/orgs/<name>/invitations")
def invite(name: str) -> Response:
    """Invite somebody; the link is on the page that answers, and nowhere else."""
    form = forms.read(forms.NewInvitation)
    with change() as writing:
        made = invitation.create(writing, viewer(), name, form.request, now())
    return _settings(name, addressed(made))


@blueprint.post("/orgs/<name>/invitations/<int(max=2147483647):invitation_id>/revoke")
def revoke_invitation(name: str, invitation_id: int) -> Response:
    """Take an invitation back."""

    def work(writing: Session) -> None:
        invitation.revoke(writing, viewer(), name, invitation_id, now())

    return forms.changed(work, f"/orgs/{name}/settings", "The invitation is taken back.")


@blueprint.post("/orgs/<name>/quota")
def set_quota(name: str) -> Response:
    """Set the limits of an organization, as an administrator of the registry."""
    form = forms.read(forms.Quota)
    megabytes = form.max_megabytes
    asked = wire.QuotaRequest(
        max_versions=form.max_versions,
        max_bytes=None if megabytes is None else megabytes * _MEGABYTE,
    )
    with change() as writing:
        quota.change(writing, viewer(), runtime().settings, (name, asked), now())
    flash(f"The limits of {name} are set.", "done")
    return onward(f"/orgs/{name}/settings")


@blueprint.get("/orgs/<name>/log")
def organization_log(name: str) -> Response:
    """What was done in an organization, for its admins."""
    asked = audit.Asked(
        org=name,
        action=request.args.get("action") or None,
        limit=_EVENTS,
        after=request.args.get("after") or None,
    )
    page = audit.read(session(), viewer(), asked)
    return rendered("organization/log.html", name=name, page=page, action=asked.action)


def addressed(made: wire.Invitation) -> wire.Invitation:
    """An invitation with the address of the page that accepts it."""
    return msgspec.structs.replace(made, url=f"{public_url()}/join?invitation={made.secret}")


def _settings(name: str, made: wire.Invitation | None = None) -> Response:
    require_scope(viewer(), "read")
    require_role(session(), viewer(), name, "reader")
    found = organization.show(session(), viewer(), name)
    rules = viewer().rules_everything
    is_admin = rules or covers(found.members.get(viewer().name or ""), "admin")
    pending = invitation.pending(session(), viewer(), name, now()) if is_admin else []
    return unkept(
        "organization/settings.html",
        organization=found,
        is_admin=is_admin,
        rules=rules,
        quota=quota.show(session(), viewer(), runtime().settings, name),
        pending=pending,
        made=made,
        me=viewer().name,
    )
