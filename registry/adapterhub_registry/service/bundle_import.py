"""Take a signed bundle in: the same digests, numbers and aliases as where it was made.

First all of it is read and hashed, and held against the catalogue; nothing is written before that. Then the blobs,
then the versions one by one, members first, each in a transaction of its own, then what else the bundle says. It can
be stopped anywhere and run again: what is here is not taken in twice.
"""

from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from adapterhub_client import names, wire
from adapterhub_client.errors import MalformedReference
from adapterhub_registry.database import ensure, ensure_with, keep_blobs
from adapterhub_registry.domain.permission import Viewer
from adapterhub_registry.errors import BundleRefused, StoreFailed
from adapterhub_registry.models import (
    Account,
    Adapter,
    Alias,
    BaseModel,
    Blob,
    ImportedBundle,
    Organization,
    RepositoryMove,
    RetiredName,
    Task,
    Tombstone,
    Variant,
    Version,
)
from adapterhub_registry.runtime import Runtime
from adapterhub_registry.service import audit, bundle, holding, indexing, recording, rules
from adapterhub_registry.storage import BlobMissing

IMPORTER = "bundle-import"
"""the account that what is taken in is published by"""
_OPERATOR = Viewer(is_admin=True, scopes=("admin",))
_SHOWN = 20


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """What a bundle brought."""

    digest: str
    key_id: str
    source: str
    exported_at: str
    versions: int
    """new ones"""
    blobs: int
    """new ones"""
    size_bytes: int
    """of those"""
    known: int
    """versions that were here"""
    left_out: list[str]
    """versions that were deleted here, and so do not come back"""
    still_here: list[str]
    """versions that were deleted there"""
    is_stale: bool
    """a newer bundle of this source is in: neither status nor aliases were changed"""


def take(runtime: Runtime, path: Path, trusted: dict[str, Any], told: bundle.Told) -> Taken:
    """Take a bundle in.

    Raises:
        BundleRefused: It is not what a trusted key signed, breaks a rule, or does not fit what is here; nothing was
            written.
    """
    seal = examine(runtime, path, trusted, told)
    blobs = size_bytes = versions = 0
    left_out: list[str] = []
    holding.hold_now(runtime, [blob.sha256 for blob in seal.index.blobs])
    for entry, content in bundle.read(path, seal):
        if entry.version is None:
            if not _has(runtime, entry):
                runtime.store.put(entry.sha256, content(), entry.size_bytes)
                blobs, size_bytes = blobs + 1, size_bytes + entry.size_bytes
            continue
        created = _write(runtime, seal, entry.version, b"".join(content()))
        if created is None:
            left_out.append(_named(entry.version))
        versions += bool(created)
    with runtime.database.writing() as session:
        is_stale = _is_stale(session, seal)
        still_here = _apply(session, seal, runtime.clock(), is_stale=is_stale)
    return Taken(
        digest=seal.digest,
        key_id=seal.key_id,
        source=seal.index.source,
        exported_at=seal.index.exported_at,
        versions=versions,
        blobs=blobs,
        size_bytes=size_bytes,
        known=len(seal.index.versions) - versions - len(left_out),
        left_out=left_out,
        still_here=still_here,
        is_stale=is_stale,
    )


def examine(
    runtime: Runtime, path: Path, trusted: dict[str, Any], told: bundle.Told
) -> bundle.Seal:
    """Read a bundle and hold it against the catalogue; nothing is written. BundleRefused."""
    held = _Look(runtime)
    seal = bundle.verify(path, trusted, held.look, told)
    held.close(seal.index)
    return seal


