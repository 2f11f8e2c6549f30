"""Blobs for those who may read them, and the count of downloads."""

from datetime import date, datetime, timedelta

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from adapterhub_registry.database import ensure_with
from adapterhub_registry.domain.permission import Viewer
from adapterhub_registry.errors import BlobNotFound
from adapterhub_registry.models import (
    Adapter,
    Blob,
    DownloadDay,
    SearchDocument,
    Variant,
    Version,
    VersionFile,
)
from adapterhub_registry.service.rules import WEIGHTS
from adapterhub_registry.service.visibility import open_files, readable


def find_blob(session: Session, viewer: Viewer, sha256: str) -> Blob:
    """The row of a blob that some version has which the viewer may read; BlobNotFound."""
    row = session.scalar(
        select(Blob)
        .join(VersionFile, VersionFile.sha256 == Blob.sha256)
        .join(Version, VersionFile.version_id == Version.id)
        .join(Version.variant)
        .join(Variant.adapter)
        .where(Blob.sha256 == sha256, readable(viewer), open_files(viewer))
        .limit(1)
    )
    if row is None:
        raise BlobNotFound(sha256)
    return row


def are_open(session: Session, viewer: Viewer, version_id: int) -> bool:
    """Whether the viewer may have the files of a version they may read."""
    query = (
        select(Version.id)
        .join(Version.variant)
        .join(Variant.adapter)
        .where(Version.id == version_id, open_files(viewer))
    )
    return session.scalar(query) is not None


def counted_version(session: Session, viewer: Viewer, digest: str, sha256: str) -> int | None:
    """The version whose download this blob is: one of its blobs counts, so that a pull counts once."""
    first = session.execute(
        select(VersionFile.version_id, VersionFile.sha256)
        .join(Version, VersionFile.version_id == Version.id)
        .join(Version.variant)
        .join(Variant.adapter)
        .where(Version.digest == digest, readable(viewer))
        .order_by(VersionFile.path.endswith(WEIGHTS).desc(), VersionFile.path)
        .limit(1)
    ).first()
    return first.version_id if first is not None and first.sha256 == sha256 else None


def weekly(session: Session, adapter_id: int, today: date, weeks: int) -> list[tuple[date, int]]:
    """How often an adapter was pulled in each of the last weeks, each with its first day; the last ends today."""
    first = today - timedelta(days=7 * weeks - 1)
    rows = session.execute(
        select(DownloadDay.day, func.sum(DownloadDay.count))
        .join(Version, Version.id == DownloadDay.version_id)
        .join(Variant, Variant.id == Version.variant_id)
        .where(Variant.adapter_id == adapter_id, DownloadDay.day >= first)
        .group_by(DownloadDay.day)
    )
    counts = [0] * weeks
    for day, pulled in rows:
        counts[min((day - first).days // 7, weeks - 1)] += int(pulled)
    return [(first + timedelta(days=7 * at), pulled) for at, pulled in enumerate(counts)]


def count(session: Session, version_id: int, now: datetime) -> None:
    """Count a download for its day."""
    keys = {"version_id": version_id, "day": now.date()}
    ensure_with(session, DownloadDay, keys, {"count": 0})
    session.execute(update(DownloadDay).filter_by(**keys).values(count=DownloadDay.count + 1))
    adapter_id = (
        select(Variant.adapter_id)
        .join(Version, Version.variant_id == Variant.id)
        .where(Version.id == version_id)
        .scalar_subquery()
    )
    for model, key in ((Adapter, Adapter.id), (SearchDocument, SearchDocument.adapter_id)):
        counted = update(model).where(key == adapter_id).values(downloads=model.downloads + 1)
        session.execute(counted)
