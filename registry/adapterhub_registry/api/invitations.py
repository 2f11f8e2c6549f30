"""Invitations into organizations, and into the registry."""

from typing import Annotated

import msgspec
from flask import Blueprint, Response

from adapterhub_client import wire
from adapterhub_registry import errors
from adapterhub_registry.api.accounts import Label, Named, Secret
from adapterhub_registry.api.document import BODY, PUBLIC, TOKEN, answers, api
from adapterhub_registry.request import change, now, public_url, session, viewer
from adapterhub_registry.service import invitation

blueprint = Blueprint("invitations", __name__)

_ORGANIZATION = (
    errors.TokenRequired,
    errors.MissingScope,
    errors.MissingRole,
    errors.TokenElsewhere,
    errors.OrganizationNotFound,
)
_REGISTRY = (errors.TokenRequired, errors.MissingScope, errors.NotOperator)


class NewInvitation(wire.InvitationRequest, frozen=True, kw_only=True):
    """Asks for an invitation; `label` says whom it is for."""

    label: Label
    expires_days: Annotated[int, msgspec.Meta(ge=1, le=90)] = 7


class Accepted(wire.Acceptance, frozen=True, kw_only=True):
    """Accepts an invitation."""

    secret: Secret
    name: Named | None = None
    password: Secret | None = None


@blueprint.get("/orgs/<org>/invitations")
@api.validate(
    resp=answers(list[wire.Invitation], *_ORGANIZATION),
    tags=["organizations"],
    security=TOKEN,
    operation_id="list_org_invitations",
)
def list_of(org: str) -> list[wire.Invitation]:
    """The invitations that may still be accepted, for admins of the organization."""
    return invitation.pending(session(), viewer(), org, now())


@blueprint.post("/orgs/<org>/invitations")
@api.validate(
    resp=answers(wire.Invitation, *_ORGANIZATION, *BODY, status=201),
    tags=["organizations"],
    security=TOKEN,
    operation_id="invite_to_org",
)
def create_in(org: str, json: NewInvitation) -> tuple[wire.Invitation, int]:
    """Invite somebody with a role. The secret is in this answer and never again; whoever has it may accept."""
    with change() as writing:
        return _addressed(invitation.create(writing, viewer(), org, json, now())), 201


@blueprint.delete("/orgs/<org>/invitations/<int(max=2147483647):invitation_id>")
@api.validate(
    resp=answers(None, *_ORGANIZATION, errors.InvitationNotFound, status=204),
    tags=["organizations"],
    security=TOKEN,
    operation_id="revoke_org_invitation",
)
def revoke_in(org: str, invitation_id: int) -> Response:
    """Take an invitation back."""
    with change() as writing:
        invitation.revoke(writing, viewer(), org, invitation_id, now())
    return Response(status=204)


@blueprint.get("/invitations")
@api.validate(
    resp=answers(list[wire.Invitation], *_REGISTRY),
    tags=["accounts"],
    security=TOKEN,
    operation_id="list_invitations",
)
def list_all() -> list[wire.Invitation]:
    """The invitations into the registry alone, for its administrators."""
    return invitation.pending(session(), viewer(), None, now())


@blueprint.post("/invitations")
@api.validate(
    resp=answers(wire.Invitation, *_REGISTRY, *BODY, status=201),
    tags=["accounts"],
    security=TOKEN,
    operation_id="invite",
)
def create(json: NewInvitation) -> tuple[wire.Invitation, int]:
    """Invite somebody to make an account, as an administrator of the registry; `role` counts for nothing here."""
    with change() as writing:
        return _addressed(invitation.create(writing, viewer(), None, json, now())), 201


@blueprint.delete("/invitations/<int(max=2147483647):invitation_id>")
@api.validate(
    resp=answers(None, *_REGISTRY, errors.InvitationNotFound, status=204),
    tags=["accounts"],
    security=TOKEN,
    operation_id="revoke_invitation",
)
def revoke(invitation_id: int) -> Response:
    """Take an invitation into the registry back."""
    with change() as writing:
        invitation.revoke(writing, viewer(), None, invitation_id, now())
    return Response(status=204)


@blueprint.post("/invitations/accept")
@api.validate(
    resp=answers(
        wire.Account,
        errors.TokenRequired,
        errors.MissingScope,
        errors.InvitationNotFound,
        errors.NameTaken,
        errors.MalformedName,
        errors.PasswordRefused,
        errors.LastAdmin,
        *BODY,
    ),
    tags=["accounts"],
    security=PUBLIC,
    operation_id="accept_invitation",
)
def accept(json: Accepted) -> wire.Account:
    """Accept an invitation: with a token for its account, without one for a new account of this name and password."""
    with change() as writing:
        return invitation.accept(writing, viewer(), json, now())


def _addressed(made: wire.Invitation) -> wire.Invitation:
    return msgspec.structs.replace(made, url=f"{public_url()}/join?invitation={made.secret}")
