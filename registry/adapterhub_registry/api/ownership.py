"""What may change about a whole adapter: who may read it, whose it is, and whether it is there."""

import msgspec
from flask import Blueprint

from adapterhub_client import wire
from adapterhub_client.names import Reference
from adapterhub_registry import errors
from adapterhub_registry.api.document import BODY, TOKEN, answers, api
from adapterhub_registry.api.versions import DeleteQuery
from adapterhub_registry.request import change, now, runtime, viewer
from adapterhub_registry.service import deletion, ownership, quota

blueprint = Blueprint("ownership", __name__)

_REFUSALS = (
    errors.TokenRequired,
    errors.MissingScope,
    errors.MissingRole,
    errors.AdapterNotFound,
    errors.Deleted,
)


class VisibilityRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Whether only members of the organization may read."""

    private: bool


class TransferRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Who shall have it."""

    org: str


@blueprint.put("/adapters/<task>/<name>@<org>/visibility")
@api.validate(
    resp=answers(ownership.Changed, *_REFUSALS, errors.PrivateMembers, errors.DependedOn, *BODY),
    tags=["adapters"],
    security=TOKEN,
    operation_id="set_visibility",
)
def set_visibility(task: str, name: str, org: str, json: VisibilityRequest) -> ownership.Changed:
    """Let everyone read an adapter, or only its organization."""
    reference = Reference(task, name, org)
    with change() as writing:
        return ownership.set_private(writing, viewer(), reference, now(), private=json.private)


@blueprint.post("/adapters/<task>/<name>@<org>/transfer")
@api.validate(
    resp=answers(
        ownership.Changed,
        *_REFUSALS,
        errors.OrganizationNotFound,
        errors.NameTaken,
        errors.QuotaExceeded,
        *BODY,
    ),
    tags=["adapters"],
    security=TOKEN,
    operation_id="transfer",
)
def transfer(task: str, name: str, org: str, json: TransferRequest) -> ownership.Changed:
    """Give an adapter to another organization; the old name goes on to answer."""
    with change() as writing:
        changed = ownership.transfer(writing, viewer(), Reference(task, name, org), json.org, now())
        quota.require_room(writing, runtime().settings, json.org)
        return changed


@blueprint.delete("/adapters/<task>/<name>@<org>")
@api.validate(
    resp=answers(wire.Deletion, *_REFUSALS, errors.DependedOn),
    tags=["adapters"],
    security=TOKEN,
    operation_id="delete_adapter",
)
def delete(task: str, name: str, org: str, query: DeleteQuery) -> wire.Deletion:
    """Delete an adapter with all its versions; nothing is ever called so again."""
    wish = deletion.Wish(reason=query.reason, force=query.force)
    with change() as writing:
        return deletion.delete_adapter(writing, viewer(), Reference(task, name, org), wish, now())
