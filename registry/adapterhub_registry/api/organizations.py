"""Organizations and who is in them."""

from flask import Blueprint

from adapterhub_client import wire
from adapterhub_registry import errors
from adapterhub_registry.api.document import BODY, PUBLIC, TOKEN, answers, api
from adapterhub_registry.request import change, now, session, viewer
from adapterhub_registry.service import account

blueprint = Blueprint("organizations", __name__)


@blueprint.post("/orgs")
@api.validate(
    resp=answers(
        wire.Organization,
        errors.TokenRequired,
        errors.MissingScope,
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
        return account.create_organization(writing, viewer(), json.name, now()), 201


@blueprint.get("/orgs/<org>")
@api.validate(
    resp=answers(wire.Organization, errors.OrganizationNotFound),
    tags=["organizations"],
    security=PUBLIC,
    operation_id="show_org",
)
def show(org: str) -> wire.Organization:
    """An organization; its members are shown to its members."""
    return account.organization(session(), viewer(), org)


@blueprint.put("/orgs/<org>/members/<name>")
@api.validate(
    resp=answers(
        wire.Organization,
        errors.TokenRequired,
        errors.MissingScope,
        errors.MissingRole,
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
    """Give an account a role, or take it out with null."""
    with change() as writing:
        return account.set_member(writing, viewer(), (org, name), json.role, now())
