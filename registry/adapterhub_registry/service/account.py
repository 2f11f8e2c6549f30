"""Accounts, their tokens, and the organizations they are in."""

import hashlib
import hmac
import secrets
from datetime import datetime, timedelta
from typing import cast

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from adapterhub_client import names, wire
from adapterhub_registry.domain.permission import SCOPES, Viewer, reaches
from adapterhub_registry.errors import (
    AccountNotFound,
    LastAdmin,
    MalformedName,
    MissingScope,
    NameTaken,
    OrganizationNotFound,
    TokenNotFound,
    WrongToken,
)
from adapterhub_registry.models import Account, Adapter, Membership, Organization, Token
from adapterhub_registry.service import audit
from adapterhub_registry.service.representation import moment
from adapterhub_registry.service.visibility import readable, require_role, require_scope

SECRET_PREFIX = "ahub_"  # noqa: S105  # lets scanners of leaked secrets find ours
FIRST_ADMIN = "admin"


def bootstrap(session: Session, now: datetime) -> str | None:
    """Make the first account of an empty registry; its token, or None where there are accounts already."""
    if session.scalar(select(func.count()).select_from(Account)):
        return None
    account = Account(name=FIRST_ADMIN, is_admin=True, created_at=now)
    session.add(account)
    session.flush()
    audit.record(session, None, "account.create", account.name, now, first=True)
    asked = wire.TokenRequest(label="first start", scopes=["admin"], expires_days=None)
    _, secret = issue_token(session, account, asked, now)
    return secret


def create_account(
    session: Session, name: str, now: datetime, *, is_admin: bool = False
) -> Account:
    """Make an account and the organization of its own name.

    Raises:
        MalformedName: The name is outside the grammar, or reserved.
        NameTaken: An account or an organization has it.
    """
    _require_free(session, name)
    account = Account(name=name, is_admin=is_admin, created_at=now)
    session.add(account)
    session.flush()
    _add_organization(session, name, account.id, now)
    audit.record(session, None, "account.create", name, now, is_admin=is_admin)
    return account


def find_account(session: Session, name: str) -> Account:
    """The account of this name; AccountNotFound."""
    account = session.scalar(select(Account).filter_by(name=name))
    if account is None:
        raise AccountNotFound(name)
    return account


def issue_token(
    session: Session, account: Account, asked: wire.TokenRequest, now: datetime
) -> tuple[Token, str]:
    """Make a token; its secret is only ever known here."""
    secret = SECRET_PREFIX + secrets.token_urlsafe(32)
    days = asked.expires_days
    token = Token(
        account_id=account.id,
        secret_sha256=_hash(secret),
        label=asked.label,
        scopes=list(asked.scopes),
        created_at=now,
        expires_at=None if days is None else now + timedelta(days=days),
    )
    session.add(token)
    session.flush()
    subject = f"{account.name}/{token.id}"
    audit.record(session, account.id, "token.create", subject, now, scopes=token.scopes)
    return token, secret


def viewer_of(session: Session, secret: str, now: datetime) -> Viewer:
    """Whom a token speaks for; WrongToken where it is unknown, expired or revoked."""
    hashed = _hash(secret)
    token = session.scalar(select(Token).filter_by(secret_sha256=hashed))
    if token is None or not hmac.compare_digest(token.secret_sha256, hashed):
        raise WrongToken
    if token.revoked_at is not None or (token.expires_at is not None and token.expires_at <= now):
        raise WrongToken
    return Viewer(
        account_id=token.account_id,
        name=token.account.name,
        is_admin=token.account.is_admin,
        scopes=tuple(scope for scope in SCOPES if scope in token.scopes),
        token_id=token.id,
        token_expires_at=token.expires_at,
    )


def whoami(session: Session, viewer: Viewer) -> wire.Account:
    """Who the token speaks for, and where they may do what."""
    account_id = require_scope(viewer, "read")
    memberships = session.scalars(select(Membership).filter_by(account_id=account_id))
    return wire.Account(
        name=viewer.name or "",
        organizations={
            membership.organization.name: cast("wire.Role", membership.role)
            for membership in memberships
        },
        scopes=list(viewer.scopes),
        is_admin=viewer.is_admin,
    )


def tokens(session: Session, viewer: Viewer) -> list[wire.Token]:
    """The viewer's own tokens that still work or have expired; revoked ones are gone."""
    account_id = require_scope(viewer, "read")
    rows = session.scalars(
        select(Token).filter_by(account_id=account_id, revoked_at=None).order_by(Token.id)
    )
    return [_token(row) for row in rows]


def create_token(
    session: Session, viewer: Viewer, asked: wire.TokenRequest, now: datetime
) -> wire.Token:
    """Make a token for oneself: it reaches no further, and lives no longer, than the one that asks.

    Raises:
        MissingScope: The token that asks lacks a scope it asks for.
    """
    account_id = require_scope(viewer, "read")
    for scope in asked.scopes:
        if not reaches(viewer.scopes, scope):
            raise MissingScope(scope)
    token, secret = issue_token(session, session.get_one(Account, account_id), asked, now)
    if viewer.token_expires_at is not None:
        limits = [token.expires_at or viewer.token_expires_at, viewer.token_expires_at]
        token.expires_at = min(limits)
    return _token(token, secret)


