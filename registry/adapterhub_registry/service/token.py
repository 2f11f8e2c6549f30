"""Tokens: what speaks for an account, how far it reaches, and until when."""

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal, cast

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from adapterhub_client import wire
from adapterhub_registry.domain.permission import SCOPES, Viewer, reaches
from adapterhub_registry.errors import (
    MissingScope,
    OrganizationNotFound,
    TokenElsewhere,
    TokenNotFound,
    WrongToken,
)
from adapterhub_registry.models import Account, Organization, Token
from adapterhub_registry.service import audit
from adapterhub_registry.service.representation import moment
from adapterhub_registry.service.visibility import require_scope

SECRET_PREFIX = "ahub_"  # noqa: S105  # lets scanners of leaked secrets find ours
USE_NOTED = timedelta(minutes=10)
"""how exactly the last use of a token is known"""


def issue(
    session: Session,
    account: Account,
    asked: wire.TokenRequest,
    now: datetime,
    kind: Literal["api", "session"] = "api",
) -> tuple[Token, str]:
    """Make a token; its secret is only ever known here."""
    secret = SECRET_PREFIX + secrets.token_urlsafe(32)
    days = asked.expires_days
    made = Token(
        account_id=account.id,
        secret_sha256=hashed(secret),
        kind=kind,
        label=asked.label,
        scopes=list(asked.scopes),
        organizations=_existing(session, asked.organizations),
        created_at=now,
        expires_at=None if days is None else now + timedelta(days=days),
    )
    session.add(made)
    session.flush()
    detail: dict[str, object] = {"scopes": made.scopes, "kind": kind}
    if made.organizations is not None:
        detail["organizations"] = made.organizations
    subject = f"{account.name}/{made.id}"
    audit.record(session, account.id, "token.create", subject, now, **detail)
    return made, secret


def viewer_of(session: Session, secret: str, now: datetime) -> Viewer:
    """Whom a token speaks for; WrongToken where it is unknown, expired or revoked, or its account disabled."""
    sha256 = hashed(secret)
    row = session.scalar(select(Token).filter_by(secret_sha256=sha256))
    if row is None or not hmac.compare_digest(row.secret_sha256, sha256):
        raise WrongToken
    if row.revoked_at is not None or (row.expires_at is not None and row.expires_at <= now):
        raise WrongToken
    if row.account.disabled_at is not None:
        raise WrongToken
    return Viewer(
        account_id=row.account_id,
        name=row.account.name,
        is_admin=row.account.is_admin,
        scopes=tuple(scope for scope in SCOPES if scope in row.scopes),
        organizations=None if row.organizations is None else tuple(row.organizations),
        token_id=row.id,
        token_expires_at=row.expires_at,
        use_is_noted=row.used_at is not None and now - row.used_at < USE_NOTED,
    )


def note_use(session: Session, token_id: int, now: datetime) -> None:
    """Write down that a token was used."""
    session.execute(
        update(Token)
        .where(Token.id == token_id, or_(Token.used_at.is_(None), Token.used_at < now))
        .values(used_at=now)
    )


def tokens(session: Session, viewer: Viewer) -> list[wire.Token]:
    """The viewer's own tokens that still work or have expired; revoked ones are gone."""
    account_id = require_scope(viewer, "read")
    rows = session.scalars(
        select(Token).filter_by(account_id=account_id, revoked_at=None).order_by(Token.id)
    )
    return [shown(row) for row in rows]


def create(
    session: Session,
    viewer: Viewer,
    asked: wire.TokenRequest,
    now: datetime,
    kind: Literal["api", "session"] = "api",
) -> wire.Token:
    """Make a token for oneself: it reaches no further, and lives no longer, than the one that asks.

    Raises:
        MissingScope: The token that asks lacks a scope it asks for.
        TokenElsewhere: The token that asks is not for an organization it asks for.
        OrganizationNotFound: There is no such organization.
    """
    account_id = require_scope(viewer, "read")
    for scope in asked.scopes:
        if not reaches(viewer.scopes, scope):
            raise MissingScope(scope)
    if asked.organizations is None and viewer.organizations is not None:
        asked = _narrowed(asked, viewer.organizations)
    for name in asked.organizations or ():
        if not viewer.is_for(name):
            raise TokenElsewhere(name, viewer.organizations or ())
    made, secret = issue(session, session.get_one(Account, account_id), asked, now, kind)
    if viewer.token_expires_at is not None:
        limits = [made.expires_at or viewer.token_expires_at, viewer.token_expires_at]
        made.expires_at = min(limits)
    return shown(made, secret)


