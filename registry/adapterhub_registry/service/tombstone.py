"""What is left of what was deleted, for those who could have read it."""

from sqlalchemy import Select, or_, select
from sqlalchemy.orm import Session, joinedload

from adapterhub_client import names, wire
from adapterhub_registry.domain.permission import Viewer
from adapterhub_registry.errors import Deleted
from adapterhub_registry.models import BaseModel, RetiredName, Tombstone, Variant, Version
from adapterhub_registry.service.representation import moment
from adapterhub_registry.service.visibility import may_read


def refuse_deleted(session: Session, viewer: Viewer, digest: str) -> None:
    """Go on only where this digest was not deleted, or the viewer could never read it; Deleted."""
    found = session.scalar(_readable(viewer).where(Tombstone.digest == digest))
    if found is not None:
        raise Deleted(shown(found))


def refuse_retired(session: Session, viewer: Viewer, full_name: str) -> None:
    """Go on only where no adapter of this name was deleted that the viewer could have read; Deleted."""
    found = session.scalar(
        select(RetiredName)
        .where(
            RetiredName.full_name == full_name,
            may_read(viewer, RetiredName.private, RetiredName.organization_id),
        )
        .options(joinedload(RetiredName.deleted_by))
    )
    if found is not None:
        raise Deleted(shown_name(found))


def refuse_pinned(
    session: Session,
    viewer: Viewer,
    reference: names.Reference,
    base: str | None,
    config: str | None,
) -> None:
    """Go on only where what a pin names was never there; Deleted where it was."""
    pin = reference.version or ""
    query = _readable(viewer).where(Tombstone.full_name == reference.adapter)
    if names.NUMBER.fullmatch(pin):
        query = query.where(Tombstone.number == int(pin))
    elif names.DIGEST.fullmatch(pin):
        query = query.where(Tombstone.digest == pin)
    else:
        return
    if base is not None:
        query = query.where(or_(Tombstone.base_key == base, Tombstone.base_name == base))
    if config is not None:
        query = query.where(or_(Tombstone.config_id == config, Tombstone.method == config))
    found = session.scalar(query.order_by(Tombstone.deleted_at.desc()).limit(1))
    if found is not None:
        raise Deleted(shown(found))


def known(session: Session, viewer: Viewer, digests: list[str]) -> dict[str, wire.Tombstone]:
    """The tombstones of these digests."""
    if not digests:
        return {}
    rows = session.scalars(_readable(viewer).where(Tombstone.digest.in_(digests)))
    return {row.digest: shown(row) for row in rows}


def of(row: Version, reason: str) -> Tombstone:
    """The tombstone of a version that is about to go; who and when are added by whoever deletes it."""
    variant = row.variant
    base: BaseModel = variant.base_model
    return Tombstone(
        digest=row.digest,
        organization_id=variant.adapter.organization_id,
        full_name=variant.adapter.full_name,
        variant_id=variant.id,
        number=row.number,
        private=variant.adapter.private,
        base_key=base.key,
        base_name=row.base_name,
        method=variant.method,
        config_id=variant.config_id,
        size_bytes=row.size_bytes,
        reason=reason,
        published_at=row.created_at,
    )


def last_number(session: Session, variant: Variant) -> int:
    """The highest number that was ever given to a version of this variant and is gone; 0 where none is."""
    newest = select(Tombstone.number).filter_by(variant_id=variant.id)
    return session.scalar(newest.order_by(Tombstone.number.desc()).limit(1)) or 0


def shown(row: Tombstone) -> wire.Tombstone:
    """A version's tombstone as it travels."""
    return wire.Tombstone(
        reference=row.full_name,
        number=row.number,
        digest=row.digest,
        base=row.base_name,
        method=row.method,
        config_id=row.config_id,
        size_bytes=row.size_bytes,
        published_at=moment(row.published_at),
        deleted_at=moment(row.deleted_at),
        deleted_by=row.deleted_by.name if row.deleted_by else None,
        reason=row.reason,
    )


def shown_name(row: RetiredName) -> wire.Tombstone:
    """An adapter's tombstone as it travels."""
    return wire.Tombstone(
        reference=row.full_name,
        deleted_at=moment(row.deleted_at),
        deleted_by=row.deleted_by.name if row.deleted_by else None,
        reason=row.reason,
    )


def _readable(viewer: Viewer) -> Select[Tombstone]:
    visible = may_read(viewer, Tombstone.private, Tombstone.organization_id)
    return select(Tombstone).where(visible).options(joinedload(Tombstone.deleted_by))
