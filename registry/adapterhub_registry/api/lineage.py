"""Where a version comes from and what depends on it."""

from typing import Annotated

import msgspec
from flask import Blueprint

from adapterhub_client import wire
from adapterhub_registry import errors
from adapterhub_registry.api.document import PUBLIC, answers, api
from adapterhub_registry.request import session, viewer
from adapterhub_registry.service import catalogue
from adapterhub_registry.service import lineage as lineages

blueprint = Blueprint("lineage", __name__)


class LineageQuery(msgspec.Struct, frozen=True, kw_only=True):
    """How much to show."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=200)] = lineages.SHOWN
    """of compositions and of children; the counts are of all"""


@blueprint.get("/versions/<digest>/lineage")
@api.validate(
    resp=answers(wire.Relations, errors.ManifestNotFound, errors.Deleted),
    tags=["versions"],
    security=PUBLIC,
    operation_id="show_lineage",
)
def show(digest: str, query: LineageQuery) -> wire.Relations:
    """The members and parents of a version, the compositions that pin it, and all that depends on it."""
    row = catalogue.version_by_digest(session(), viewer(), digest)
    return lineages.relations(session(), viewer(), row, query.limit)
