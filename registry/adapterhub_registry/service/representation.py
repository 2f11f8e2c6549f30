"""Rows as the structs that travel."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import cast

import msgspec
from sqlalchemy import Select, select
from sqlalchemy.orm import contains_eager, joinedload

from adapterhub_client import wire
from adapterhub_registry.models import Adapter, Variant, Version
from adapterhub_registry.service.recorded import Outline


def moment(value: datetime) -> str:
    """A point in time as RFC 3339, in UTC."""
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def versions_query() -> Select[Version]:
    """Versions with all that `version` shows, joined so that adapters and variants can be filtered."""
    return (
        select(Version)
        .join(Version.variant)
        .join(Variant.adapter)
        .join(Variant.base_model)
        .options(
            contains_eager(Version.variant).contains_eager(Variant.adapter),
            contains_eager(Version.variant).contains_eager(Variant.base_model),
            joinedload(Version.created_by),
        )
    )


def version(row: Version) -> wire.Version:
    """A version as it travels."""
    variant = row.variant
    return wire.Version(
        reference=variant.adapter.full_name,
        number=row.number,
        digest=row.digest,
        status=cast("wire.Status", row.status),
        reason=row.reason,
        base=msgspec.convert(row.base, wire.Base),
        method=variant.method,
        config_id=variant.config_id,
        variant=str(variant.id),
        created_at=moment(row.created_at),
        created_by=row.created_by.name,
        size_bytes=row.size_bytes,
        published_as=row.published_as,
    )


def manifest(row: Version) -> wire.Manifest:
    """The manifest of a version."""
    return msgspec.json.decode(row.manifest, type=wire.Manifest)


def variants(rows: Iterable[Version]) -> list[wire.Variant]:
    """The variants that versions belong to; versions come newest first."""
    by_variant: dict[int, list[Version]] = {}
    for row in rows:
        by_variant.setdefault(row.variant_id, []).append(row)
    return [_variant(versions) for versions in by_variant.values()]


def summary(
    row: Adapter,
    versions: list[Version],
    metrics: list[wire.Metric],
    outline: Outline,
) -> wire.AdapterSummary:
    """An adapter as lists show it."""
    return wire.AdapterSummary(
        reference=row.full_name,
        description=row.description,
        private=row.private,
        bases=sorted(
            {each.base_name for each in versions} | {each.base_name for each in outline.parts}
        ),
        methods=sorted(
            {each.variant.method for each in versions} | {each.method for each in outline.parts}
        ),
        languages=row.languages,
        license=row.license,
        versions=len(versions),
        downloads=row.downloads,
        updated_at=moment(row.updated_at),
        metrics=metrics,
        not_mirrored=outline.not_mirrored,
    )


def _variant(versions: list[Version]) -> wire.Variant:
    newest = versions[0]
    offered = [each.number for each in versions if each.status != "yanked"]
    return wire.Variant(
        id=str(newest.variant_id),
        base=msgspec.convert(newest.base, wire.Base),
        method=newest.variant.method,
        config_id=newest.variant.config_id,
        format=cast("wire.Format", newest.format),
        latest=max(offered, default=None),
        versions=len(versions),
    )
