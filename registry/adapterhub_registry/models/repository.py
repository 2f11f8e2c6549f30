"""Repositories of files, as Hugging Face clients see adapters: branches and tags over commits.

What was published through our own API needs no rows here; it is shown from the catalogue. A row exists for what such a
client made or changed.
"""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from adapterhub_registry.models.account import Account, Organization
from adapterhub_registry.models.base import Model


class Repository(Model):
    """A repository; `private` counts only until there is an adapter of the same name."""

    __tablename__ = "repository"
    __table_args__ = (
        CheckConstraint("gated IN ('auto', 'manual')", name="gated"),
        Index(None, "updated_at", "id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    organization_id: Mapped[int] = mapped_column(ForeignKey("organization.id"), index=True)
    full_name: Mapped[str] = mapped_column(unique=True)
    """`task/name@org`, in lower case"""
    spelling: Mapped[str] = mapped_column(String(193))
    """the repository id as it was created, in its own case"""
    private: Mapped[bool]
    gated: Mapped[str | None] = mapped_column(String(8))
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    organization: Mapped[Organization] = relationship()


class RepositoryCommit(Model):
    """A whole tree of files, and the commit it followed; never changes once `version_id` is known."""

    __tablename__ = "repository_commit"
    __table_args__ = (UniqueConstraint("repository_id", "oid"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    repository_id: Mapped[int] = mapped_column(ForeignKey("repository.id"))
    oid: Mapped[str] = mapped_column(String(40))
    parent_oid: Mapped[str | None] = mapped_column(String(40))
    tree: Mapped[bytes] = mapped_column(LargeBinary)
    title: Mapped[str]
    message: Mapped[str]
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id"))
    created_at: Mapped[datetime]
    version_id: Mapped[int | None] = mapped_column(
        ForeignKey("version.id", ondelete="SET NULL"), index=True
    )
    """the version that this tree is"""
    seen_version_id: Mapped[int]
    """the newest version of the adapter when the commit was made: what is newer moves the branch on"""

    account: Mapped[Account] = relationship()


class RepositoryRef(Model):
    """A branch or a tag. Those of versions and variants are in the catalogue, not here."""

    __tablename__ = "repository_ref"
    __table_args__ = (CheckConstraint("kind IN ('branch', 'tag')", name="kind"),)

    repository_id: Mapped[int] = mapped_column(ForeignKey("repository.id"), primary_key=True)
    name: Mapped[str] = mapped_column(String(96), primary_key=True)
    kind: Mapped[str] = mapped_column(String(8))
    oid: Mapped[str] = mapped_column(String(40))
    created_at: Mapped[datetime]


class RepositoryBlob(Model):
    """Bytes that some commit of a repository has: they stay, and its writers need not send them again."""

    __tablename__ = "repository_blob"

    repository_id: Mapped[int] = mapped_column(ForeignKey("repository.id"), primary_key=True)
    sha256: Mapped[str] = mapped_column(ForeignKey("blob.sha256"), primary_key=True, index=True)


class RepositoryMove(Model):
    """Where a repository went that was renamed; both as `task/name@org`."""

    __tablename__ = "repository_move"

    old_name: Mapped[str] = mapped_column(primary_key=True)
    new_name: Mapped[str] = mapped_column(index=True)
    moved_at: Mapped[datetime]
