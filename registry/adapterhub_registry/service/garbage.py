"""Remove what nothing needs: expired uploads, staged bytes, and blobs that nothing holds.

It may run beside uploads. What is younger than the grace period is left alone, and whether older bytes are needed is
decided in the database: whoever will bring bytes holds them before the first one moves (`holding`), and a publish
keeps every blob from being taken until its transaction ends.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import islice

import msgspec
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from adapterhub_registry.database import take_blobs
from adapterhub_registry.models import Blob, RepositoryBlob, Upload, VersionFile
from adapterhub_registry.runtime import Runtime
from adapterhub_registry.service import holding
from adapterhub_registry.storage import Stored

_AT_ONCE = 500
_SLACK = timedelta(hours=1)
"""clocks of stores differ from ours"""


class Swept(msgspec.Struct, frozen=True):
    """What `sweep` removed, or would."""

    uploads: int
    blobs: int
    size_bytes: int


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """How to sweep: a grace period other than the life of an upload; only look."""

    grace: timedelta | None = None
    dry_run: bool = False


_PLAIN = Wish()


def sweep(
    runtime: Runtime, wish: Wish = _PLAIN, told: Callable[[int], None] | None = None
) -> Swept:
    """Remove garbage that is older than the grace period; `told` hears how many blobs were looked at."""
    before = runtime.clock() - (runtime.upload_lifetime if wish.grace is None else wish.grace)
    uploads = _uploads(runtime, before - _SLACK, dry_run=wish.dry_run)
    blobs = size_bytes = seen = 0
    for batch in _batches(runtime.store.blobs()):
        seen += len(batch)
        for stored in _unheld(runtime, [each for each in batch if each.modified_at < before]):
            if wish.dry_run or _forget(runtime, stored.sha256):
                blobs, size_bytes = blobs + 1, size_bytes + stored.size_bytes
        if told is not None:
            told(seen)
    if not wish.dry_run:
        _forget_rows(runtime, before)
    return Swept(uploads, blobs, size_bytes)


def _uploads(runtime: Runtime, before: datetime, *, dry_run: bool) -> int:
    stale = list(runtime.store.stale_uploads(before))
    if dry_run:
        return len(stale)
    with runtime.database.writing() as session:
        session.execute(delete(Upload).where(Upload.expires_at < runtime.clock()))
        holding.release(session, runtime.clock())
    for upload in stale:
        runtime.store.discard(upload)
    runtime.store.sweep(before)
    return len(stale)


def _unheld(runtime: Runtime, old: Sequence[Stored]) -> list[Stored]:
    """Those that nothing seems to hold: most blobs are held, and need no transaction of their own to find out."""
    with runtime.database.reading() as session:
        held = _held(session, [each.sha256 for each in old], runtime.clock())
    return [each for each in old if each.sha256 not in held]


def _held(session: Session, digests: Sequence[str], now: datetime) -> set[str]:
    found = holding.held(session, digests, now)
    for holder in (VersionFile, RepositoryBlob):
        found.update(session.scalars(select(holder.sha256).where(holder.sha256.in_(digests))))
    return found


def _forget(runtime: Runtime, sha256: str) -> bool:
    """Remove a blob and its row where nothing holds it; say whether it went.

    The bytes go within the transaction: whoever will bring them anew has said so before, or waits until it ends.
    """
    with runtime.database.writing() as session:
        take_blobs(session)
        if _held(session, [sha256], runtime.clock()):
            return False
        session.execute(delete(Blob).where(Blob.sha256 == sha256))
        runtime.store.remove(sha256)
    return True


def _forget_rows(runtime: Runtime, before: datetime) -> None:
    """Remove rows of blobs that are gone: a crash may have come between the bytes and the row."""
    with runtime.database.reading() as session:
        nobody = [Blob.sha256.not_in(select(each.sha256)) for each in (VersionFile, RepositoryBlob)]
        rows = session.scalars(select(Blob.sha256).where(Blob.created_at < before, *nobody)).all()
    for sha256 in rows:
        _forget(runtime, sha256)


def _batches(blobs: Iterator[Stored]) -> Iterator[list[Stored]]:
    while batch := list(islice(blobs, _AT_ONCE)):
        yield batch
