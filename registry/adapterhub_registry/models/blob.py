"""Bytes: which are in the store, which version has them, and which are on their way."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from adapterhub_registry.models.base import Model


class Blob(Model):
    """Bytes that the registry hashed itself."""

    __tablename__ = "blob"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime]


class VersionFile(Model):
    """A file of a version."""

    __tablename__ = "version_file"

    version_id: Mapped[int] = mapped_column(ForeignKey("version.id"), primary_key=True)
    path: Mapped[str] = mapped_column(primary_key=True)
    sha256: Mapped[str] = mapped_column(ForeignKey("blob.sha256"), index=True)


class Upload(Model):
    """A publish under way; `version_id` is set once it is done."""

    __tablename__ = "upload"
    __table_args__ = (Index(None, "account_id", "digest"),)

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id"))
    digest: Mapped[str] = mapped_column(String(71))
    manifest: Mapped[bytes] = mapped_column(LargeBinary)
    private: Mapped[bool]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)
    version_id: Mapped[int | None] = mapped_column(ForeignKey("version.id"))


class BlobHold(Model):
    """Bytes that somebody is about to bring: they are not garbage until this moment, here or not."""

    __tablename__ = "blob_hold"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    until: Mapped[datetime] = mapped_column(index=True)


class UploadBlob(Model):
    """A blob that an upload has brought through the registry: it need not be sent again, and may be committed."""

    __tablename__ = "upload_blob"

    upload_id: Mapped[str] = mapped_column(
        ForeignKey("upload.id", ondelete="CASCADE"), primary_key=True
    )
    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    findings: Mapped[dict[str, Any] | None]
    """of weights, what was seen in them while they were hashed"""
