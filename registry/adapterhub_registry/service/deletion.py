"""Delete versions and adapters, and leave a tombstone: no number, digest or name is given twice.

The bytes go with the next garbage collection, where nothing else has them.
"""

from collections.abc import Sequence
from datetime import datetime

import msgspec
from sqlalchemy import Select, delete, func, select, update
from sqlalchemy.orm import Session, undefer

from adapterhub_client import names, wire
from adapterhub_registry.domain.permission import Viewer
from adapterhub_registry.errors import DependedOn
from adapterhub_registry.models import (
    Adapter,
    Alias,
    ImportedEntry,
    ImportedFile,
    Model,
    Repository,
    RepositoryBlob,
    RepositoryCommit,
    RepositoryMove,
    RepositoryRef,
    RetiredName,
    Tombstone,
    Upload,
    Variant,
    Version,
)
from adapterhub_registry.service import audit, indexing, lineage, representation, tombstone
from adapterhub_registry.service.ownership import administered, held_versions
from adapterhub_registry.service.repository import Tree
from adapterhub_registry.service.resolution import Wanted, find
from adapterhub_registry.service.visibility import require_scope


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """Why something shall go; with `force` also where public compositions pin it."""

    reason: str
    force: bool = False


def delete_version(
    session: Session, viewer: Viewer, reference: names.Reference, wish: Wish, now: datetime
) -> wire.Deletion:
    """Delete the version that a pinned reference names.

    Raises:
        DependedOn: Public compositions pin it; they are listed.
    """
    require_scope(viewer, "write")
    found, _ = find(session, viewer, reference, Wanted())
    adapter = administered(session, viewer, names.parse(found.variant.adapter.full_name))
    held_versions(session, adapter)
    rows = _with_variants(session, select(Version.id).filter_by(id=found.id))
    gone = _delete(session, viewer, rows, wish, now)
    _describe_anew(session, adapter, now)
    indexing.refresh(session, [adapter.id])
    return gone


def delete_adapter(
    session: Session, viewer: Viewer, reference: names.Reference, wish: Wish, now: datetime
) -> wire.Deletion:
    """Delete an adapter with all its versions, its repository, and what a reference hub said of it.

    Raises:
        DependedOn: Public compositions of others pin versions of it; they are listed.
    """
    adapter = administered(session, viewer, reference)
    held_versions(session, adapter)
    mine = select(Variant.id).filter_by(adapter_id=adapter.id)
    ids = select(Version.id).where(Version.variant_id.in_(mine))
    gone = _delete(session, viewer, _with_variants(session, ids), wish, now)
    moves = select(RepositoryMove.old_name).filter_by(new_name=adapter.full_name)
    retired = [
        RetiredName(
            full_name=name,
            organization_id=adapter.organization_id,
            private=adapter.private,
            reason=wish.reason,
            deleted_at=now,
            deleted_by_id=viewer.account_id,
        )
        for name in [adapter.full_name, *session.scalars(moves)]
    ]
    session.add_all(retired)
    _empty(session, adapter)
    audit.record(
        session, viewer.account_id, "adapter.delete", retired[0].full_name, now, reason=wish.reason
    )
    session.flush()
    whole = tombstone.shown_name(retired[0])
    return msgspec.structs.replace(gone, deleted=[whole, *gone.deleted])


def _delete(
    session: Session, viewer: Viewer, rows: Sequence[Version], wish: Wish, now: datetime
) -> wire.Deletion:
    """Put tombstones in the place of versions, and take out every row that is about them."""
    if not rows:
        return wire.Deletion(deleted=[])
    name = rows[0].variant.adapter.full_name
    pinning = lineage.pinned_by_public(session, rows)
    if pinning and not wish.force:
        subject = f"{name}:{rows[0].number}" if len(rows) == 1 else name
        raise DependedOn(subject, "deleted", pinning)
    dependants = lineage.dependants(session, viewer, rows)
    graves = [tombstone.of(row, wish.reason) for row in rows]
    for grave in graves:
        grave.deleted_at, grave.deleted_by_id = now, viewer.account_id
        audit.record(
            session,
            viewer.account_id,
            "version.delete",
            name,
            now,
            digest=grave.digest,
            number=grave.number,
            reason=wish.reason,
            forced=bool(pinning),
        )
    session.add_all(graves)
    session.flush()
    _take_out(session, rows, wish.reason)
    return wire.Deletion(deleted=[tombstone.shown(each) for each in graves], dependants=dependants)


