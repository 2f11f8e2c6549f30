"""Lists: `GET /api/models`."""

from typing import Any

from flask import Response
from flask import request as incoming

from adapterhub_registry import errors
from adapterhub_registry.huggingface import model, protocol
from adapterhub_registry.request import session, viewer
from adapterhub_registry.service import shelf
from adapterhub_registry.service.repository import oid_of
from adapterhub_registry.service.representation import moment
from adapterhub_registry.service.shelf import Asked, Item, Sort

blueprint = protocol.new_blueprint("listing")

_MOST = 1000
_MOST_FULL = 100
_SORTS: dict[str, Sort] = {
    "lastModified": "updated",
    "last_modified": "updated",
    "createdAt": "created",
    "created_at": "created",
    "downloads": "downloads",
    "likes": "downloads",
    "trendingScore": "downloads",
    "trending_score": "downloads",
}


@blueprint.get("/api/models")
def models() -> Response:
    """Repositories, newest first or as asked; by pages."""
    asked = incoming.args
    sort = asked.get("sort", "lastModified")
    if sort not in _SORTS:
        raise errors.BadRequest(f"`sort` is one of {', '.join(sorted(_SORTS))}, not {sort!r}.")
    limit = asked.get("limit", "")
    most = _MOST_FULL if protocol.flag(asked.get("full")) else _MOST
    if limit and (not limit.isascii() or not limit.isdigit() or len(limit) > len("1000000000")):
        raise errors.BadRequest(f"`limit` is a number, not {limit!r}.")
    wanted = Asked(
        search=asked.get("search", ""),
        author=asked.get("author"),
        tags=[*asked.getlist("filter"), *_library(), *_unknown()],
        gated=protocol.flag(asked["gated"]) if "gated" in asked else None,
        sort=_SORTS[sort],
        limit=max(1, min(int(limit or most), most)),
        after=asked.get("cursor"),
    )
    page = shelf.page(session(), viewer(), wanted)
    response = protocol.answer([_shown(item) for item in page.items])
    if page.after is not None:
        protocol.link_next(response, cursor=page.after)
    return response


def _library() -> list[str]:
    return incoming.args.getlist("library")


def _unknown() -> list[str]:
    """What no adapter says of itself, so that nothing fits."""
    named = ("pipeline_tag", "apps", "inference", "inference_provider", "num_parameters")
    return [f"{name}:{incoming.args[name]}" for name in named if name in incoming.args]


def _shown(item: Item) -> dict[str, Any]:
    if item.draft is not None:
        row = item.draft
        moments = (moment(row.created_at), moment(row.updated_at))
        shown = model.draft(item.repo_id, row.organization.name, moments, private=row.private)
    elif item.adapter is not None:
        shown = model.listed(item.adapter, item.repo_id, item.version)
    else:
        shown = {}
    if item.version is not None:
        shown["sha"] = oid_of(item.version)
    return {**shown, "gated": item.gated or False}
