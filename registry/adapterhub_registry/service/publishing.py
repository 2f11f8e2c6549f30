"""Publish a version: blobs first, manifest last, one transaction.

`begin` says which blobs are missing, `receiving` takes them, `commit` hashes what is not hashed yet and writes the
version. Hashing happens before the transaction, so a large push does not keep others from writing. A crash anywhere
leaves the catalogue as it was, or with the whole version in it, and the same push goes on from there.

A blob comes by one of two ways. Most pass through the registry, which hashes them on the way, looks into weights, and
puts them at their final place; a receipt (`UploadBlob`) says that this upload brought it, and what was seen. A large
one (`direct_bytes`) is staged where the store says, in parts that survive a push that is killed; `commit` hashes it.
"""

import secrets
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TypeVar

import msgspec
import rfc8785
from sqlalchemy import and_, delete, select
from sqlalchemy.orm import Session

from adapterhub_client import wire
from adapterhub_registry import telemetry
from adapterhub_registry.database import keep_blobs
from adapterhub_registry.domain.permission import Viewer
from adapterhub_registry.errors import (
    ContentRefused,
    ManifestRefused,
    PublicAlready,
    StoreFailed,
    UploadIncomplete,
    UploadNotFound,
)
from adapterhub_registry.models import Blob, Upload, UploadBlob, Variant, Version, VersionFile
from adapterhub_registry.runtime import Runtime
from adapterhub_registry.service import (
    holding,
    quota,
    receiving,
    recording,
    representation,
    rules,
    shapes,
)
from adapterhub_registry.service.visibility import open_files, readable, require_role, require_scope
from adapterhub_registry.service.weights import Findings, Inspection
from adapterhub_registry.storage import BlobCorrupt, BlobMissing
from adapterhub_registry.storage.store import part_sizes, verify

Item = TypeVar("Item")
Found = TypeVar("Found")

_CHECKED_AT_ONCE = 500
_LARGEST_FINGERPRINT = 32 * 1024 * 1024
_AT_ONCE = 8
"""blobs of one upload that the store is asked for side by side"""
_FRESH = timedelta(minutes=15)


class _Shaped(msgspec.Struct, frozen=True):
    shape: list[int]


class _Fingerprint(msgspec.Struct, frozen=True):
    """Of a base's fingerprint, what is held against the weights."""

    tensors: dict[str, _Shaped] = {}


class _Pending(msgspec.Struct, frozen=True):
    """An upload as `commit` works on it."""

    upload: Upload
    manifest: wire.Manifest
    known: frozenset[str]
    """blobs the viewer need not send: of versions they may read, or made themselves"""
    brought: dict[str, Findings | None]
    """blobs that this upload has brought through the registry: hashed already, and weights looked into"""
    published: wire.Version | None


def begin(runtime: Runtime, viewer: Viewer, draft: wire.UploadDraft) -> wire.Upload:
    """Open an upload for a manifest, or go on with the one there is.

    Raises:
        OrganizationNotFound, MissingRole: The viewer may not publish there.
        ManifestRefused: Every rule that is broken.
        PublicAlready: It shall be private, and the adapter is public.
        QuotaExceeded: The organization has no room for it.
    """
    require_scope(viewer, "write")
    broken = rules.faults(draft.manifest, runtime.settings)
    canonical = _canonical(draft.manifest, broken)
    upload = runtime.database.transact(
        lambda session: _begun(session, runtime, viewer, draft, canonical)
    )
    pending = _pending(runtime, viewer, upload.id)
    return wire.Upload(
        id=upload.id,
        digest=upload.digest,
        missing=[] if pending.published else _missing(runtime, pending),
        expires_at=representation.moment(upload.expires_at),
        published=pending.published,
        batch=f"/api/v1/uploads/{upload.id}/blobs",
        small_bytes=receiving.SMALL_BYTES,
        batch_bytes=receiving.BATCH_BYTES,
    )