def rotate(
    session: Session, viewer: Viewer, token_id: int, asked: wire.Rotation, now: datetime
) -> wire.Token:
    """Replace one of the viewer's own tokens by one that is the same but for its secret.

    It ends when the old one would have ended; where that had a lifetime, it gets the same anew.

    Raises:
        TokenNotFound: The viewer has no such token.
    """
    old = _own(session, viewer, token_id)
    days = None
    if old.expires_at is not None:
        days = max(1, (old.expires_at - old.created_at).days)
    wanted = wire.TokenRequest(
        label=old.label,
        scopes=cast("list[wire.Scope]", list(old.scopes)),
        expires_days=days,
        organizations=old.organizations,
    )
    account = session.get_one(Account, old.account_id)
    made, secret = issue(session, account, wanted, now)
    end = now + timedelta(hours=asked.overlap_hours)
    if asked.overlap_hours:
        old.expires_at = end if old.expires_at is None else min(old.expires_at, end)
    else:
        old.revoked_at = now
    subject = f"{account.name}/{old.id}"
    audit.record(session, account.id, "token.rotate", subject, now, successor=made.id)
    return shown(made, secret)


def revoke(session: Session, viewer: Viewer, token_id: int, now: datetime) -> None:
    """End one of the viewer's own tokens; a token may always end itself.

    Raises:
        TokenNotFound: The viewer has no such token.
    """
    row = _own(session, viewer, token_id)
    row.revoked_at = now
    audit.record(session, row.account_id, "token.revoke", f"{viewer.name}/{token_id}", now)


def revoke_all(
    session: Session,
    account: Account,
    kinds: Sequence[str],
    now: datetime,
    *,
    but: int | None = None,
) -> None:
    """End every token of these kinds that an account has, but one."""
    rows = session.scalars(
        select(Token).where(
            Token.account_id == account.id,
            Token.kind.in_(kinds),
            Token.revoked_at.is_(None),
            Token.id != (but or 0),
        )
    )
    for row in rows:
        row.revoked_at = now
        audit.record(session, account.id, "token.revoke", f"{account.name}/{row.id}", now)


def hashed(secret: str) -> str:
    """The SHA-256 of a secret, which is all that is kept of it: it has 256 bits of chance, so no salt is needed."""
    return hashlib.sha256(secret.encode()).hexdigest()


def shown(row: Token, secret: str | None = None) -> wire.Token:
    """A token as its owner sees it."""
    return wire.Token(
        id=row.id,
        label=row.label,
        scopes=[scope for scope in SCOPES if scope in row.scopes],
        created_at=moment(row.created_at),
        expires_at=None if row.expires_at is None else moment(row.expires_at),
        secret=secret,
        organizations=row.organizations,
        kind=cast("Literal['api', 'session']", row.kind),
        used_at=None if row.used_at is None else moment(row.used_at),
    )


def _own(session: Session, viewer: Viewer, token_id: int) -> Token:
    account_id = require_scope(viewer, "read" if token_id == viewer.token_id else "write")
    query = select(Token).filter_by(id=token_id, account_id=account_id, revoked_at=None)
    row = session.scalar(query.with_for_update())
    if row is None:
        raise TokenNotFound(token_id)
    return row


def _existing(session: Session, organizations: list[str] | None) -> list[str] | None:
    if organizations is None:
        return None
    known = set(
        session.scalars(select(Organization.name).where(Organization.name.in_(organizations)))
    )
    for name in organizations:
        if name not in known:
            raise OrganizationNotFound(name)
    return sorted(known)


def _narrowed(asked: wire.TokenRequest, organizations: Sequence[str]) -> wire.TokenRequest:
    return wire.TokenRequest(
        label=asked.label,
        scopes=asked.scopes,
        expires_days=asked.expires_days,
        organizations=list(organizations),
    )
