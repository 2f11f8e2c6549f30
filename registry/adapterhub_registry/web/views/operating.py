"""For administrators of the registry: accounts, invitations into it, and everything that was done."""

from flask import Response, request
from sqlalchemy.orm import Session

from adapterhub_client import wire
from adapterhub_registry.request import change, now, session, viewer
from adapterhub_registry.service import account as accounts
from adapterhub_registry.service import audit, invitation
from adapterhub_registry.service.places import Page
from adapterhub_registry.service.visibility import require_operator
from adapterhub_registry.web import forms
from adapterhub_registry.web.page import blueprint, rendered, unkept
from adapterhub_registry.web.views.organizations import addressed

_ROWS = 100
_EVENTS = 50
_PATH = "/operator/accounts"


@blueprint.get("/operator/accounts")
def account_list() -> Response:
    """Every account, and forms for another and for an invitation."""
    return _accounts()


@blueprint.post("/operator/accounts")
def create_account() -> Response:
    """Make an account and the organization of its name."""
    form = forms.read(forms.NewAccount)
    asked = wire.AccountRequest(name=form.name, password=form.password, is_admin=form.is_admin)
    return forms.changed(
        lambda writing: accounts.create(writing, viewer(), asked, now()),
        _PATH,
        f"The account {form.name} is made.",
    )


@blueprint.post("/operator/accounts/<name>")
def change_account(name: str) -> Response:
    """Let an account administrate the registry, disable it, or take that back."""
    wanted = {
        "promote": wire.AccountChange(is_admin=True),
        "demote": wire.AccountChange(is_admin=False),
        "disable": wire.AccountChange(disabled=True),
        "enable": wire.AccountChange(disabled=False),
    }.get(request.form.get("change", ""), wire.AccountChange())
    return forms.changed(
        lambda writing: accounts.change(writing, viewer(), name, wanted, now()),
        _PATH,
        f"The account {name} is changed.",
    )


@blueprint.post("/operator/invitations")
def invite_into_registry() -> Response:
    """Invite somebody to make an account; the link is on the page that answers, and nowhere else."""
    form = forms.read(forms.NewInvitation)
    with change() as writing:
        made = invitation.create(writing, viewer(), None, form.request, now())
    return _accounts(addressed(made))


@blueprint.post("/operator/invitations/<int(max=2147483647):invitation_id>/revoke")
def revoke_registry_invitation(invitation_id: int) -> Response:
    """Take an invitation into the registry back."""

    def work(writing: Session) -> None:
        invitation.revoke(writing, viewer(), None, invitation_id, now())

    return forms.changed(work, _PATH, "The invitation is taken back.")


@blueprint.get("/operator/log")
def registry_log() -> Response:
    """Everything that was done."""
    require_operator(viewer())
    asked = audit.Asked(
        action=request.args.get("action") or None,
        limit=_EVENTS,
        after=request.args.get("after") or None,
    )
    page = audit.read(session(), viewer(), asked)
    return rendered("operator/log.html", page=page, action=asked.action)


def _accounts(made: wire.Invitation | None = None) -> Response:
    asked = Page(limit=_ROWS, after=request.args.get("after") or None)
    page = accounts.accounts(session(), viewer(), asked)
    return unkept(
        "operator/accounts.html",
        page=page,
        pending=invitation.pending(session(), viewer(), None, now()),
        made=made,
        me=viewer().name,
    )