def _take_out(session: Session, rows: Sequence[Version], reason: str) -> None:
    ids = [row.id for row in rows]
    _take_from_repositories(session, ids)
    session.execute(delete(Upload).where(Upload.digest.in_([row.digest for row in rows])))
    session.execute(
        update(ImportedFile)
        .where(ImportedFile.version_id.in_(ids))
        .values(version_id=None, state="failed", fault=f"it was deleted here: {reason}")
    )
    for row in rows:
        session.expunge(row)
    for table in reversed(Model.metadata.sorted_tables):
        for key in table.foreign_keys:
            if key.column is Version.__table__.c.id and not key.parent.nullable:
                session.execute(table.delete().where(key.parent.in_(ids)))
    session.execute(delete(Version).where(Version.id.in_(ids)))


def _take_from_repositories(session: Session, ids: Sequence[int]) -> None:
    """A commit that became one of these versions goes too, with its branches and tags, and bytes nothing else has."""
    commits = session.scalars(
        select(RepositoryCommit).where(RepositoryCommit.version_id.in_(ids))
    ).all()
    for commit in commits:
        keys = {"repository_id": commit.repository_id, "oid": commit.oid}
        session.execute(delete(RepositoryRef).filter_by(**keys))
        session.delete(commit)
    session.flush()
    for repository_id in {commit.repository_id for commit in commits}:
        trees = session.scalars(
            select(RepositoryCommit.tree).filter_by(repository_id=repository_id)
        )
        kept = {
            entry.sha256
            for tree in trees
            for entry in msgspec.json.decode(tree, type=Tree).values()
        }
        for blob in session.scalars(
            select(RepositoryBlob).filter_by(repository_id=repository_id)
        ).all():
            if blob.sha256 not in kept:
                session.delete(blob)
    session.flush()


def _empty(session: Session, adapter: Adapter) -> None:
    """Take out an adapter that has no version any more."""
    name, adapter_id = adapter.full_name, adapter.id
    indexing.forget(session, [adapter_id])
    variants = select(Variant.id).filter_by(adapter_id=adapter_id)
    graves = update(Tombstone).where(Tombstone.variant_id.in_(variants))
    session.execute(graves.values(variant_id=None).execution_options(synchronize_session=False))
    entries = select(ImportedEntry.id).filter_by(adapter_id=adapter_id)
    session.execute(delete(ImportedFile).where(ImportedFile.entry_id.in_(entries)))
    session.execute(delete(ImportedEntry).filter_by(adapter_id=adapter_id))
    session.execute(delete(Alias).where(Alias.variant_id.in_(variants)))
    session.execute(delete(Variant).filter_by(adapter_id=adapter_id))
    repositories = select(Repository.id).filter_by(full_name=name)
    for table in (RepositoryBlob, RepositoryRef, RepositoryCommit):
        session.execute(delete(table).where(table.repository_id.in_(repositories)))
    session.execute(delete(Repository).filter_by(full_name=name))
    for move in session.scalars(select(RepositoryMove).filter_by(new_name=name)).all():
        session.delete(move)
    session.expunge(adapter)
    session.execute(delete(Adapter).filter_by(id=adapter_id))


def _describe_anew(session: Session, adapter: Adapter, now: datetime) -> None:
    """An adapter is described by its newest version: that may be another one now."""
    newest = session.scalar(
        select(func.max(Version.id)).join(Version.variant).where(Variant.adapter_id == adapter.id)
    )
    adapter.updated_at = now
    if newest is None:
        return
    row = session.get_one(Version, newest, options=[undefer(Version.manifest)])
    manifest = representation.manifest(row)
    adapter.description, adapter.license = manifest.description, manifest.license
    adapter.languages = manifest.languages


def _with_variants(session: Session, ids: Select[int]) -> list[Version]:
    query = representation.versions_query().where(Version.id.in_(ids))
    return list(session.scalars(query.order_by(Version.number, Version.id)))