class _Look:
    """Collects all that is wrong while a bundle is read for the first time."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.wrong: list[str] = []
        self.blobs: dict[str, int] = {}

    def look(self, entry: bundle.Entry, content: bytes) -> None:
        """Read a manifest and hold it against the rules and the catalogue."""
        version = entry.version
        if version is None:
            return
        name = _named(version)
        try:
            manifest = msgspec.json.decode(content, type=wire.Manifest)
            stated = version.published_as or version.reference
            if manifest.reference.reference.adapter != stated:
                self.wrong.append(f"{name} has the manifest of {manifest.reference.reference}")
            names.parse(version.reference)
        except (msgspec.DecodeError, MalformedReference) as error:
            self.wrong.append(f"{name} cannot be read: {error}")
            return
        broken = rules.faults(manifest, self.runtime.settings)
        self.wrong.extend(f"{name}: {each}" for each in broken)
        self.blobs.update((file.sha256, file.size_bytes) for file in manifest.files)
        with self.runtime.database.reading() as session:
            conflict = _conflict(session, version, manifest)
        if conflict is not None:
            self.wrong.append(f"{name} {conflict}")

    def close(self, index: bundle.Index) -> None:
        """Refuse the bundle where anything is wrong with it."""
        brought = {blob.sha256: blob.size_bytes for blob in index.blobs}
        lost = [sha256 for sha256, size in self.blobs.items() if brought.get(sha256) != size]
        self.wrong.extend(f"the blob {sha256} is not in it" for sha256 in sorted(lost))
        if self.wrong:
            more = len(self.wrong) - _SHOWN
            shown = [*self.wrong[:_SHOWN], *([f"and {more} more"] if more > 0 else [])]
            raise BundleRefused("The bundle is refused: " + "; ".join(shown) + ".")


def _conflict(session: Session, version: bundle.Version, manifest: wire.Manifest) -> str | None:
    """Why a version cannot stand beside what is here; None where it can, or is here already."""
    here = session.scalar(select(Version.number).filter_by(digest=version.digest).limit(1))
    if here is not None:
        return None if here == version.number else f"is number {here} here"
    if session.get(RetiredName, version.reference) is not None:
        return "belongs to an adapter that was deleted here"
    base = manifest.base
    taken = session.scalar(
        select(Version.digest)
        .join(Version.variant)
        .join(Variant.adapter)
        .join(Variant.base_model)
        .where(
            Adapter.full_name == version.reference,
            BaseModel.key == (base.fingerprint or f"name:{base.name}"),
            Variant.config_id == manifest.method.config_id,
            Version.number == version.number,
        )
    )
    return None if taken is None else f"has the number of {taken}, which is here"


def _has(runtime: Runtime, entry: bundle.Entry) -> bool:
    try:
        held = runtime.store.size_bytes(entry.sha256) == entry.size_bytes
    except BlobMissing:
        return False
    with runtime.database.reading() as session:
        return held and session.get(Blob, entry.sha256) is not None


def _write(
    runtime: Runtime, seal: bundle.Seal, version: bundle.Version, canonical: bytes
) -> bool | None:
    """Write one version; whether it is new, or None where it was deleted here."""
    manifest = msgspec.json.decode(canonical, type=wire.Manifest)
    now = runtime.clock()
    with runtime.database.writing() as session:
        if session.scalar(select(Version.id).filter_by(digest=version.digest)) is not None:
            return False
        if session.get(Tombstone, version.digest) is not None:
            return None
        keep_blobs(session)
        for file in manifest.files:
            try:
                runtime.store.size_bytes(file.sha256)
            except BlobMissing as error:
                raise StoreFailed(
                    f"The blob {file.sha256!r} was collected as garbage meanwhile: run the import again."
                ) from error
        adapter = _adapter(session, seal, version, now)
        release = recording.Release(
            manifest=manifest,
            canonical=canonical,
            digest=version.digest,
            created_at=datetime.fromisoformat(version.created_at),
            account_id=_importer(session, now).id,
            number=version.number,
            status=version.status,
            reason=version.reason,
        )
        members_of, _ = recording.members(session, _OPERATOR, manifest)
        row, created = recording.write(session, adapter, release, members_of)
        row.published_as = version.published_as
        detail = {
            "digest": row.digest,
            "number": row.number,
            "published_by": version.created_by,
            "bundle": seal.digest,
        }
        audit.record(session, None, "version.import", adapter.full_name, now, **detail)
        indexing.refresh(session, [adapter.id])
    return created


def _adapter(
    session: Session, seal: bundle.Seal, version: bundle.Version, now: datetime
) -> Adapter:
    reference = names.parse(version.reference)
    stated = next(
        (each for each in seal.index.adapters if each.reference == version.reference), None
    )
    organization = ensure_with(session, Organization, {"name": reference.org}, {"created_at": now})
    task = ensure(session, Task, name=reference.task)
    keys = {"organization_id": organization.id, "task_id": task.id, "name": reference.name}
    rest = {
        "full_name": reference.adapter,
        "private": stated is None or stated.private,
        "description": "",
        "languages": [],
        "downloads": 0,
        "created_at": now,
        "updated_at": now,
    }
    return ensure_with(session, Adapter, keys, rest)


def _importer(session: Session, now: datetime) -> Account:
    row = session.scalar(select(Account).filter_by(name=IMPORTER))
    if row is None:
        row = ensure_with(
            session, Account, {"name": IMPORTER}, {"is_admin": False, "created_at": now}
        )
        audit.record(session, None, "account.create", IMPORTER, now, is_admin=False)
    return row


def _is_stale(session: Session, seal: bundle.Seal) -> bool:
    newest = session.scalar(
        select(func.max(ImportedBundle.exported_at)).filter_by(source=seal.index.source)
    )
    return newest is not None and newest > datetime.fromisoformat(seal.index.exported_at)


def _apply(session: Session, seal: bundle.Seal, now: datetime, *, is_stale: bool) -> list[str]:
    """Do what else a bundle says; give the versions that were deleted there and are here."""
    index = seal.index
    if not is_stale:
        _set_statuses(session, index, now)
        _set_aliases(session, index, now)
    _lead_on(session, index, now)
    still_here = _bury(session, index, now)
    keys = {"digest": seal.digest}
    rest = {
        "source": index.source,
        "exported_at": datetime.fromisoformat(index.exported_at),
        "imported_at": now,
        "key_id": seal.key_id,
    }
    ensure_with(session, ImportedBundle, keys, rest)
    detail = {"source": index.source, "key": seal.key_id, "versions": len(index.versions)}
    audit.record(session, None, "bundle.import", seal.digest, now, **detail)
    return still_here


def _set_statuses(session: Session, index: bundle.Index, now: datetime) -> None:
    changed: set[int] = set()
    for each in index.versions:
        row = session.scalar(select(Version).filter_by(digest=each.digest))
        if row is None or (row.status, row.reason) == (each.status, each.reason):
            continue
        row.status, row.reason = each.status, each.reason
        detail = {"digest": row.digest, "reason": each.reason}
        audit.record(session, None, f"version.{each.status}", each.reference, now, **detail)
        changed.add(row.variant.adapter_id)
    if changed:
        indexing.refresh(session, changed)


def _set_aliases(session: Session, index: bundle.Index, now: datetime) -> None:
    for adapter in index.adapters:
        for alias in adapter.aliases:
            row = session.scalar(select(Version).filter_by(digest=alias.digest))
            if row is None:
                continue
            held = session.get(Alias, (row.variant_id, alias.name))
            if held is not None and held.version_id == row.id:
                continue
            if held is None:
                held = Alias(variant_id=row.variant_id, name=alias.name)
                session.add(held)
            held.version_id, held.updated_at = row.id, now
            detail = {"alias": alias.name, "digest": alias.digest}
            audit.record(session, None, "alias.set", adapter.reference, now, **detail)
    session.flush()


def _lead_on(session: Session, index: bundle.Index, now: datetime) -> None:
    """Old names lead to where the adapter is, where nothing here has them."""
    for adapter in index.adapters:
        for old in adapter.formerly:
            if session.scalar(select(Adapter.id).filter_by(full_name=old)) is None:
                rest = {"new_name": adapter.reference, "moved_at": now}
                ensure_with(session, RepositoryMove, {"old_name": old}, rest)


def _bury(session: Session, index: bundle.Index, now: datetime) -> list[str]:
    """Numbers and names that are spent there are spent here."""
    still_here = []
    for grave in index.tombstones:
        if session.scalar(select(Version.id).filter_by(digest=grave.digest)) is not None:
            still_here.append(f"{grave.reference}:{grave.number} ({grave.digest})")
            continue
        rest = {
            **msgspec.structs.asdict(grave),
            "organization_id": _owner(session, grave.reference, now),
            "full_name": grave.reference,
            "variant_id": _variant(session, grave),
            "published_at": datetime.fromisoformat(grave.published_at),
            "deleted_at": datetime.fromisoformat(grave.deleted_at),
        }
        del rest["digest"], rest["reference"]
        ensure_with(session, Tombstone, {"digest": grave.digest}, rest)
    for name in index.retired:
        if session.scalar(select(Adapter.id).filter_by(full_name=name.reference)) is not None:
            still_here.append(name.reference)
            continue
        rest = {
            "organization_id": _owner(session, name.reference, now),
            "private": name.private,
            "reason": name.reason,
            "deleted_at": datetime.fromisoformat(name.deleted_at),
        }
        ensure_with(session, RetiredName, {"full_name": name.reference}, rest)
    return still_here


def _owner(session: Session, reference: str, now: datetime) -> int:
    """The organization of a name, made where it is not here."""
    keys = {"name": names.parse(reference).org}
    return ensure_with(session, Organization, keys, {"created_at": now}).id


def _variant(session: Session, grave: bundle.Grave) -> int | None:
    return session.scalar(
        select(Variant.id)
        .join(Variant.adapter)
        .join(Variant.base_model)
        .where(
            Adapter.full_name == grave.reference,
            BaseModel.key == grave.base_key,
            Variant.config_id == grave.config_id,
        )
    )


def _named(version: bundle.Version) -> str:
    return f"{version.reference}:{version.number}"
