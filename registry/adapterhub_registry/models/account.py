"""Who there is, what they may do, and what they did."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from adapterhub_registry.models.base import Model


class Account(Model):
    """A person or a machine."""

    __tablename__ = "account"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(96), unique=True)
    is_admin: Mapped[bool] = mapped_column(default=False)
    password_hash: Mapped[str | None]
    """Argon2id; None where the account signs in with tokens alone"""
    created_at: Mapped[datetime]
    disabled_at: Mapped[datetime | None]
    """from then on it can do nothing; what it published stays"""


class Organization(Model):
    """Owns adapters; every account has one of its own name."""

    __tablename__ = "organization"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(96), unique=True)
    created_at: Mapped[datetime]
    max_versions: Mapped[int | None]
    """0 is no limit; None is the registry's own"""
    max_bytes: Mapped[int | None] = mapped_column(BigInteger)
    """the same"""


class Membership(Model):
    """The role of an account in an organization."""

    __tablename__ = "membership"
    __table_args__ = (CheckConstraint("role IN ('reader', 'writer', 'admin')", name="role"),)

    organization_id: Mapped[int] = mapped_column(ForeignKey("organization.id"), primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id"), primary_key=True, index=True)
    role: Mapped[str] = mapped_column(String(16))

    organization: Mapped[Organization] = relationship()
    account: Mapped[Account] = relationship()


class Token(Model):
    """What speaks for an account: a token of the API, or a browser that signed in.

    Of its secret only the SHA-256 is kept.
    """

    __tablename__ = "token"

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id"), index=True)
    secret_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    kind: Mapped[str] = mapped_column(String(8), default="api", server_default="api")
    """`api`, or `session` of a browser"""
    label: Mapped[str]
    scopes: Mapped[list[str]]
    organizations: Mapped[list[str] | None]
    """the names of those it is for; None is all that the account is in"""
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    used_at: Mapped[datetime | None]
    """the last time, to within some minutes"""

    account: Mapped[Account] = relationship()


class Invitation(Model):
    """Lets whoever has its secret into an organization, or into the registry, once."""

    __tablename__ = "invitation"

    id: Mapped[int] = mapped_column(primary_key=True)
    secret_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    organization_id: Mapped[int | None] = mapped_column(ForeignKey("organization.id"), index=True)
    role: Mapped[str | None] = mapped_column(String(16))
    label: Mapped[str]
    """whom it is for"""
    created_by_id: Mapped[int] = mapped_column(ForeignKey("account.id"))
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
    accepted_at: Mapped[datetime | None]
    accepted_by_id: Mapped[int | None] = mapped_column(ForeignKey("account.id"))

    organization: Mapped[Organization | None] = relationship()
    created_by: Mapped[Account] = relationship(foreign_keys=[created_by_id])


class Throttle(Model):
    """How far what somebody may do only so often is used up: until then, if all of it came at its even pace."""

    __tablename__ = "throttle"

    key: Mapped[str] = mapped_column(String(200), primary_key=True)
    until: Mapped[datetime] = mapped_column(index=True)


class AuditEvent(Model):
    """A change of state, written in the transaction that made it. `account_id` None is the operator's shell."""

    __tablename__ = "audit_event"
    __table_args__ = (
        Index(None, "subject", "id"),
        Index(None, "organization", "id"),
        Index(None, "account_id", "id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    created_at: Mapped[datetime]
    account_id: Mapped[int | None] = mapped_column(ForeignKey("account.id"))
    action: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str]
    organization: Mapped[str | None] = mapped_column(String(96))
    """the name of the one whose adapters or members were changed"""
    detail: Mapped[dict[str, Any]]
    request_id: Mapped[str | None] = mapped_column(String(64))

    account: Mapped[Account | None] = relationship()
