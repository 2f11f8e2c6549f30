"""What the catalogue shows; reads only. The API and the pages use exactly these."""

import base64
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from sqlalchemy import ColumnElement, Select, String, func, or_, select, tuple_
from sqlalchemy import cast as sql_cast
from sqlalchemy.orm import Session, joinedload, undefer

from adapterhub_client import names, wire
from adapterhub_registry.domain.permission import Viewer
from adapterhub_registry.errors import BaseNotFound, InvalidRequest, ManifestNotFound
from adapterhub_registry.models import (
    Adapter,
    BaseModel,
    Blob,
    Metric,
    Organization,
    Task,
    Variant,
    Version,
    VersionFile,
)
from adapterhub_registry.service import lineage, recorded, representation, tombstone
from adapterhub_registry.service.resolution import find_adapter
from adapterhub_registry.service.visibility import readable

Sort = Literal["updated", "name", "downloads"]
_WORDS = 8
_LARGEST = 2**31 - 1
_NO_PLACE = "`after` is not the `next` of a page with this order."
_SORTED: dict[Sort, tuple[Any, bool]] = {  # the column, and whether the highest comes first
    "updated": (Adapter.updated_at, True),
    "name": (Adapter.full_name, False),
    "downloads": (Adapter.downloads, True),
}


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """What adapters to list; every field that is set has to hold."""

    q: str = ""
    """words, each in the name or the description"""
    task: str | None = None
    base: str | None = None
    """a fingerprint, or a base's name"""
    org: str | None = None
    method: str | None = None
    """a method's name, or a config id"""
    language: str | None = None
    sort: Sort = "updated"
    limit: int = 50
    after: str | None = None
    """`next` of the page before"""


class _Place(msgspec.Struct, frozen=True, array_like=True):
    """A row in an order; what a page's `next` says."""

    sort: Sort
    value: str | Annotated[int, msgspec.Meta(ge=0, le=_LARGEST)]
    row: Annotated[int, msgspec.Meta(ge=0, le=_LARGEST)]


def search(session: Session, viewer: Viewer, asked: Search) -> wire.AdapterPage:
    """A page of the adapters that the viewer may read.

    Raises:
        InvalidRequest: `after` is not what a page gave.
    """
    found = matching(viewer, asked)
    total = session.scalar(select(func.count()).select_from(found.subquery()))
    rows = session.scalars(_page(found, asked)).all()
    shown = rows[: asked.limit]
    more = len(rows) > asked.limit
    return wire.AdapterPage(
        items=summaries(session, shown),
        total=int(total or 0),
        next=_cursor(shown[-1], asked.sort) if more else None,
    )


def matching(viewer: Viewer, asked: Search) -> Select[Adapter]:
    """All adapters that fit, in no order: what a page is cut from and facets are counted over."""
    return select(Adapter).where(readable(viewer), *_conditions(asked))


def show(session: Session, viewer: Viewer, reference: names.Reference) -> wire.Adapter:
    """An adapter with its variants and versions; AdapterNotFound with the nearest names."""
    adapter = find_adapter(session, viewer, reference)
    rows = _versions(session, [adapter.id])
    return wire.Adapter(
        summary=summaries(session, [adapter])[0],
        variants=representation.variants(rows),
        versions=[representation.version(row) for row in rows],
        recorded=recorded.listed(session, adapter.id),
        used_in=lineage.used_in(session, viewer, [row.id for row in rows]),
    )


def summaries(session: Session, adapters: Sequence[Adapter]) -> list[wire.AdapterSummary]:
    """Adapters as lists show them: three queries, however many there are."""
    ids = [adapter.id for adapter in adapters]
    rows = _versions(session, ids)
    known_only = recorded.outlines(session, ids)
    by_adapter: dict[int, list[Version]] = {}
    for row in rows:
        by_adapter.setdefault(row.variant.adapter_id, []).append(row)
    newest = {
        adapter_id: next((row for row in versions if row.status != "yanked"), versions[0]).id
        for adapter_id, versions in by_adapter.items()
    }
    metrics = _metrics(session, list(newest.values()))
    return [
        representation.summary(
            adapter,
            by_adapter.get(adapter.id, []),
            metrics.get(newest.get(adapter.id, 0), []),
            known_only.get(adapter.id, recorded.NOTHING),
        )
        for adapter in adapters
    ]


def version_by_digest(session: Session, viewer: Viewer, digest: str) -> Version:
    """The row of a version the viewer may read, its manifest with it; ManifestNotFound."""
    row = session.scalar(
        representation.versions_query()
        .where(Version.digest == digest, readable(viewer))
        .options(undefer(Version.manifest))
    )
    if row is None:
        tombstone.refuse_deleted(session, viewer, digest)
        raise ManifestNotFound(digest)
    return row


def bases(session: Session, viewer: Viewer) -> list[wire.BaseModel]:
    """Every base model with how many adapters there are for it, most first."""
    return _bases(session, readable(viewer))


def base(session: Session, viewer: Viewer, fingerprint: str) -> wire.BaseModel:
    """One base model; BaseNotFound."""
    found = _bases(session, readable(viewer) & (BaseModel.fingerprint == fingerprint))
    if not found:
        raise BaseNotFound(fingerprint)
    return found[0]


def tasks(session: Session, viewer: Viewer) -> list[wire.Task]:
    """Every task with how many adapters there are for it, most first."""
    count = func.count(Adapter.id)
    rows = session.execute(
        select(Task.name, count)
        .join(Adapter, Adapter.task_id == Task.id)
        .where(readable(viewer))
        .group_by(Task.name)
        .order_by(count.desc(), Task.name)
    )
    return [wire.Task(name=name, adapters=adapters) for name, adapters in rows]