def revoke_token(session: Session, viewer: Viewer, token_id: int, now: datetime) -> None:
    """End one of the viewer's own tokens; a token may always end itself.

    Raises:
        TokenNotFound: The viewer has no such token.
    """
    account_id = require_scope(viewer, "read" if token_id == viewer.token_id else "write")
    token = session.scalar(
        select(Token).filter_by(id=token_id, account_id=account_id, revoked_at=None)
    )
    if token is None:
        raise TokenNotFound(token_id)
    token.revoked_at = now
    audit.record(session, account_id, "token.revoke", f"{viewer.name}/{token_id}", now)


def create_organization(
    session: Session, viewer: Viewer, name: str, now: datetime
) -> wire.Organization:
    """Make an organization; whoever does is its admin.

    Raises:
        MalformedName: The name is outside the grammar, or reserved.
        NameTaken: An account or an organization has it.
    """
    account_id = require_scope(viewer, "write")
    _require_free(session, name)
    _add_organization(session, name, account_id, now)
    audit.record(session, account_id, "org.create", name, now)
    return organization(session, viewer, name)


def found_organization(session: Session, name: str, admin: str, now: datetime) -> None:
    """Make an organization for an account, as the operator of the registry."""
    account = find_account(session, admin)
    _require_free(session, name)
    _add_organization(session, name, account.id, now)
    audit.record(session, None, "org.create", name, now, admin=admin)


def organization(session: Session, viewer: Viewer, name: str) -> wire.Organization:
    """An organization and how many adapters of it the viewer may read; members are shown to members.

    Raises:
        OrganizationNotFound: No organization has this name.
    """
    row = session.scalar(select(Organization).filter_by(name=name))
    if row is None:
        raise OrganizationNotFound(name)
    memberships = session.scalars(select(Membership).filter_by(organization_id=row.id)).all()
    inside = viewer.rules_everything or any(
        membership.account_id == viewer.account_id for membership in memberships
    )
    members = {each.account.name: cast("wire.Role", each.role) for each in memberships}
    adapters = session.scalar(
        select(func.count())
        .select_from(Adapter)
        .where(Adapter.organization_id == row.id, readable(viewer))
    )
    return wire.Organization(
        name=name, members=members if inside else {}, adapters=int(adapters or 0)
    )


def set_member(
    session: Session, viewer: Viewer, place: tuple[str, str], role: wire.Role | None, now: datetime
) -> wire.Organization:
    """Give an account (`place` is organization and account) a role, or take it out with None.

    Raises:
        MissingRole: Only admins of the organization may.
        AccountNotFound: No account has this name.
        LastAdmin: The organization would be left without one.
    """
    name, account_name = place
    actor = require_scope(viewer, "admin")
    row = require_role(session, viewer, name, "admin")
    account = find_account(session, account_name)
    admins = session.scalars(
        select(Membership).filter_by(organization_id=row.id, role="admin").with_for_update()
    ).all()
    if role != "admin" and [each.account_id for each in admins] == [account.id]:
        raise LastAdmin(name, account_name)
    held = session.get(Membership, (row.id, account.id))
    if held is not None and role is None:
        session.delete(held)
    elif held is not None and role is not None:
        held.role = role
    elif role is not None:
        session.add(Membership(organization_id=row.id, account_id=account.id, role=role))
    session.flush()
    audit.record(session, actor, "org.member", f"{name}/{account_name}", now, role=role)
    return organization(session, viewer, name)


def _require_free(session: Session, name: str) -> None:
    if not names.NAME.fullmatch(name) or len(name) > names.REPO_NAME_LIMIT:
        raise MalformedName(
            f"{name!r} is no name: lower-case letters and digits, words joined by `.`, `-` or `_`."
        )
    if name in names.RESERVED_ORGS:
        raise MalformedName(f"The name {name!r} is reserved.")
    for taken in (Organization, Account):
        if session.scalar(select(taken.id).filter_by(name=name)) is not None:
            raise NameTaken(name)


def _add_organization(session: Session, name: str, admin_id: int, now: datetime) -> None:
    row = Organization(name=name, created_at=now)
    session.add(row)
    session.flush()
    session.add(Membership(organization_id=row.id, account_id=admin_id, role="admin"))
    session.flush()


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _token(row: Token, secret: str | None = None) -> wire.Token:
    return wire.Token(
        id=row.id,
        label=row.label,
        scopes=[scope for scope in SCOPES if scope in row.scopes],
        created_at=moment(row.created_at),
        expires_at=None if row.expires_at is None else moment(row.expires_at),
        secret=secret,
    )
