"""What the catalogue shows of an adapter and of a version; reads only. The API and the pages use exactly these."""

from collections.abc import Sequence
from typing import NoReturn

import msgspec
from sqlalchemy import case, or_, select
from sqlalchemy.orm import Session, joinedload, undefer

from adapterhub_client import names, wire
from adapterhub_registry.domain.permission import Viewer
from adapterhub_registry.errors import ManifestNotFound
from adapterhub_registry.models import Adapter, BaseModel, Metric, Variant, Version
from adapterhub_registry.service import lineage, recorded, representation, tombstone
from adapterhub_registry.service.resolution import find_adapter
from adapterhub_registry.service.visibility import readable


def show(session: Session, viewer: Viewer, reference: names.Reference) -> wire.Adapter:
    """An adapter with its variants and versions; AdapterNotFound with the nearest names."""
    adapter = find_adapter(session, viewer, reference)
    rows = _versions(session, [adapter.id])
    return wire.Adapter(
        summary=_summaries(session, [adapter], rows)[0],
        variants=representation.variants(rows),
        versions=[representation.version(row) for row in rows],
        recorded=recorded.listed(session, adapter.id),
        used_in=lineage.used_in(session, viewer, [row.id for row in rows]),
    )


def summaries(session: Session, adapters: Sequence[Adapter]) -> list[wire.AdapterSummary]:
    """Adapters as lists show them: three queries, however many there are."""
    return _summaries(session, adapters, _versions(session, [adapter.id for adapter in adapters]))


def _summaries(
    session: Session, adapters: Sequence[Adapter], rows: Sequence[Version]
) -> list[wire.AdapterSummary]:
    known_only = recorded.outlines(session, [adapter.id for adapter in adapters])
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


def measured_on(session: Session, page: wire.AdapterPage, base: str | None) -> wire.AdapterPage:
    """The page with the metrics of what fits a base, where adapters have versions for others too; two queries."""
    many = [item.reference for item in page.items if len(item.bases) > 1]
    if base is None or not many:
        return page
    rows = session.execute(
        select(Adapter.full_name, Version.id)
        .join(Version.variant)
        .join(Variant.adapter)
        .join(Variant.base_model)
        .where(Adapter.full_name.in_(many), or_(BaseModel.key == base, Version.base_name == base))
        .order_by(
            case({"active": 0, "deprecated": 1}, value=Version.status, else_=2).desc(),
            Version.created_at,
            Version.id,
        )
    )
    shown = dict(iter(rows))
    metrics = _metrics(session, list(shown.values()))
    items = [
        msgspec.structs.replace(item, metrics=metrics.get(shown[item.reference], []))
        if item.reference in shown
        else item
        for item in page.items
    ]
    return msgspec.structs.replace(page, items=items)


def version_by_digest(session: Session, viewer: Viewer, digest: str) -> Version:
    """The row of a version the viewer may read, its manifest with it; ManifestNotFound."""
    row = session.scalar(
        representation.versions_query()
        .where(Version.digest == digest, readable(viewer))
        .options(undefer(Version.manifest))
    )
    if row is None:
        refuse_digest(session, viewer, digest)
    return row


def refuse_digest(session: Session, viewer: Viewer, digest: str) -> NoReturn:
    """Say why a digest has no manifest: Deleted, or ManifestNotFound."""
    tombstone.refuse_deleted(session, viewer, digest)
    raise ManifestNotFound(digest)


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
