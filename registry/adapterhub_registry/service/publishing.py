"""Publish a version: blobs first, manifest last, one transaction.

`begin` says which blobs are missing, `receive` takes one, `commit` hashes them all and writes the version. Hashing
happens before the transaction, so a large push does not keep others from writing. A crash anywhere leaves the
catalogue as it was, or with the whole version in it, and the same push goes on from there.
"""

import secrets
from collections.abc import Iterable

import msgspec
import rfc8785
from sqlalchemy import select
from sqlalchemy.orm import Session

from adapterhub_client import wire
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
from adapterhub_registry.models import Blob, Upload, Variant, Version, VersionFile
from adapterhub_registry.runtime import Runtime
from adapterhub_registry.service import recording, representation, rules
from adapterhub_registry.service.visibility import readable, require_role, require_scope
from adapterhub_registry.service.weights import HeaderRefused, check_header
from adapterhub_registry.storage import BlobCorrupt, BlobMissing
from adapterhub_registry.storage.store import verify

_CHECKED_AT_ONCE = 500


class _Pending(msgspec.Struct, frozen=True):
    """An upload as `commit` works on it."""

    upload: Upload
    manifest: wire.Manifest
    known: frozenset[str]
    """blobs the viewer need not send: of versions they may read, or made themselves"""
    published: wire.Version | None


def begin(runtime: Runtime, viewer: Viewer, draft: wire.UploadDraft) -> wire.Upload:
    """Open an upload for a manifest, or go on with the one there is.

    Raises:
        OrganizationNotFound, MissingRole: The viewer may not publish there.
        ManifestRefused: Every rule that is broken.
        PublicAlready: It shall be private, and the adapter is public.
    """
    account_id = require_scope(viewer, "write")
    now = runtime.clock()
    broken = rules.faults(draft.manifest, runtime.settings)
    canonical = _canonical(draft.manifest, broken)
    digest = wire.digest(draft.manifest)
    with runtime.database.writing() as session:
        require_role(session, viewer, draft.manifest.reference.org, "writer")
        _, absent = recording.members(session, viewer, draft.manifest)
        if absent:
            raise ManifestRefused(absent)
        full_name = draft.manifest.reference.reference.adapter
        if draft.private and recording.is_public(session, full_name):
            raise PublicAlready(full_name)
        version = session.scalar(select(Version).filter_by(digest=digest))
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
        if version is not None:
            upload.version_id = version.id
    pending = _pending(runtime, viewer, upload.id)
    return wire.Upload(
        id=upload.id,
        digest=digest,
        missing=[] if pending.published else _missing(runtime, pending),
        expires_at=representation.moment(upload.expires_at),
        published=pending.published,
    )


def receive(
    runtime: Runtime, viewer: Viewer, place: tuple[str, str], chunks: Iterable[bytes]
) -> None:
    """Take the bytes of one blob of an upload; `place` is the upload and the blob's SHA-256.

    Raises:
        UploadNotFound: There is no such upload, or its manifest has no such blob.
        ContentRefused: Size or hash differ; nothing was kept.
    """
    require_scope(viewer, "write")
    upload_id, sha256 = place
    with runtime.database.reading() as session:
        upload = _upload(session, runtime, viewer, upload_id)
    manifest = msgspec.json.decode(upload.manifest, type=wire.Manifest)
    sizes = {file.sha256: file.size_bytes for file in manifest.files}
    if sha256 not in sizes:
        raise UploadNotFound(f"{upload_id}/{sha256}")
    try:
        runtime.store.stage(upload_id, sha256, chunks, sizes[sha256])
    except BlobCorrupt as error:
        raise ContentRefused([f"{sha256}: {error.fault}"]) from error


