"""Organizations and who is in them."""

from typing import Annotated

import msgspec
from flask import Blueprint

from adapterhub_client import wire
from adapterhub_registry import errors
from adapterhub_registry.api.document import BODY, PUBLIC, TOKEN, answers, api
from adapterhub_registry.request import change, now, runtime, session, viewer
from adapterhub_registry.service import organization, quota

blueprint = Blueprint("organizations", __name__)

_Limit = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]


class NewQuota(wire.QuotaRequest, frozen=True, kw_only=True):
    """Sets the limits of an organization: 0 is none, None is the registry's own."""

    max_versions: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] | None = None
    max_bytes: _Limit | None = None


@blueprint.post("/orgs")
@api.validate(
    resp=answers(
        wire.Organization,
        errors.TokenRequired,
        errors.MissingScope,
        errors.TokenElsewhere,
        errors.NameTaken,
        errors.MalformedName,
        *BODY,
        status=201,
    ),
    tags=["organizations"],
    security=TOKEN,
    operation_id="create_org",
)
def create(json: wire.OrganizationRequest) -> tuple[wire.Organization, int]:
    """Make an organization; you are its admin."""
    with change() as writing:
        return organization.create(writing, viewer(), json.name, now()), 201


@blueprint.get("/orgs/<org>")
@api.validate(
    resp=answers(wire.Organization, errors.OrganizationNotFound),
    tags=["organizations"],
    security=PUBLIC,
    operation_id="show_org",
)
def show(org: str) -> wire.Organization:
    """An organization; its members are shown to its members."""
    return organization.show(session(), viewer(), org)


@blueprint.put("/orgs/<org>/members/<name>")
@api.validate(
    resp=answers(
        wire.Organization,
        errors.TokenRequired,
        errors.MissingScope,
        errors.MissingRole,
        errors.TokenElsewhere,
        errors.OrganizationNotFound,
        errors.AccountNotFound,
        errors.LastAdmin,
        *BODY,
    ),
    tags=["organizations"],
    security=TOKEN,
    operation_id="set_member",
)
def set_member(org: str, name: str, json: wire.MemberRequest) -> wire.Organization:
    """Give an account a role, or take it out with null; everyone may take themselves out."""
    with change() as writing:
        return organization.set_member(writing, viewer(), (org, name), json.role, now())


@blueprint.get("/orgs/<org>/quota")
@api.validate(
    resp=answers(
        wire.Quota,
        errors.TokenRequired,
        errors.MissingScope,
        errors.MissingRole,
        errors.TokenElsewhere,
        errors.OrganizationNotFound,
    ),
    tags=["organizations"],
    security=TOKEN,
    operation_id="show_quota",
)
def show_quota(org: str) -> wire.Quota:
    """What an organization keeps and how much it may, for its members."""
    return quota.show(session(), viewer(), runtime().settings, org)


@blueprint.put("/orgs/<org>/quota")
@api.validate(
    resp=answers(
        wire.Quota,
        errors.TokenRequired,
        errors.MissingScope,
        errors.NotOperator,
        errors.OrganizationNotFound,
        *BODY,
    ),
    tags=["organizations"],
    security=TOKEN,
    operation_id="set_quota",
)
def set_quota(org: str, json: NewQuota) -> wire.Quota:
    """Set the limits of an organization, as an administrator of the registry."""
    with change() as writing:
        return quota.change(writing, viewer(), runtime().settings, (org, json), now())
