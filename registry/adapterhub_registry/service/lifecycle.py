"""What may still change once a version is out: its status, and the names that point at it."""

from datetime import datetime

import msgspec
from sqlalchemy.orm import Session

from adapterhub_client import names, wire
from adapterhub_registry.domain.permission import Viewer
from adapterhub_registry.errors import MalformedName
from adapterhub_registry.models import Alias, Version
from adapterhub_registry.service import audit, indexing, representation
from adapterhub_registry.service.resolution import Wanted, find
from adapterhub_registry.service.visibility import require_role, require_scope


class Change(msgspec.Struct, frozen=True):
    """A new status and why."""

    status: wire.Status
    reason: str | None = None


def set_status(
    session: Session,
    viewer: Viewer,
    reference: names.Reference,
    change: Change,
    now: datetime,
) -> wire.Version:
    """Yank or deprecate the version that a pinned reference names, or make it active again."""
    row = _writable(session, viewer, reference)
    row.status, row.reason = change.status, change.reason
    audit.record(
        session,
        viewer.account_id,
        f"version.{change.status}",
        reference.adapter,
        now,
        digest=row.digest,
        reason=change.reason,
    )
    indexing.refresh(session, [row.variant.adapter_id])
    return representation.version(row)


def set_alias(
    session: Session, viewer: Viewer, reference: names.Reference, alias: str, now: datetime
) -> wire.Version:
    """Let an alias of the variant point at the version that a pinned reference names."""
    if not names.ALIAS.fullmatch(alias):
        raise MalformedName(
            f"{alias!r} is no alias: a letter, then letters, digits, `.`, `_`, `-`."
        )
    row = _writable(session, viewer, reference)
    held = session.get(Alias, (row.variant_id, alias))
    if held is None:
        session.add(Alias(variant_id=row.variant_id, name=alias, version_id=row.id, updated_at=now))
    else:
        held.version_id, held.updated_at = row.id, now
    audit.record(
        session,
        viewer.account_id,
        "alias.set",
        reference.adapter,
        now,
        alias=alias,
        digest=row.digest,
    )
    return representation.version(row)


def _writable(session: Session, viewer: Viewer, reference: names.Reference) -> Version:
    require_scope(viewer, "write")
    row, _ = find(session, viewer, reference, Wanted())
    require_role(session, viewer, reference.org, "writer")
    return row
