"""How much an organization may keep.

What it keeps is counted when it matters, from the files themselves, so no counter can go astray. That costs time only
where there is a limit.
"""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import CompoundSelect, func, select, union
from sqlalchemy.orm import Session

from adapterhub_client import wire
from adapterhub_registry.domain.permission import Viewer
from adapterhub_registry.errors import OrganizationNotFound, QuotaExceeded
from adapterhub_registry.models import (
    Adapter,
    Blob,
    Organization,
    Repository,
    RepositoryBlob,
    Variant,
    Version,
    VersionFile,
)
from adapterhub_registry.service import audit
from adapterhub_registry.service.visibility import require_operator, require_role, require_scope
from adapterhub_registry.settings import Settings


def show(session: Session, viewer: Viewer, settings: Settings, name: str) -> wire.Quota:
    """What an organization keeps and may keep, for its members.

    Raises:
        OrganizationNotFound, MissingRole: The viewer is none of them.
    """
    require_scope(viewer, "read")
    return _quota(session, require_role(session, viewer, name, "reader"), settings)


def change(
    session: Session,
    viewer: Viewer,
    settings: Settings,
    place: tuple[str, wire.QuotaRequest],
    now: datetime,
) -> wire.Quota:
    """Set the limits of an organization, as an administrator of the registry; OrganizationNotFound."""
    name, asked = place
    actor = require_operator(viewer)
    row = session.scalar(select(Organization).filter_by(name=name))
    if row is None:
        raise OrganizationNotFound(name)
    row.max_versions, row.max_bytes = asked.max_versions, asked.max_bytes
    session.flush()
    detail = {"max_versions": asked.max_versions, "max_bytes": asked.max_bytes}
    audit.record(session, actor, "org.quota", name, now, **detail)
    return _quota(session, row, settings)


def require_room(
    session: Session,
    settings: Settings,
    name: str,
    files: Mapping[str, int] | None = None,
    *,
    versions: int = 0,
) -> None:
    """Go on only where what an organization keeps, so many versions more and these blobs (SHA-256 to size) fit.

    Whoever asks the same waits until this transaction ends, so two publishes never share the last room.

    Raises:
        QuotaExceeded: They do not; how much there is, and what would be needed.
    """
    row = session.scalars(select(Organization).filter_by(name=name)).one()
    max_versions, max_bytes = _limits(row, settings)
    if max_versions is None and max_bytes is None:
        return
    # not FOR UPDATE: whoever made an adapter of it shares its key, and would wait for the other who did
    session.execute(select(Organization.id).filter_by(id=row.id).with_for_update(key_share=True))
    if max_versions is not None:
        held = _versions(session, row.id)
        if held + versions > max_versions:
            raise QuotaExceeded(
                f"The organization {row.name!r} has {held} versions and may have {max_versions}."
            )
    if max_bytes is not None:
        held = _bytes(session, row.id)
        more = _new_bytes(session, row.id, files or {})
        if held + more > max_bytes:
            raise QuotaExceeded(
                f"The organization {row.name!r} keeps {held} bytes and may keep {max_bytes}: there is no room for "
                f"{more} more."
            )


def _quota(session: Session, row: Organization, settings: Settings) -> wire.Quota:
    max_versions, max_bytes = _limits(row, settings)
    return wire.Quota(
        versions=_versions(session, row.id),
        size_bytes=_bytes(session, row.id),
        max_versions=max_versions,
        max_bytes=max_bytes,
    )


def _limits(row: Organization, settings: Settings) -> tuple[int | None, int | None]:
    """An organization's own limits before the registry's; 0 is none."""
    versions = settings.org_max_versions if row.max_versions is None else row.max_versions
    size_bytes = settings.org_max_bytes if row.max_bytes is None else row.max_bytes
    return versions or None, size_bytes or None


def _versions(session: Session, organization_id: int) -> int:
    query = (
        select(func.count())
        .select_from(Version)
        .join(Version.variant)
        .join(Variant.adapter)
        .where(Adapter.organization_id == organization_id)
    )
    return session.scalar(query) or 0


def _bytes(session: Session, organization_id: int) -> int:
    held = _held(organization_id).subquery()
    return int(
        session.scalar(select(func.sum(Blob.size_bytes)).join(held, held.c.sha256 == Blob.sha256))
        or 0
    )


def _new_bytes(session: Session, organization_id: int, sizes: Mapping[str, int]) -> int:
    held = _held(organization_id).subquery()
    query = select(held.c.sha256).where(held.c.sha256.in_(sizes))
    known = set(session.scalars(query))
    return sum(size for sha256, size in sizes.items() if sha256 not in known)


def _held(organization_id: int) -> CompoundSelect[tuple[str]]:
    """The blobs of an organization's versions, and of its repositories."""
    in_versions = (
        select(VersionFile.sha256)
        .join(Version, VersionFile.version_id == Version.id)
        .join(Version.variant)
        .join(Variant.adapter)
        .where(Adapter.organization_id == organization_id)
    )
    in_repositories = (
        select(RepositoryBlob.sha256)
        .join(Repository, Repository.id == RepositoryBlob.repository_id)
        .where(Repository.organization_id == organization_id)
    )
    return union(in_versions, in_repositories)
