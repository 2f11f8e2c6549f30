"""Remove what nothing needs: expired uploads, staged bytes, and blobs no version has."""

from datetime import timedelta

import msgspec
from sqlalchemy import delete, select

from adapterhub_registry.database import take_blobs
from adapterhub_registry.models import Blob, RepositoryBlob, Upload, VersionFile
from adapterhub_registry.runtime import Runtime


class Swept(msgspec.Struct, frozen=True):
    """What `sweep` removed."""

    uploads: int
    blobs: int
    size_bytes: int


def sweep(runtime: Runtime) -> Swept:
    """Remove garbage that is older than an upload may live: nothing that a publish under way needs is."""
    before = runtime.clock() - runtime.upload_lifetime
    with runtime.database.writing() as session:
        session.execute(delete(Upload).where(Upload.expires_at < runtime.clock()))
    stale = list(runtime.store.stale_uploads(before - timedelta(hours=1)))
    for upload in stale:
        runtime.store.discard(upload)
    blobs = size_bytes = 0
    for stored in runtime.store.blobs():
        if stored.modified_at < before and _forget(runtime, stored.sha256):
            blobs, size_bytes = blobs + 1, size_bytes + stored.size_bytes
    return Swept(len(stale), blobs, size_bytes)


def _forget(runtime: Runtime, sha256: str) -> bool:
    """Remove a blob and its row where no version has it; say whether it went.

    A publish may have found these very bytes a moment ago. So they go within the transaction, and a publish looks
    once more whether its blobs are there within its own.
    """
    with runtime.database.writing() as session:
        take_blobs(session)
        for holder in (VersionFile, RepositoryBlob):
            if session.scalar(select(holder.sha256).filter_by(sha256=sha256).limit(1)):
                return False
        session.execute(delete(Blob).where(Blob.sha256 == sha256))
        runtime.store.remove(sha256)
    return True
