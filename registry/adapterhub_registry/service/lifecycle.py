"""What may still change once a version is out: its status, and the names that point at it."""

from datetime import datetime

import msgspec
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from adapterhub_client import names, wire
from adapterhub_registry.domain.permission import Viewer
from adapterhub_registry.errors import AliasNotFound, Ambiguous, MalformedName
from adapterhub_registry.models import Adapter, Alias, Variant, Version
from adapterhub_registry.service import audit, indexing, lineage, representation
from adapterhub_registry.service.answering import Facts
from adapterhub_registry.service.resolution import Wanted, find, find_adapter
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
) -> wire.ChangedVersion:
    """Yank or deprecate the version that a pinned reference names, or make it active again.

    The answer says what depends on it, so that whoever yanks can tell the others.
    """
    row = writable(session, viewer, reference)
    row.status, row.reason = change.status, change.reason
    dependants = lineage.dependants(session, viewer, [row])
    audit.record(
        session,
        viewer.account_id,
        f"version.{change.status}",
        row.variant.adapter.full_name,
        now,
        digest=row.digest,
        reason=change.reason,
    )
    indexing.refresh(session, [row.variant.adapter_id])
    changed = msgspec.structs.asdict(representation.version(row))
    return wire.ChangedVersion(**changed, dependants=dependants)


def set_alias(
    session: Session, viewer: Viewer, reference: names.Reference, alias: str, now: datetime
) -> wire.Version:
    """Let an alias of the variant point at the version that a pinned reference names."""
    if not names.ALIAS.fullmatch(alias):
        raise MalformedName(
            f"{alias!r} is no alias: a letter, then letters, digits, `.`, `_`, `-`."
        )
    row = writable(session, viewer, reference)
    held = session.get(Alias, (row.variant_id, alias))
    if held is None:
        session.add(Alias(variant_id=row.variant_id, name=alias, version_id=row.id, updated_at=now))
    else:
        held.version_id, held.updated_at = row.id, now
    _audit_alias(session, viewer, "alias.set", row, alias, now)
    return representation.version(row)


def aliases(session: Session, viewer: Viewer, reference: names.Reference) -> list[wire.Alias]:
    """Every alias of an adapter and what it points at, by name and variant."""
    adapter = find_adapter(session, viewer, reference)
    rows = session.execute(
        select(Alias, Version)
        .join(Version, Version.id == Alias.version_id)
        .join(Variant, Variant.id == Alias.variant_id)
        .where(Variant.adapter_id == adapter.id)
        .order_by(Alias.name, Alias.variant_id)
    )
    return [
        wire.Alias(
            name=alias.name,
            variant=str(alias.variant_id),
            number=version.number,
            digest=version.digest,
            updated_at=representation.moment(alias.updated_at),
        )
        for alias, version in rows
    ]


def remove_alias(
    session: Session,
    viewer: Viewer,
    reference: names.Reference,
    place: tuple[str, str | None],
    now: datetime,
) -> None:
    """Take an alias away; `place` is its name, and the variant's id where several variants have it.

    Raises:
        AliasNotFound: There is none.
        Ambiguous: Several variants have it.
    """
    require_scope(viewer, "write")
    alias, variant = place
    adapter = find_adapter(session, viewer, reference)
    require_role(session, viewer, adapter.organization.name, "writer")
    query = (
        representation.versions_query()
        .join(Alias, Alias.version_id == Version.id)
        .where(Adapter.id == adapter.id, Alias.name == alias)
    )
    rows = [row for row in session.scalars(query) if variant in {None, str(row.variant_id)}]
    if not rows:
        raise AliasNotFound(adapter.full_name, alias)
    if len(rows) > 1:
        raise Ambiguous(
            f"{adapter.full_name}:{alias}", [representation.version(row) for row in rows]
        )
    row = rows[0]
    session.execute(delete(Alias).filter_by(variant_id=row.variant_id, name=alias))
    _audit_alias(session, viewer, "alias.remove", row, alias, now)


def headers(version: wire.Version | Facts) -> dict[str, str]:
    """What to tell, beside the answer, those who pin a version that is advised against."""
    if version.status == "active":
        return {}
    reason = f": {version.reason}" if version.reason else ""
    told = f"{version.reference}:{version.number} is {version.status}{reason}"
    # people write reasons: nothing in one may end the header, or be outside of what headers can carry
    quoted = "".join(sign if sign.isprintable() else " " for sign in told)
    quoted = quoted.encode("ascii", "backslashreplace").decode().replace('"', "'")
    return {"Warning": f'299 - "{quoted}"'}


def writable(session: Session, viewer: Viewer, reference: names.Reference) -> Version:
    """The version of a pinned reference, for someone who may change its status."""
    require_scope(viewer, "write")
    row, _ = find(session, viewer, reference, Wanted())
    require_role(session, viewer, row.variant.adapter.organization.name, "writer")
    return row


def _audit_alias(  # noqa: PLR0913, PLR0917  # what the log needs
    session: Session, viewer: Viewer, action: str, row: Version, alias: str, now: datetime
) -> None:
    name = row.variant.adapter.full_name
    audit.record(session, viewer.account_id, action, name, now, alias=alias, digest=row.digest)