def commit(runtime: Runtime, viewer: Viewer, upload_id: str) -> tuple[wire.Version, bool]:
    """Hash every blob, then write the version; also says whether it is new.

    Raises:
        UploadNotFound: There is no such upload.
        UploadIncomplete: Blobs are missing.
        ContentRefused: Bytes that are not what they claim; they have to be sent again.
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
    with runtime.database.writing() as session:
        keep_blobs(session)
        _require_blobs(runtime, pending.manifest)
        row, created = recording.record(session, viewer, upload_id, runtime.clock())
        version = representation.version(row)
    runtime.store.discard(upload_id)
    return version, created


def known_blobs(session: Session, viewer: Viewer, files: Iterable[wire.File]) -> frozenset[str]:
    """Which of these blobs the viewer has already: in a version they may read, or published themselves."""
    wanted = sorted({file.sha256 for file in files})
    query = (
        select(VersionFile.sha256)
        .join(Version, VersionFile.version_id == Version.id)
        .join(Version.variant)
        .join(Variant.adapter)
        .where(readable(viewer) | (Version.created_by_id == viewer.account_id))
        .distinct()
    )
    found: set[str] = set()
    for at in range(0, len(wanted), _CHECKED_AT_ONCE):
        part = wanted[at : at + _CHECKED_AT_ONCE]
        found.update(session.scalars(query.where(VersionFile.sha256.in_(part))))
    sizes = {file.sha256: file.size_bytes for file in files}
    rows = session.scalars(select(Blob).where(Blob.sha256.in_(found)))
    return frozenset(row.sha256 for row in rows if row.size_bytes == sizes[row.sha256])


def _canonical(manifest: wire.Manifest, broken: list[str]) -> bytes:
    if broken:
        raise ManifestRefused(broken)
    try:
        return wire.canonical(manifest)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError) as error:
        raise ManifestRefused([f"it has no canonical form: {error}"]) from error


def _upload(session: Session, runtime: Runtime, viewer: Viewer, upload_id: str) -> Upload:
    upload = session.scalar(select(Upload).filter_by(id=upload_id, account_id=viewer.account_id))
    if upload is None or upload.expires_at <= runtime.clock():
        raise UploadNotFound(upload_id)
    return upload


def _pending(runtime: Runtime, viewer: Viewer, upload_id: str) -> _Pending:
    with runtime.database.reading() as session:
        upload = _upload(session, runtime, viewer, upload_id)
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
            None if row is None else representation.version(row),
        )


def _missing(runtime: Runtime, pending: _Pending) -> list[wire.UploadTarget]:
    lifetime = pending.upload.expires_at - runtime.clock()
    missing = []
    for sha256, size_bytes in _blobs(pending.manifest).items():
        if _is_here(runtime, pending, sha256, size_bytes):
            continue
        target = runtime.store.upload_target(pending.upload.id, sha256, size_bytes, lifetime)
        url = f"/api/v1/uploads/{pending.upload.id}/blobs/{sha256}"
        missing.append(
            wire.UploadTarget(
                sha256=sha256,
                size_bytes=size_bytes,
                url=url if target is None else target.url,
                headers={} if target is None else target.headers,
            )
        )
    return missing


def _blobs(manifest: wire.Manifest) -> dict[str, int]:
    return {file.sha256: file.size_bytes for file in manifest.files}


def _is_here(runtime: Runtime, pending: _Pending, sha256: str, size_bytes: int) -> bool:
    if sha256 in pending.known:
        try:
            return runtime.store.size_bytes(sha256) == size_bytes
        except BlobMissing:
            return False  # lost from the store: whoever still has it may bring it back
    return runtime.store.staged_bytes(pending.upload.id, sha256) == size_bytes


def _verify(runtime: Runtime, pending: _Pending) -> None:
    """Hash every blob of the manifest and give it its final place."""
    missing, refused = [], []
    weights = {file.sha256 for file in pending.manifest.files if file.path.endswith(rules.WEIGHTS)}
    for sha256, size_bytes in _blobs(pending.manifest).items():
        try:
            _promote(runtime, pending, sha256, size_bytes)
            if sha256 in weights:
                check_header(runtime.store.read(sha256), size_bytes)
        except BlobMissing:
            missing.append(sha256)
        except BlobCorrupt as error:
            refused.append(f"{sha256}: {error.fault}")
        except HeaderRefused as error:
            refused.append(f"{sha256} is no safetensors file: {error}")
    if refused:
        raise ContentRefused(refused)
    if missing:
        raise UploadIncomplete(missing)


def _require_blobs(runtime: Runtime, manifest: wire.Manifest) -> None:
    """Garbage collection may have taken a blob between its hash and the transaction."""
    gone = []
    for sha256 in _blobs(manifest):
        try:
            runtime.store.size_bytes(sha256)
        except BlobMissing:
            gone.append(sha256)
    if gone:
        raise UploadIncomplete(gone)


def _promote(runtime: Runtime, pending: _Pending, sha256: str, size_bytes: int) -> None:
    store = runtime.store
    if store.staged_bytes(pending.upload.id, sha256) is not None or sha256 not in pending.known:
        store.promote(pending.upload.id, sha256, size_bytes)
        return
    try:
        verify(sha256, store.read(sha256), size_bytes)
    except BlobCorrupt as error:
        raise StoreFailed(f"The store has lost the bytes of {sha256!r}: {error.fault}.") from error
