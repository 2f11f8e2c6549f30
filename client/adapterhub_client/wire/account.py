"""Accounts, their tokens, and organizations: who may do what, and who did."""

from typing import Any, Literal

import msgspec

Role = Literal["reader", "writer", "admin"]
Scope = Literal["read", "write", "admin"]


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """Who a token speaks for."""

    name: str
    organizations: dict[str, Role]
    scopes: list[Scope]
    is_admin: bool = False


class AccountRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Asks for an account and the organization of its name; without a password it signs in with tokens alone."""

    name: str
    password: str | None = None
    is_admin: bool = False


class AccountChange(msgspec.Struct, frozen=True, kw_only=True):
    """Changes an account; None leaves what it is. A disabled one can do nothing; what it published stays."""

    is_admin: bool | None = None
    disabled: bool | None = None


class AccountSummary(msgspec.Struct, frozen=True, kw_only=True):
    """An account as administrators see it."""

    name: str
    is_admin: bool
    has_password: bool
    created_at: str
    disabled_at: str | None = None
    organizations: dict[str, Role] = {}


class AccountPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of accounts; pass `next` as `after` to go on, None at the end."""

    items: list[AccountSummary]
    next: str | None = None


class PasswordRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Sets one's own password; `current` where there is one. Every browser that was signed in is signed out."""

    new: str
    current: str | None = None
    revoke_tokens: bool = False
    """end every token of the account too, but the one that asks"""


class TokenRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Asks for a token; `expires_days` None never expires, `organizations` None is all that the account is in."""

    label: str
    scopes: list[Scope] = msgspec.field(default_factory=lambda: ["read"])
    expires_days: int | None = 90
    organizations: list[str] | None = None


class SignInRequest(TokenRequest, frozen=True, kw_only=True):
    """Asks for a token with a name and a password in place of another token."""

    name: str
    password: str


class Rotation(msgspec.Struct, frozen=True, kw_only=True):
    """Asks for a token's successor; the old one works for so many hours more."""

    overlap_hours: float = 0.0


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """A token as the catalogue lists it; `secret` only in the answer that made it."""

    id: int
    label: str
    scopes: list[Scope]
    created_at: str
    expires_at: str | None
    secret: str | None = None
    organizations: list[str] | None = None
    """those it is for; None is all that its account is in"""
    kind: Literal["api", "session"] = "api"
    """`session` is a browser that signed in"""
    used_at: str | None = None
    """the last time, to within some minutes"""


class OrganizationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Asks for an organization; whoever creates it is its admin."""

    name: str


class MemberRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Sets the role of an account in an organization; None takes it out."""

    role: Role | None


class Organization(msgspec.Struct, frozen=True, kw_only=True):
    """An organization and who is in it."""

    name: str
    members: dict[str, Role]
    adapters: int


class Quota(msgspec.Struct, frozen=True, kw_only=True):
    """What an organization keeps and how much it may; a limit of None is none."""

    versions: int
    size_bytes: int
    """each blob once, those of repositories that are no adapter yet among them"""
    max_versions: int | None
    max_bytes: int | None


class QuotaRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Sets the limits of an organization: 0 is none, None is the registry's own."""

    max_versions: int | None = None
    max_bytes: int | None = None


class InvitationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Asks for an invitation; `label` says whom it is for."""

    label: str
    role: Role = "reader"
    expires_days: int = 7


class Invitation(msgspec.Struct, frozen=True, kw_only=True):
    """Lets whoever has its `secret` into an organization, once; the secret is only in the answer that made it.

    Without an organization it lets them into the registry alone.
    """

    id: int
    organization: str | None
    role: Role | None
    label: str
    created_by: str
    created_at: str
    expires_at: str
    secret: str | None = None
    url: str | None = None
    """the page that accepts it"""


class Acceptance(msgspec.Struct, frozen=True, kw_only=True):
    """Accepts an invitation: for the account of the token, else for a new one of this name and password."""

    secret: str
    name: str | None = None
    password: str | None = None


class AuditEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was changed; without an account, by the operator of the registry."""

    id: int
    at: str
    account: str | None
    action: str
    subject: str
    organization: str | None
    detail: dict[str, Any]
    request_id: str | None


class AuditPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of the audit log, the newest first; pass `next` as `after` to go on, None at the end."""

    items: list[AuditEvent]
    next: str | None = None