def commit(runtime: Runtime, viewer: Viewer, upload_id: str) -> tuple[wire.Version, bool]:
    """Hash every blob, then write the version; also says whether it is new.

    Raises:
        UploadNotFound: There is no such upload.
        UploadIncomplete: Blobs are missing.
        ContentRefused: Bytes that are not what they claim; they have to be sent again.
        QuotaExceeded: The organization has no room for it any more.
    """
    require_scope(viewer, "write")
    pending = _pending(runtime, viewer, upload_id)
    if pending.published is not None:
        return pending.published, False
    try:
        _verify(runtime, pending)
    except UploadIncomplete:
        # A second commit of the same upload may have ended, and its staged blobs be gone.
        again = _pending(runtime, viewer, upload_id)
        if again.published is None:
            raise
        return again.published, False

    def write(session: Session) -> tuple[wire.Version, bool]:
        keep_blobs(session)
        _require_blobs(runtime, pending)
        row, created = recording.record(session, viewer, upload_id, runtime.clock())
        if created:
            quota.require_room(session, runtime.settings, pending.manifest.reference.org)
        session.execute(delete(UploadBlob).filter_by(upload_id=upload_id))
        return representation.version(row), created

    version, created = runtime.database.transact(write)
    if created:
        telemetry.publish(version.size_bytes)
    if _is_large(runtime, pending):
        runtime.store.discard(upload_id)
    return version, created


def known_blobs(session: Session, viewer: Viewer, files: Iterable[wire.File]) -> frozenset[str]:
    """Which of these blobs the viewer has already: in a version they may read, or published themselves."""
    wanted = sorted({file.sha256 for file in files})
    theirs = and_(readable(viewer), open_files(viewer))
    if viewer.organizations is None:  # a token for some organizations knows nothing of the others
        theirs |= Version.created_by_id == viewer.account_id
    query = (
        select(VersionFile.sha256)
        .join(Version, VersionFile.version_id == Version.id)
        .join(Version.variant)
        .join(Variant.adapter)
        .where(theirs)
        .distinct()
    )
    found: set[str] = set()
    for at in range(0, len(wanted), _CHECKED_AT_ONCE):
        part = wanted[at : at + _CHECKED_AT_ONCE]
        found.update(session.scalars(query.where(VersionFile.sha256.in_(part))))
    sizes = {file.sha256: file.size_bytes for file in files}
    rows = session.scalars(select(Blob).where(Blob.sha256.in_(found)))
    return frozenset(row.sha256 for row in rows if row.size_bytes == sizes[row.sha256])


def open_upload(session: Session, runtime: Runtime, viewer: Viewer, upload_id: str) -> Upload:
    """The viewer's upload of this id; UploadNotFound, also where it has expired."""
    upload = session.scalar(select(Upload).filter_by(id=upload_id, account_id=viewer.account_id))
    if upload is None or upload.expires_at <= runtime.clock():
        raise UploadNotFound(upload_id)
    return upload


def _begun(
    session: Session, runtime: Runtime, viewer: Viewer, draft: wire.UploadDraft, canonical: bytes
) -> Upload:
    """The row of an upload for a manifest: the one there is, or a new one."""
    require_role(session, viewer, draft.manifest.reference.org, "writer")
    recording.require_possible(session, viewer, draft.manifest)
    _, absent = recording.members(session, viewer, draft.manifest)
    if absent:
        raise ManifestRefused(absent)
    full_name = draft.manifest.reference.reference.adapter
    if draft.private and recording.is_public(session, full_name):
        raise PublicAlready(full_name)
    account_id, now = require_scope(viewer, "write"), runtime.clock()
    digest = wire.digest(draft.manifest)
    upload = session.scalar(
        select(Upload)
        .filter_by(account_id=account_id, digest=digest, private=draft.private)
        .where(Upload.expires_at > now)
        .order_by(Upload.created_at.desc())
        .limit(1)
    )
    if upload is None:
        upload = Upload(
            id=secrets.token_hex(16),
            account_id=account_id,
            digest=digest,
            manifest=canonical,
            private=draft.private,
            created_at=now,
            expires_at=now + runtime.upload_lifetime,
        )
        session.add(upload)
    holding.hold(session, blob_sizes(draft.manifest), upload.expires_at)
    version = session.scalar(select(Version).filter_by(digest=digest))
    if version is not None:
        upload.version_id = version.id
    else:
        org, sizes = draft.manifest.reference.org, blob_sizes(draft.manifest)
        quota.require_room(session, runtime.settings, org, sizes, versions=1)
    return upload