def stats(session: Session, viewer: Viewer) -> wire.Stats:
    """What the catalogue holds, as far as the viewer may read it."""
    seen = readable(viewer)
    adapters = select(Adapter).where(seen)
    versions = select(Version.id).join(Version.variant).join(Variant.adapter).where(seen)
    held = select(VersionFile.sha256).where(VersionFile.version_id.in_(versions))
    counts = {
        "adapters": select(func.count()).select_from(adapters.subquery()),
        "versions": select(func.count()).select_from(versions.subquery()),
        "bases": select(func.count(Variant.base_model_id.distinct()))
        .join(Variant.adapter)
        .where(seen),
        "tasks": select(func.count(Adapter.task_id.distinct())).where(seen),
        "organizations": select(func.count()).select_from(Organization),
        "size_bytes": select(func.sum(Blob.size_bytes)).where(Blob.sha256.in_(held)),
    }
    return wire.Stats(**{name: int(session.scalar(query) or 0) for name, query in counts.items()})


def _conditions(asked: Search) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = [
        or_(
            Adapter.full_name.icontains(word, autoescape=True),
            Adapter.description.icontains(word, autoescape=True),
        )
        for word in asked.q.split()[:_WORDS]
    ]
    if asked.task is not None:
        conditions.append(Adapter.task_id.in_(select(Task.id).filter_by(name=asked.task)))
    if asked.org is not None:
        owner = select(Organization.id).filter_by(name=asked.org)
        conditions.append(Adapter.organization_id.in_(owner))
    if asked.method is not None:
        fits = or_(Variant.method == asked.method, Variant.config_id == asked.method)
        conditions.append(Adapter.id.in_(select(Variant.adapter_id).where(fits)))
    if asked.base is not None:
        fits = or_(BaseModel.fingerprint == asked.base, Version.base_name == asked.base)
        for_base = (
            select(Variant.adapter_id)
            .join(Variant.base_model)
            .join(Version, Version.variant_id == Variant.id)
        )
        conditions.append(Adapter.id.in_(for_base.where(fits)))
    if asked.language is not None:
        quoted = msgspec.json.encode(asked.language).decode()
        conditions.append(sql_cast(Adapter.languages, String).contains(quoted, autoescape=True))
    return conditions


def _page(found: Select[Adapter], asked: Search) -> Select[Adapter]:
    column, highest_first = _SORTED[asked.sort]
    if asked.after is not None:
        place = tuple_(*_place(asked))
        key = tuple_(column, Adapter.id)
        found = found.where(key < place if highest_first else key > place)
    order = [column, Adapter.id]
    return found.order_by(*(each.desc() for each in order) if highest_first else order).limit(
        asked.limit + 1
    )


def _cursor(row: Adapter, sort: Sort) -> str:
    value: str | int = row.full_name
    if sort == "updated":
        value = row.updated_at.isoformat()
    elif sort == "downloads":
        value = row.downloads
    place = _Place(sort, value, row.id)
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode()


def _place(asked: Search) -> tuple[str | int | datetime, int]:
    """Where the page before ended: the value it was sorted by, and the row."""
    try:
        content = base64.urlsafe_b64decode((asked.after or "").encode())
        place = msgspec.json.decode(content, type=_Place)
        value = datetime.fromisoformat(str(place.value)) if asked.sort == "updated" else place.value
    except (ValueError, TypeError, msgspec.MsgspecError) as error:
        raise InvalidRequest(_NO_PLACE) from error
    kinds = {"updated": datetime, "name": str, "downloads": int}
    if place.sort != asked.sort or not isinstance(value, kinds[asked.sort]):
        raise InvalidRequest(_NO_PLACE)
    return value, place.row


def _versions(session: Session, adapter_ids: Sequence[int]) -> list[Version]:
    """All versions of these adapters, newest first."""
    query = representation.versions_query().where(Adapter.id.in_(adapter_ids))
    return list(session.scalars(query.order_by(Version.created_at.desc(), Version.id.desc())))


def _metrics(session: Session, version_ids: Sequence[int]) -> dict[int, list[wire.Metric]]:
    rows = session.scalars(
        select(Metric)
        .where(Metric.version_id.in_(version_ids))
        .options(joinedload(Metric.dataset))
        .order_by(Metric.version_id, Metric.position)
    )
    found: dict[int, list[wire.Metric]] = {}
    for row in rows:
        metric = wire.Metric(
            dataset=row.dataset.name,
            split=row.split,
            name=row.name,
            value=row.value,
            std=row.std,
            seeds=row.seeds,
            higher_is_better=row.higher_is_better,
        )
        found.setdefault(row.version_id, []).append(metric)
    return found


def _bases(session: Session, condition: ColumnElement[bool]) -> list[wire.BaseModel]:
    """Base models as the newest readable version describes each."""
    newest = func.max(Version.id)
    adapters = func.count(Variant.adapter_id.distinct())
    grouped = (
        select(newest.label("version_id"), adapters.label("adapters"))
        .join(Version.variant)
        .join(Variant.adapter)
        .join(Variant.base_model)
        .where(condition)
        .group_by(BaseModel.id)
        .subquery()
    )
    rows = session.execute(
        select(Version.base, grouped.c.adapters)
        .join(grouped, grouped.c.version_id == Version.id)
        .order_by(grouped.c.adapters.desc(), Version.base_name)
    )
    return [
        wire.BaseModel(base=msgspec.convert(described, wire.Base), adapters=count)
        for described, count in rows
    ]
