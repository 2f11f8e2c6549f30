"""Write a part of the catalogue, with all that its compositions pin, into one signed file."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from adapterhub_client import names
from adapterhub_client.errors import MalformedReference
from adapterhub_registry.domain.permission import Viewer
from adapterhub_registry.errors import (
    MalformedName,
    OrganizationNotFound,
    StoreFailed,
)
from adapterhub_registry.models import (
    Account,
    Adapter,
    Alias,
    Blob,
    Member,
    Organization,
    RepositoryMove,
    RetiredName,
    Tombstone,
    Variant,
    Version,
    VersionFile,
)
from adapterhub_registry.runtime import Runtime
from adapterhub_registry.service import bundle, signing
from adapterhub_registry.service.representation import moment
from adapterhub_registry.service.resolution import Wanted, find, find_adapter
from adapterhub_registry.storage import BlobCorrupt, BlobMissing
from adapterhub_registry.storage.store import checked

Item = TypeVar("Item")

_AT_ONCE = 500
_OPERATOR = Viewer(is_admin=True, scopes=("admin",))


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """What to export: adapters or pinned versions by reference, organizations by name; nothing named is all."""

    names: tuple[str, ...] = ()
    private: bool = True


class _Chosen(msgspec.Struct, frozen=True):
    """The ids of adapters that are taken whole, and of versions that are taken by themselves."""

    adapters: set[int]
    versions: set[int]


def survey(runtime: Runtime, selection: Selection) -> bundle.Index:
    """Say what a bundle of this selection holds.

    Raises:
        AdapterNotFound, VersionNotFound, OrganizationNotFound: What is named is not here.
        MalformedName: A name is neither a reference nor an organization's.
    """
    with runtime.database.reading() as session:
        if session.get_bind().dialect.name == "postgresql":
            session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        chosen = _chosen(session, selection)
        ids = _closed(session, chosen)
        return bundle.Index(
            source=runtime.settings.public_url or "an AdapterHub registry",
            exported_at=moment(runtime.clock()),
            adapters=_adapters(session, ids),
            versions=_versions(session, ids),
            blobs=_blobs(session, ids),
            tombstones=_tombstones(session, chosen, selection),
            retired=_retired(session, selection),
        )


def write(
    runtime: Runtime,
    index: bundle.Index,
    path: Path,
    keys: Sequence[Ed25519PrivateKey],
    told: bundle.Told,
) -> str:
    """Write a bundle and give the digest of its index; the file has its name only once it is whole.

    Raises:
        StoreFailed: The store has lost bytes, or has others.
    """
    part = path.with_name(f"{path.name}.part")
    content = msgspec.json.encode(index)
    signatures = msgspec.json.encode(signing.sign(keys, bundle.message(content)))
    try:
        with part.open("wb") as file:
            for name, document in ((bundle.INDEX, content), (bundle.SIGNATURE, signatures)):
                _put(file.write, name, len(document), [document])
            done = 0
            for entry, chunks in _contents(runtime, index):
                _put(file.write, entry.path, entry.size_bytes, chunks)
                done += entry.size_bytes
                told(done, index.size_bytes)
            file.write(bundle.end(file.tell()))
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return bundle.digest_of(content)


def _put(
    write_bytes: Callable[[bytes], int], path: str, size: int, chunks: Iterable[bytes]
) -> None:
    write_bytes(bundle.header(path, size))
    for chunk in chunks:
        write_bytes(chunk)
    write_bytes(bundle.padding(size))


def _contents(
    runtime: Runtime, index: bundle.Index
) -> Iterator[tuple[bundle.Entry, Iterable[bytes]]]:
    for batch in _batched(bundle.entries(index), _AT_ONCE):
        digests = [entry.version.digest for entry in batch if entry.version is not None]
        with runtime.database.reading() as session:
            query = select(Version.digest, Version.manifest).where(Version.digest.in_(digests))
            manifests = dict(session.execute(query).all())
        for entry in batch:
            if entry.version is None:
                yield entry, _bytes(runtime, entry)
            elif entry.version.digest in manifests:
                yield entry, [manifests[entry.version.digest]]
            else:
                raise StoreFailed(f"{entry.version.digest} was deleted while it was exported.")


def _bytes(runtime: Runtime, entry: bundle.Entry) -> Iterator[bytes]:
    try:
        chunks = runtime.store.read(entry.sha256)
        yield from checked(entry.sha256, chunks, entry.size_bytes)
    except BlobMissing as error:
        raise StoreFailed(f"The store has lost the bytes of {entry.sha256!r}.") from error
    except BlobCorrupt as error:
        raise StoreFailed(str(error)) from error


def _chosen(session: Session, selection: Selection) -> _Chosen:
    found = _Chosen(set(), set())
    for name in selection.names:
        if "/" not in name:
            owner = select(Organization.id).filter_by(name=name.removeprefix("@"))
            organization_id = session.scalar(owner)
            if organization_id is None:
                raise OrganizationNotFound(name.removeprefix("@"))
            held = select(Adapter.id).filter_by(organization_id=organization_id)
            found.adapters.update(session.scalars(held))
            continue
        reference = _reference(name)
        if reference.version is None:
            found.adapters.add(find_adapter(session, _OPERATOR, reference).id)
        else:
            found.versions.add(find(session, _OPERATOR, reference, Wanted())[0].id)
    if not selection.names:
        found.adapters.update(session.scalars(select(Adapter.id)))
    if not selection.private:
        hidden = set(session.scalars(select(Adapter.id).where(Adapter.private.is_(True))))
        found.adapters.difference_update(hidden)
    return found


def _reference(name: str) -> names.Reference:
    try:
        return names.parse(name)
    except MalformedReference as error:
        raise MalformedName(f"{error} {error.hint}".strip()) from error


def _closed(session: Session, chosen: _Chosen) -> list[int]:
    """The chosen versions and all that they pin, oldest first: members come before what pins them."""
    found = set(chosen.versions)
    for batch in _batched(sorted(chosen.adapters), _AT_ONCE):
        query = select(Version.id).join(Version.variant).where(Variant.adapter_id.in_(batch))
        found.update(session.scalars(query))
    fresh = found
    while fresh:
        pinned: set[int] = set()
        for batch in _batched(sorted(fresh), _AT_ONCE):
            query = select(Member.member_version_id).where(Member.version_id.in_(batch))
            pinned.update(session.scalars(query))
        fresh = pinned - found
        found |= fresh
    return sorted(found)


def _adapters(session: Session, ids: Sequence[int]) -> list[bundle.Adapter]:
    rows: dict[int, Adapter] = {}
    aliases: dict[int, list[bundle.Alias]] = {}
    for batch in _batched(ids, _AT_ONCE):
        query = select(Adapter).join(Variant, Variant.adapter_id == Adapter.id)
        query = query.join(Version, Version.variant_id == Variant.id)
        rows.update((row.id, row) for row in session.scalars(query.where(Version.id.in_(batch))))
        named = (
            select(Variant.adapter_id, Alias.name, Version.digest)
            .join(Variant, Variant.id == Alias.variant_id)
            .join(Version, Version.id == Alias.version_id)
            .where(Version.id.in_(batch))
        )
        for adapter_id, name, digest in session.execute(named):
            aliases.setdefault(adapter_id, []).append(bundle.Alias(name, digest))
    moves: dict[str, list[str]] = {}
    for move in session.scalars(select(RepositoryMove).order_by(RepositoryMove.old_name)):
        moves.setdefault(move.new_name, []).append(move.old_name)
    return [
        bundle.Adapter(
            reference=row.full_name,
            private=row.private,
            formerly=moves.get(row.full_name, []),
            aliases=sorted(aliases.get(row.id, []), key=lambda each: (each.name, each.digest)),
        )
        for row in sorted(rows.values(), key=lambda row: row.full_name)
    ]


def _versions(session: Session, ids: Sequence[int]) -> list[bundle.Version]:
    found: list[bundle.Version] = []
    for batch in _batched(ids, _AT_ONCE):
        query = (
            select(Version, func.length(Version.manifest), Adapter.full_name, Account.name)
            .join(Version.variant)
            .join(Variant.adapter)
            .join(Account, Account.id == Version.created_by_id)
            .where(Version.id.in_(batch))
            .order_by(Version.id)
        )
        found.extend(
            bundle.Version(
                digest=row.digest,
                manifest_bytes=size,
                reference=full_name,
                published_as=row.published_as,
                number=row.number,
                status=row.status,
                reason=row.reason,
                created_at=row.created_at.isoformat(),
                created_by=account,
            )
            for row, size, full_name, account in session.execute(query)
        )
    return found


def _blobs(session: Session, ids: Sequence[int]) -> list[bundle.Blob]:
    sizes: dict[str, int] = {}
    for batch in _batched(ids, _AT_ONCE):
        query = select(Blob.sha256, Blob.size_bytes).join(
            VersionFile, VersionFile.sha256 == Blob.sha256
        )
        sizes.update(session.execute(query.where(VersionFile.version_id.in_(batch))).all())
    return [bundle.Blob(sha256, sizes[sha256]) for sha256 in sorted(sizes)]


def _tombstones(session: Session, chosen: _Chosen, selection: Selection) -> list[bundle.Grave]:
    """Of the adapters that are taken whole; where nothing is named, all."""
    query = select(Tombstone).order_by(Tombstone.digest)
    if selection.names:
        held = select(Adapter.full_name).where(Adapter.id.in_(chosen.adapters))
        query = query.where(
            or_(Tombstone.full_name.in_(held), Tombstone.full_name.in_(selection.names))
        )
    if not selection.private:
        query = query.where(Tombstone.private.is_(False))
    return [
        bundle.Grave(
            digest=row.digest,
            reference=row.full_name,
            number=row.number,
            private=row.private,
            base_key=row.base_key,
            base_name=row.base_name,
            method=row.method,
            config_id=row.config_id,
            size_bytes=row.size_bytes,
            reason=row.reason,
            published_at=row.published_at.isoformat(),
            deleted_at=row.deleted_at.isoformat(),
        )
        for row in session.scalars(query)
    ]


def _retired(session: Session, selection: Selection) -> list[bundle.Retired]:
    query = select(RetiredName).order_by(RetiredName.full_name)
    if selection.names:
        owners = [name.removeprefix("@") for name in selection.names if "/" not in name]
        held = select(Organization.id).where(Organization.name.in_(owners))
        query = query.where(RetiredName.organization_id.in_(held))
    if not selection.private:
        query = query.where(RetiredName.private.is_(False))
    return [
        bundle.Retired(
            reference=row.full_name,
            private=row.private,
            reason=row.reason,
            deleted_at=row.deleted_at.isoformat(),
        )
        for row in session.scalars(query)
    ]


def _batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    left = iter(items)
    while batch := list(islice(left, size)):
        yield batch