def _canonical(manifest: wire.Manifest, broken: list[str]) -> bytes:
    if broken:
        raise ManifestRefused(broken)
    try:
        return wire.canonical(manifest)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError) as error:
        raise ManifestRefused([f"it has no canonical form: {error}"]) from error


def _pending(runtime: Runtime, viewer: Viewer, upload_id: str) -> _Pending:
    with runtime.database.reading() as session:
        upload = open_upload(session, runtime, viewer, upload_id)
        manifest = msgspec.json.decode(upload.manifest, type=wire.Manifest)
        row = None
        if upload.version_id is not None:
            row = session.scalar(
                representation.versions_query().where(Version.id == upload.version_id)
            )
        return _Pending(
            upload,
            manifest,
            known_blobs(session, viewer, manifest.files),
            _brought(session, upload_id),
            None if row is None else representation.version(row),
        )


def _brought(session: Session, upload_id: str) -> dict[str, Findings | None]:
    rows = session.scalars(select(UploadBlob).filter_by(upload_id=upload_id))
    return {
        row.sha256: None if row.findings is None else msgspec.convert(row.findings, Findings)
        for row in rows
    }


def _missing(runtime: Runtime, pending: _Pending) -> list[wire.UploadTarget]:
    blobs = blob_sizes(pending.manifest)
    staged = _staged(runtime, pending)
    # of what is staged the store said the size in one answer; of the rest it has to be asked one by one
    asked = [sha256 for sha256 in blobs if sha256 in pending.known | pending.brought.keys()]
    held = dict(zip(asked, _side_by_side(lambda each: _size(runtime, each), asked), strict=True))
    return [
        _target(runtime, pending, sha256, size_bytes)
        for sha256, size_bytes in blobs.items()
        if size_bytes not in {staged.get(sha256), held.get(sha256)}
    ]


def _staged(runtime: Runtime, pending: _Pending) -> Mapping[str, int]:
    """What is staged for an upload; a store is asked only where something may be."""
    return runtime.store.staged(pending.upload.id) if _is_large(runtime, pending) else {}


def _is_large(runtime: Runtime, pending: _Pending) -> bool:
    """Whether there is a blob that does not pass through the registry."""
    return any(file.size_bytes > runtime.settings.direct_bytes for file in pending.manifest.files)


def _target(runtime: Runtime, pending: _Pending, sha256: str, size_bytes: int) -> wire.UploadTarget:
    url = f"/api/v1/uploads/{pending.upload.id}/blobs/{sha256}"
    is_direct = size_bytes > runtime.settings.direct_bytes
    if is_direct and part_sizes(size_bytes):
        return wire.UploadTarget(
            sha256=sha256, size_bytes=size_bytes, url=f"{url}/parts", in_parts=True
        )
    target = None
    if is_direct:
        lifetime = pending.upload.expires_at - runtime.clock()
        target = runtime.store.upload_target(pending.upload.id, sha256, size_bytes, lifetime)
    return wire.UploadTarget(
        sha256=sha256,
        size_bytes=size_bytes,
        url=url if target is None else target.url,
        headers={} if target is None else target.headers,
    )


def blob_sizes(manifest: wire.Manifest) -> dict[str, int]:
    """The size of each blob, by its SHA-256."""
    return {file.sha256: file.size_bytes for file in manifest.files}


def _size(runtime: Runtime, sha256: str) -> int | None:
    try:
        return runtime.store.size_bytes(sha256)
    except BlobMissing:
        return None  # lost from the store: whoever still has it may bring it back


def _side_by_side(work: Callable[[Item], Found], items: list[Item]) -> list[Found]:
    """Do the same with each, in threads where there are several: an object store answers many at once."""
    if len(items) <= 1:
        return [work(item) for item in items]
    with ThreadPoolExecutor(min(_AT_ONCE, len(items))) as pool:
        return list(pool.map(work, items))


