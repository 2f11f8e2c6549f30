"""What is left of what was deleted, and which bundles came in.

Neither a version's digest and number nor an adapter's name is ever given a second time, so these rows stay for ever.
They name what is gone by value: the rows they were about are not there any more.
"""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from adapterhub_registry.models.account import Account
from adapterhub_registry.models.base import Model


class Tombstone(Model):
    """A version that was deleted."""

    __tablename__ = "tombstone"
    __table_args__ = (Index(None, "variant_id", "number"), Index(None, "full_name", "number"))

    digest: Mapped[str] = mapped_column(String(71), primary_key=True)
    organization_id: Mapped[int] = mapped_column(ForeignKey("organization.id"), index=True)
    full_name: Mapped[str]
    """the adapter, as it was called then; it follows a transfer"""
    variant_id: Mapped[int | None]
    """None once the adapter is gone too; no foreign key, since variants go and this stays"""
    number: Mapped[int]
    private: Mapped[bool]
    base_key: Mapped[str]
    base_name: Mapped[str]
    method: Mapped[str]
    config_id: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    reason: Mapped[str]
    published_at: Mapped[datetime]
    deleted_at: Mapped[datetime]
    deleted_by_id: Mapped[int | None] = mapped_column(ForeignKey("account.id"))

    deleted_by: Mapped[Account | None] = relationship()


class RetiredName(Model):
    """An adapter that was deleted with all its versions."""

    __tablename__ = "retired_name"

    full_name: Mapped[str] = mapped_column(primary_key=True)
    organization_id: Mapped[int] = mapped_column(ForeignKey("organization.id"), index=True)
    private: Mapped[bool]
    reason: Mapped[str]
    deleted_at: Mapped[datetime]
    deleted_by_id: Mapped[int | None] = mapped_column(ForeignKey("account.id"))

    deleted_by: Mapped[Account | None] = relationship()


class ImportedBundle(Model):
    """A bundle that was taken in: an older one from the same source never sets a status back."""

    __tablename__ = "imported_bundle"
    __table_args__ = (Index(None, "source", "exported_at"),)

    digest: Mapped[str] = mapped_column(String(71), primary_key=True)
    """of its signed index"""
    source: Mapped[str]
    exported_at: Mapped[datetime]
    imported_at: Mapped[datetime]
    key_id: Mapped[str] = mapped_column(String(71))
