"""Immutable releases, and what their manifests say that the catalogue searches."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    LargeBinary,
    String,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from adapterhub_registry.models.account import Account
from adapterhub_registry.models.adapter import Variant
from adapterhub_registry.models.base import Model


class Version(Model):
    """A release of a variant; only `status`, `reason` and `published_as` ever change."""

    __tablename__ = "version"
    __table_args__ = (
        UniqueConstraint("variant_id", "number"),
        CheckConstraint("status IN ('active', 'deprecated', 'yanked')", name="status"),
        CheckConstraint("number > 0", name="number"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    variant_id: Mapped[int] = mapped_column(ForeignKey("variant.id"))
    number: Mapped[int]
    digest: Mapped[str] = mapped_column(String(71), unique=True)
    manifest: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)
    """the canonical form, the very bytes the digest is taken over"""
    format: Mapped[str] = mapped_column(String(16))
    base: Mapped[dict[str, Any]]
    base_name: Mapped[str] = mapped_column(index=True)
    """people name the same base differently; this is what this version calls it"""
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    status: Mapped[str] = mapped_column(String(16), default="active")
    reason: Mapped[str | None]
    created_at: Mapped[datetime]
    created_by_id: Mapped[int] = mapped_column(ForeignKey("account.id"), index=True)
    published_as: Mapped[str | None]
    """the adapter's name in the manifest, where it was transferred since"""

    variant: Mapped[Variant] = relationship()
    created_by: Mapped[Account] = relationship()


class Alias(Model):
    """A name for a version of a variant that can be moved, such as `stable`."""

    __tablename__ = "alias"

    variant_id: Mapped[int] = mapped_column(ForeignKey("variant.id"), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("version.id"), index=True)
    updated_at: Mapped[datetime]

    version: Mapped[Version] = relationship()


class Head(Model):
    """A prediction head of a version."""

    __tablename__ = "head"

    version_id: Mapped[int] = mapped_column(ForeignKey("version.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    type: Mapped[str]
    labels: Mapped[list[str]]


class Member(Model):
    """A part of a composition, pinned by digest."""

    __tablename__ = "member"

    version_id: Mapped[int] = mapped_column(ForeignKey("version.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    member_version_id: Mapped[int] = mapped_column(ForeignKey("version.id"), index=True)


class Lineage(Model):
    """Where a version came from; the ancestor need not be in this registry."""

    __tablename__ = "lineage"

    version_id: Mapped[int] = mapped_column(ForeignKey("version.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    digest: Mapped[str] = mapped_column(index=True)
