"""What may change once a version is out: yank, deprecate, delete, and aliases."""

from typing import Annotated

import msgspec
from flask import Blueprint, Response

from adapterhub_client import wire
from adapterhub_client.names import Reference
from adapterhub_registry import errors
from adapterhub_registry.api.document import BODY, PUBLIC, TOKEN, answers, api
from adapterhub_registry.request import change, now, session, viewer
from adapterhub_registry.service import deletion, lifecycle, resolution

blueprint = Blueprint("versions", __name__)

_REFUSALS = (
    errors.TokenRequired,
    errors.MissingScope,
    errors.MissingRole,
    errors.AdapterNotFound,
    errors.VersionNotFound,
    errors.MalformedName,
    errors.Ambiguous,
    errors.Yanked,
    errors.Deleted,
    errors.NotMirrored,
)


class DeleteQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Why something is deleted."""

    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=2000)]
    force: bool = False
    """also where public compositions pin it: they cannot be pulled whole any more"""


class AliasQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Whose alias is meant."""

    variant: str | None = None
    """the id of a variant, where several have it"""


class StatusRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Why the status changes."""

    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=2000)]


class AliasRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The version an alias shall point at: its digest, or its number where only one variant has it."""

    version: str


@blueprint.post("/adapters/<task>/<name>@<org>/versions/<version>/yank")
@api.validate(
    resp=answers(wire.ChangedVersion, *_REFUSALS, *BODY),
    tags=["versions"],
    security=TOKEN,
    operation_id="yank",
)
def yank(task: str, name: str, org: str, version: str, json: StatusRequest) -> wire.ChangedVersion:
    """Withdraw a version: nothing resolves to it any more, exact pins still do. Says what depends on it."""
    return _set(_reference(task, name, org, version), "yanked", json.reason)


@blueprint.post("/adapters/<task>/<name>@<org>/versions/<version>/deprecate")
@api.validate(
    resp=answers(wire.ChangedVersion, *_REFUSALS, *BODY),
    tags=["versions"],
    security=TOKEN,
    operation_id="deprecate",
)
def deprecate(
    task: str, name: str, org: str, version: str, json: StatusRequest
) -> wire.ChangedVersion:
    """Advise against a version; it still resolves. Says what depends on it."""
    return _set(_reference(task, name, org, version), "deprecated", json.reason)


@blueprint.post("/adapters/<task>/<name>@<org>/versions/<version>/restore")
@api.validate(
    resp=answers(wire.ChangedVersion, *_REFUSALS),
    tags=["versions"],
    security=TOKEN,
    operation_id="restore",
)
def restore(task: str, name: str, org: str, version: str) -> wire.ChangedVersion:
    """Make a yanked or deprecated version active again."""
    return _set(_reference(task, name, org, version), "active", None)


@blueprint.put("/adapters/<task>/<name>@<org>/aliases/<alias>")
@api.validate(
    resp=answers(wire.Version, *_REFUSALS, *BODY),
    tags=["versions"],
    security=TOKEN,
    operation_id="set_alias",
)
def set_alias(task: str, name: str, org: str, alias: str, json: AliasRequest) -> wire.Version:
    """Let an alias point at a version; others are not moved."""
    reference = _reference(task, name, org, json.version)
    with change() as writing:
        return lifecycle.set_alias(writing, viewer(), reference, alias, now())


@blueprint.get("/adapters/<task>/<name>@<org>/aliases")
@api.validate(
    resp=answers(list[wire.Alias], errors.AdapterNotFound, errors.Deleted),
    tags=["versions"],
    security=PUBLIC,
    operation_id="list_aliases",
)
def aliases(task: str, name: str, org: str) -> list[wire.Alias]:
    """Every alias of an adapter and what it points at."""
    return lifecycle.aliases(session(), viewer(), Reference(task, name, org))


@blueprint.delete("/adapters/<task>/<name>@<org>/aliases/<alias>")
@api.validate(
    resp=answers(
        None,
        errors.TokenRequired,
        errors.MissingScope,
        errors.MissingRole,
        errors.AdapterNotFound,
        errors.AliasNotFound,
        errors.Ambiguous,
        errors.Deleted,
        status=204,
    ),
    tags=["versions"],
    security=TOKEN,
    operation_id="remove_alias",
)
def remove_alias(task: str, name: str, org: str, alias: str, query: AliasQuery) -> Response:
    """Take an alias away; the version it pointed at stays."""
    place = (alias, query.variant)
    with change() as writing:
        lifecycle.remove_alias(writing, viewer(), Reference(task, name, org), place, now())
    return Response(status=204)


@blueprint.delete("/adapters/<task>/<name>@<org>/versions/<version>")
@api.validate(
    resp=answers(wire.Deletion, *_REFUSALS, errors.DependedOn),
    tags=["versions"],
    security=TOKEN,
    operation_id="delete_version",
)
def delete(task: str, name: str, org: str, version: str, query: DeleteQuery) -> wire.Deletion:
    """Delete a version for ever; its number and digest are never given again, and exact pins answer 410."""
    wish = deletion.Wish(reason=query.reason, force=query.force)
    reference = _reference(task, name, org, version)
    with change() as writing:
        return deletion.delete_version(writing, viewer(), reference, wish, now())


def _set(reference: Reference, status: wire.Status, reason: str | None) -> wire.ChangedVersion:
    with change() as writing:
        return lifecycle.set_status(
            writing, viewer(), reference, lifecycle.Change(status, reason), now()
        )


def _reference(task: str, name: str, org: str, version: str) -> Reference:
    return resolution.parsed(f"{task}/{name}@{org}:{version}")
