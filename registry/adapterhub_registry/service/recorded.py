"""What a reference hub lists and this registry has no weights of: shown, searched, and never resolved to."""

import re
from collections.abc import Callable, Sequence
from typing import cast

import msgspec
from sqlalchemy import func, select
from sqlalchemy.orm import Session, contains_eager, joinedload

from adapterhub_client import names, wire
from adapterhub_registry.errors import (
    NotMirrored,
    NoVariantForBase,
    NoVariantForConfig,
    RegistryError,
    VersionNotFound,
)
from adapterhub_registry.models import Adapter, BaseModel, ImportedEntry, ImportedFile, Variant

SHOWN = 50
_REST = re.compile(r"[^a-z0-9._-]+")
_REPEATED = re.compile(r"[._-]{2,}")


class Part(msgspec.Struct, frozen=True):
    """One variant as a reference hub describes it."""

    base_key: str
    base_name: str
    architecture: str
    method: str
    config_id: str


class Outline(msgspec.Struct, frozen=True):
    """What reference hubs say of an adapter, weights or not."""

    parts: tuple[Part, ...] = ()
    not_mirrored: int = 0


NOTHING = Outline()


def alias(version: str) -> str | None:
    """The alias of a version of a reference hub: `nd` as it is, `1` as `v1`, since numbers are ours."""
    nearest = _REPEATED.sub("-", _REST.sub("-", version.lower())).strip("._-")
    if nearest and not nearest[0].isalpha():
        nearest = f"v{nearest}"
    return nearest if names.ALIAS.fullmatch(nearest) else None


def listed(session: Session, adapter_id: int) -> list[wire.Recorded]:
    """All that reference hubs list for an adapter, mirrored or not; the default of each entry first."""
    rows = session.scalars(
        select(ImportedFile)
        .join(ImportedFile.entry)
        .join(ImportedEntry.adapter)
        .where(ImportedEntry.adapter_id == adapter_id)
        .options(
            contains_eager(ImportedFile.entry).contains_eager(ImportedEntry.adapter),
            contains_eager(ImportedFile.entry).joinedload(ImportedEntry.variant),
            joinedload(ImportedFile.version),
        )
        .order_by(ImportedEntry.position, ImportedFile.position)
    ).all()
    return sorted(
        map(_recorded, rows), key=lambda each: (each.base, each.config_id, not each.is_default)
    )


def outlines(session: Session, adapter_ids: Sequence[int]) -> dict[int, Outline]:
    """What reference hubs say of each adapter; adapters that none lists are left out."""
    missing = (
        select(func.count())
        .where(ImportedFile.entry_id == ImportedEntry.id, ImportedFile.state != "mirrored")
        .correlate(ImportedEntry)
        .scalar_subquery()
    )
    rows = session.execute(
        select(
            ImportedEntry.adapter_id,
            ImportedEntry.model_name,
            ImportedEntry.model_type,
            ImportedEntry.config_id,
            Variant.method,
            BaseModel.key,
            missing,
        )
        .join(ImportedEntry.variant)
        .join(Variant.base_model)
        .where(ImportedEntry.adapter_id.in_(adapter_ids))
        .order_by(ImportedEntry.position)
    )
    found: dict[int, Outline] = {}
    for adapter_id, base_name, architecture, config_id, method, base_key, count in rows:
        held = found.get(adapter_id, NOTHING)
        part = Part(base_key, base_name, architecture, method, config_id)
        found[adapter_id] = Outline((*held.parts, part), held.not_mirrored + count)
    return found


class Asked:
    """What a reference asks for beside its name, as it holds for what is only recorded."""

    def __init__(self, base: str | None, config: str | None, version: str | None) -> None:
        self.base, self.config, self.version = base, config, version
        self.steps: list[tuple[str | None, Callable[[wire.Recorded], bool]]] = [
            (base, lambda each: each.base == base),
            (config, lambda each: config in {each.config_id, each.method}),
            (version, lambda each: version in {each.name, alias(each.name)}),
        ]


def explained(
    session: Session,
    adapter: Adapter,
    reference: names.Reference,
    asked: Asked,
    refusal: RegistryError,
) -> RegistryError:
    """The refusal with all that is recorded; another one where exactly that has no weights here."""
    recorded = [each for each in listed(session, adapter.id) if each.state != "mirrored"]
    if not recorded:
        return refusal
    left, failed = recorded, None
    for at, (wanted, fits) in enumerate(asked.steps):
        found = [each for each in left if fits(each)] if wanted is not None else left
        if not found:
            failed = at
            break
        left = found
    if failed is None:
        return NotMirrored(str(reference), left, SHOWN)
    if not refusal.candidates:
        refusal = _refusals(adapter.full_name, asked)[failed]
    refusal.recorded = tuple(left[:SHOWN])
    return refusal


def _refusals(name: str, asked: Asked) -> tuple[RegistryError, RegistryError, RegistryError]:
    return (
        NoVariantForBase(name, asked.base or "", ()),
        NoVariantForConfig(name, asked.config or "", ()),
        VersionNotFound(name, asked.version or "", ()),
    )


def _recorded(row: ImportedFile) -> wire.Recorded:
    entry = row.entry
    return wire.Recorded(
        reference=entry.adapter.full_name,
        name=row.name,
        is_default=row.name == entry.default_version,
        base=entry.model_name,
        method=entry.variant.method,
        config_id=entry.config_id,
        state=cast("wire.Mirroring", row.state),
        fault=row.fault,
        url=row.url,
        sha1=row.sha1,
        sha256=row.sha256,
        digest=None if row.version is None else row.version.digest,
    )