def _verify(runtime: Runtime, pending: _Pending) -> None:
    """Hash every blob of the manifest, give it its final place, and look into those that are weights."""
    staged = _staged(runtime, pending)
    paths = weights(pending.manifest)

    def settle(blob: tuple[str, int]) -> Findings | Exception | None:
        inspection = Inspection(blob[1]) if blob[0] in paths else None
        try:
            return _settle(runtime, pending, blob, staged, inspection)
        except (BlobMissing, BlobCorrupt) as error:
            return error

    blobs = list(blob_sizes(pending.manifest).items())
    missing, refused, inspected = [], [], {}
    for (sha256, _), outcome in zip(blobs, _side_by_side(settle, blobs), strict=True):
        if isinstance(outcome, BlobMissing):
            missing.append(sha256)
        elif isinstance(outcome, BlobCorrupt):
            refused.append(f"{sha256}: {outcome.fault}")
        elif isinstance(outcome, Findings):
            refused.extend(outcome.faults(sha256, paths[sha256]))
            inspected[sha256] = outcome
    if not refused and not missing:
        found = {paths[sha256]: seen.shapes for sha256, seen in inspected.items()}
        refused.extend(shapes.faults(pending.manifest, found, _base_shapes(runtime, pending)))
    if refused:
        raise ContentRefused(refused)
    if missing:
        raise UploadIncomplete(missing)


def _base_shapes(runtime: Runtime, pending: _Pending) -> dict[str, tuple[int, ...]]:
    """The shapes of the base's tensors, where the version carries its fingerprint with them."""
    for file in pending.manifest.files:
        if file.path == wire.BASE_FINGERPRINT_FILE and file.size_bytes <= _LARGEST_FINGERPRINT:
            content = b"".join(runtime.store.read(file.sha256))
            try:
                tensors = msgspec.json.decode(content, type=_Fingerprint).tensors
            except (msgspec.DecodeError, RecursionError) as error:
                raise ContentRefused([f"{file.path} is no fingerprint: {error}"]) from error
            return {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    return {}


def weights(manifest: wire.Manifest) -> dict[str, str]:
    """The paths of the weights, by their SHA-256."""
    return {file.sha256: file.path for file in manifest.files if file.path.endswith(rules.WEIGHTS)}


def _settle(
    runtime: Runtime,
    pending: _Pending,
    blob: tuple[str, int],
    staged: Mapping[str, int],
    inspection: Inspection | None,
) -> Findings | None:
    """Make sure that a blob is at its final place and is what it claims; of weights, what is in them."""
    sha256, size_bytes = blob
    store, watch = runtime.store, None if inspection is None else inspection.watch
    seen = pending.brought.get(sha256)
    if part_sizes(size_bytes) and staged.get(sha256, size_bytes) < size_bytes:
        raise BlobMissing(sha256)  # parts are still to come; those that came stay
    if sha256 in staged:
        store.promote(pending.upload.id, sha256, size_bytes, watch)
    elif sha256 in pending.brought and (watch is None or seen is not None):
        return seen  # when it came; the transaction asks whether it is still there
    elif sha256 in pending.known | pending.brought.keys():
        try:
            verify(sha256, store.read(sha256), size_bytes, watch)
        except BlobCorrupt as error:
            fault = f"The store has lost the bytes of {sha256!r}: {error.fault}."
            raise StoreFailed(fault) from error
    else:
        raise BlobMissing(sha256)
    return None if inspection is None else inspection.findings()


def _require_blobs(runtime: Runtime, pending: _Pending) -> None:
    """Bytes may have been lost between their hash and the transaction.

    Of those that came just now the store has only just said that it has them, and garbage collection leaves them alone:
    to ask again for each of hundreds would take as long as to bring them.
    """
    blobs = set(blob_sizes(pending.manifest))
    if runtime.clock() - pending.upload.created_at < _FRESH:
        blobs -= pending.brought.keys()
    asked = sorted(blobs)
    sizes = _side_by_side(lambda sha256: _size(runtime, sha256), asked)
    gone = [sha256 for sha256, size_bytes in zip(asked, sizes, strict=True) if size_bytes is None]
    if gone:
        raise UploadIncomplete(gone)
