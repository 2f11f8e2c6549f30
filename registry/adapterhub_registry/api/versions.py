"""What may change once a version is out: yank, deprecate, and aliases."""

from typing import Annotated

import msgspec
from flask import Blueprint

from adapterhub_client import wire
from adapterhub_client.names import Reference
from adapterhub_registry import errors
from adapterhub_registry.api.document import BODY, TOKEN, answers, api
from adapterhub_registry.request import change, now, viewer
from adapterhub_registry.service import lifecycle, resolution

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
    *BODY,
)


class StatusRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Why the status changes."""

    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=2000)]


class AliasRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The version an alias shall point at: its digest, or its number where only one variant has it."""

    version: str


@blueprint.post("/adapters/<task>/<name>@<org>/versions/<version>/yank")
@api.validate(
    resp=answers(wire.Version, *_REFUSALS), tags=["versions"], security=TOKEN, operation_id="yank"
)
def yank(task: str, name: str, org: str, version: str, json: StatusRequest) -> wire.Version:
    """Withdraw a version: nothing resolves to it any more, exact pins still do."""
    return _set(_reference(task, name, org, version), "yanked", json.reason)


@blueprint.post("/adapters/<task>/<name>@<org>/versions/<version>/deprecate")
@api.validate(
    resp=answers(wire.Version, *_REFUSALS),
    tags=["versions"],
    security=TOKEN,
    operation_id="deprecate",
)
def deprecate(task: str, name: str, org: str, version: str, json: StatusRequest) -> wire.Version:
    """Advise against a version; it still resolves."""
    return _set(_reference(task, name, org, version), "deprecated", json.reason)


@blueprint.post("/adapters/<task>/<name>@<org>/versions/<version>/restore")
@api.validate(
    resp=answers(wire.Version, *_REFUSALS),
    tags=["versions"],
    security=TOKEN,
    operation_id="restore",
)
def restore(task: str, name: str, org: str, version: str) -> wire.Version:
    """Make a yanked or deprecated version active again."""
    return _set(_reference(task, name, org, version), "active", None)


@blueprint.put("/adapters/<task>/<name>@<org>/aliases/<alias>")
@api.validate(
    resp=answers(wire.Version, *_REFUSALS),
    tags=["versions"],
    security=TOKEN,
    operation_id="set_alias",
)
def set_alias(task: str, name: str, org: str, alias: str, json: AliasRequest) -> wire.Version:
    """Let an alias point at a version; others are not moved."""
    reference = _reference(task, name, org, json.version)
    with change() as session:
        return lifecycle.set_alias(session, viewer(), reference, alias, now())


def _set(reference: Reference, status: wire.Status, reason: str | None) -> wire.Version:
    with change() as session:
        return lifecycle.set_status(
            session, viewer(), reference, lifecycle.Change(status, reason), now()
        )


def _reference(task: str, name: str, org: str, version: str) -> Reference:
    return resolution.parsed(f"{task}/{name}@{org}:{version}")
