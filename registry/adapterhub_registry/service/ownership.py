"""Whose an adapter is and who may read it: transfer to another organization, private and public."""

from datetime import datetime

import msgspec
from sqlalchemy import delete, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from adapterhub_client import names, wire
from adapterhub_registry.domain.permission import Viewer
from adapterhub_registry.errors import (
    DependedOn,
    InvalidRequest,
    NameTaken,
    PrivateMembers,
)
from adapterhub_registry.models import (
    Adapter,
    Repository,
    RepositoryMove,
    RetiredName,
    Tombstone,
    Variant,
    Version,
)
from adapterhub_registry.service import audit, catalogue, indexing, lineage
from adapterhub_registry.service.resolution import find_adapter
from adapterhub_registry.service.visibility import require_role, require_scope


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """An adapter after a change, and what pins its versions or came from them."""

    summary: wire.AdapterSummary
    dependants: list[wire.Version] = []


def set_private(
    session: Session, viewer: Viewer, reference: names.Reference, now: datetime, *, private: bool
) -> Changed:
    """Let everyone read an adapter, or only its organization.

    Raises:
        PrivateMembers: It shall be public and pins what is not; all of that is named.
        DependedOn: It shall be private and something public pins it.
    """
    adapter = administered(session, viewer, reference)
    change_visibility(session, adapter, private=private)
    rows = held_versions(session, adapter)
    action = "adapter.private" if private else "adapter.public"
    audit.record(session, viewer.account_id, action, adapter.full_name, now)
    indexing.refresh(session, [adapter.id])
    return _changed(session, viewer, adapter, rows)


def change_visibility(session: Session, adapter: Adapter, *, private: bool) -> None:
    """Change who may read, where no public composition is left with members that are not; for any door."""
    rows = held_versions(session, adapter)
    if private:
        pinning = lineage.pinned_by_public(session, rows, besides=adapter.id)
        if pinning:
            raise DependedOn(adapter.full_name, "made private", pinning)
    else:
        hidden = lineage.private_members(session, [row.id for row in rows])
        hidden = [name for name in hidden if name != adapter.full_name]
        if hidden:
            raise PrivateMembers(adapter.full_name, hidden)
    adapter.private = private
    session.execute(
        update(Tombstone).filter_by(full_name=adapter.full_name).values(private=private)
    )
    session.execute(
        update(Repository).filter_by(full_name=adapter.full_name).values(private=private)
    )


def transfer(
    session: Session, viewer: Viewer, reference: names.Reference, org: str, now: datetime
) -> Changed:
    """Give an adapter to another organization: its versions, numbers and digests stay, and the old name leads on.

    Raises:
        MissingRole: It takes an admin of the one, and a writer of the other.
        NameTaken: The other organization has or had an adapter or a repository of this name.
    """
    adapter = administered(session, viewer, reference)
    organization = require_role(session, viewer, org, "writer")
    if organization.id == adapter.organization_id:
        raise InvalidRequest(f"{adapter.full_name!r} belongs to {org!r} already.")
    old, new = adapter.full_name, f"{adapter.task.name}/{adapter.name}@{org}"
    _require_free(session, old, new)
    rows = held_versions(session, adapter)
    indexing.forget(session, [adapter.id])
    adapter.organization_id, adapter.full_name, adapter.updated_at = organization.id, new, now
    try:
        session.flush()
    except IntegrityError as error:  # somebody published there just now
        raise NameTaken(new) from error
    _rename(session, adapter, (old, new), now)
    audit.record(session, viewer.account_id, "adapter.transfer", old, now, to=new)
    audit.record(session, viewer.account_id, "adapter.receive", new, now, source=old)
    session.flush()
    session.refresh(adapter)
    indexing.refresh(session, [adapter.id])
    return _changed(session, viewer, adapter, rows)


def administered(session: Session, viewer: Viewer, reference: names.Reference) -> Adapter:
    """The adapter, locked against publishes until the transaction ends, for an admin of its organization."""
    require_scope(viewer, "write")
    adapter = find_adapter(session, viewer, reference)
    require_role(session, viewer, adapter.organization.name, "admin")
    session.execute(select(Adapter.id).filter_by(id=adapter.id).with_for_update())
    return adapter


def held_versions(session: Session, adapter: Adapter) -> list[Version]:
    """All its versions, locked: whoever pins one of them waits, and then looks again."""
    query = select(Version).join(Version.variant).where(Variant.adapter_id == adapter.id)
    return list(session.scalars(query.order_by(Version.id).with_for_update(of=Version)))


def _rename(session: Session, adapter: Adapter, change: tuple[str, str], now: datetime) -> None:
    old, new = change
    mine = select(Variant.id).filter_by(adapter_id=adapter.id)
    published = (
        update(Version)
        .where(Version.variant_id.in_(mine))
        .execution_options(synchronize_session=False)
    )
    session.execute(published.where(Version.published_as.is_(None)).values(published_as=old))
    session.execute(published.where(Version.published_as == new).values(published_as=None))
    owner = adapter.organization_id
    for table in (Tombstone, Repository):
        moved = update(table).filter_by(full_name=old)
        session.execute(moved.values(full_name=new, organization_id=owner))
    reference = names.parse(new)
    spelled = update(Repository).filter_by(full_name=new).values(spelling=reference.repo_id)
    session.execute(spelled)
    session.execute(update(RepositoryMove).filter_by(new_name=old).values(new_name=new))
    session.execute(delete(RepositoryMove).filter_by(old_name=new))
    session.add(RepositoryMove(old_name=old, new_name=new, moved_at=now))


def _require_free(session: Session, old: str, new: str) -> None:
    """A name that leads elsewhere is taken too, unless it leads back to this very adapter."""
    for table in (Adapter, Repository, RetiredName):
        if session.scalar(select(table.full_name).filter_by(full_name=new)) is not None:
            raise NameTaken(new)
    moved = session.get(RepositoryMove, new)
    if moved is not None and moved.new_name != old:
        raise NameTaken(new)


def _changed(session: Session, viewer: Viewer, adapter: Adapter, rows: list[Version]) -> Changed:
    return Changed(
        summary=catalogue.summaries(session, [adapter])[0],
        dependants=lineage.dependants(session, viewer, rows),
    )
