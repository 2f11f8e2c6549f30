"""Find adapters, and resolve references."""

from typing import Annotated

import msgspec
from flask import Blueprint

from adapterhub_client import wire
from adapterhub_client.names import Reference
from adapterhub_registry import errors
from adapterhub_registry.api.document import PUBLIC, answers, api
from adapterhub_registry.domain.query import MalformedQuery
from adapterhub_registry.request import connection, session, viewer
from adapterhub_registry.service import (
    answering,
    catalogue,
    faceting,
    lifecycle,
    resolution,
    search,
)

blueprint = Blueprint("adapters", __name__)


class SearchQuery(search.Search, frozen=True, kw_only=True):
    """What adapters to list; every field that is set has to hold."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=200)] = 50
    facets: bool = False
    """also count the answers that would narrow the search, and the ranges of metrics"""


class ResolveQuery(msgspec.Struct, frozen=True, kw_only=True):
    """A reference, and what the adapter has to fit."""

    ref: str
    base: str | None = None
    """a fingerprint, or a base's name"""
    config: str | None = None
    """a config id, or a method's name"""
    version: str | None = None
    """a number, an alias, or a digest"""
    fallback: bool = False
    """another config may answer; the answer says so"""


@blueprint.get("/adapters")
@api.validate(
    resp=answers(wire.AdapterPage, MalformedQuery),
    tags=["catalogue"],
    security=PUBLIC,
    operation_id="list_adapters",
)
def list_adapters(query: SearchQuery) -> wire.AdapterPage:
    """A page of adapters that fit a search."""
    looked = search.look(session(), viewer(), query.query)
    page = search.page(session(), looked, query)
    if not query.facets:
        return page
    return msgspec.structs.replace(
        page,
        facets=faceting.facets(session(), looked),
        ranges=faceting.ranges(session(), looked),
    )


@blueprint.get("/adapters/<task>/<name>@<org>")
@api.validate(
    resp=answers(wire.Adapter, errors.AdapterNotFound, errors.Deleted),
    tags=["catalogue"],
    security=PUBLIC,
    operation_id="show_adapter",
)
def show(task: str, name: str, org: str) -> wire.Adapter:
    """An adapter with its variants and all its versions, newest first."""
    return catalogue.show(session(), viewer(), Reference(task, name, org))


@blueprint.get("/adapters/<task>/<name>@<org>/versions")
@api.validate(
    resp=answers(list[wire.Version], errors.AdapterNotFound, errors.Deleted),
    tags=["catalogue"],
    security=PUBLIC,
    operation_id="list_versions",
)
def versions(task: str, name: str, org: str) -> list[wire.Version]:
    """All versions of an adapter, newest first."""
    return catalogue.show(session(), viewer(), Reference(task, name, org)).versions


@blueprint.get("/adapters/<task>/<name>@<org>/variants")
@api.validate(
    resp=answers(list[wire.Variant], errors.AdapterNotFound, errors.Deleted),
    tags=["catalogue"],
    security=PUBLIC,
    operation_id="list_variants",
)
def variants(task: str, name: str, org: str) -> list[wire.Variant]:
    """The variants of an adapter, one for each base and config."""
    return catalogue.show(session(), viewer(), Reference(task, name, org)).variants


@blueprint.get("/resolve")
@api.validate(
    resp=answers(
        wire.Resolution,
        errors.MalformedName,
        errors.AdapterNotFound,
        errors.VersionNotFound,
        errors.NoVariantForBase,
        errors.NoVariantForConfig,
        errors.Ambiguous,
        errors.NotMirrored,
        errors.Yanked,
        errors.Deleted,
    ),
    tags=["catalogue"],
    security=PUBLIC,
    operation_id="resolve",
)
def resolve(
    query: ResolveQuery,
) -> tuple[wire.Resolution | answering.Answer, int, dict[str, str]]:
    """The one version a reference stands for, or a problem that lists the candidates.

    A pin of a yanked or deprecated version answers with a `Warning` header.
    """
    wanted = resolution.Wanted(
        base=query.base, config=query.config, version=query.version, fallback=query.fallback
    )
    reference = resolution.pinned(query.ref, wanted)
    found = answering.resolved(connection(), viewer(), reference, wanted) or resolution.resolve(
        session(), viewer(), query.ref, wanted
    )
    return found, 200, lifecycle.headers(found.version)
