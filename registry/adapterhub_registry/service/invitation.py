"""Invitations: a secret that lets one person into an organization, or into the registry."""

import secrets
from datetime import datetime, timedelta
from typing import cast

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from adapterhub_client import wire
from adapterhub_registry.domain.permission import Viewer, covers
from adapterhub_registry.errors import InvitationNotFound, TokenRequired
from adapterhub_registry.models import Account, Invitation, Membership, Organization
from adapterhub_registry.service import audit, password, token
from adapterhub_registry.service.account import create_account
from adapterhub_registry.service.organization import give_role
from adapterhub_registry.service.representation import moment
from adapterhub_registry.service.visibility import require_operator, require_role, require_scope

SECRET_PREFIX = "ahub_invite_"  # noqa: S105  # what it is, where it is found


def create(
    session: Session,
    viewer: Viewer,
    org: str | None,
    asked: wire.InvitationRequest,
    now: datetime,
) -> wire.Invitation:
    """Invite somebody into an organization, as an admin of it; without one, into the registry as its administrator.

    Raises:
        OrganizationNotFound, MissingRole, NotOperator: The viewer may not.
    """
    organization = _organization(session, viewer, org)
    secret = SECRET_PREFIX + secrets.token_urlsafe(24)
    row = Invitation(
        secret_sha256=token.hashed(secret),
        organization_id=None if organization is None else organization.id,
        role=None if organization is None else asked.role,
        label=asked.label,
        created_by_id=require_scope(viewer, "admin"),
        created_at=now,
        expires_at=now + timedelta(days=asked.expires_days),
    )
    session.add(row)
    session.flush()
    _audit(session, viewer, "create", row, now)
    return _shown(row, secret)


def pending(
    session: Session, viewer: Viewer, org: str | None, now: datetime
) -> list[wire.Invitation]:
    """The invitations into an organization, or into the registry, that may still be accepted."""
    organization = _organization(session, viewer, org)
    organization_id = None if organization is None else organization.id
    rows = session.scalars(_open(now).filter_by(organization_id=organization_id))
    return [_shown(row) for row in rows]


def revoke(
    session: Session, viewer: Viewer, org: str | None, invitation_id: int, now: datetime
) -> None:
    """Take an invitation back; InvitationNotFound."""
    organization = _organization(session, viewer, org)
    organization_id = None if organization is None else organization.id
    query = _open(now).filter_by(id=invitation_id, organization_id=organization_id)
    row = session.scalar(query.with_for_update(of=Invitation))
    if row is None:
        raise InvitationNotFound
    row.revoked_at = now
    _audit(session, viewer, "revoke", row, now)


def look(session: Session, secret: str, now: datetime) -> wire.Invitation:
    """The invitation of this secret, to whoever has it; InvitationNotFound."""
    return _shown(_find(session, secret, now))


def accept(
    session: Session, viewer: Viewer, acceptance: wire.Acceptance, now: datetime
) -> wire.Account:
    """Use an invitation up: for the viewer, else for a new account.

    A role that is higher already stays.

    Raises:
        InvitationNotFound: It is none, or was used.
        TokenRequired: Nobody is signed in, and there is no name and password for a new account.
        MalformedName, NameTaken, PasswordRefused: The new account cannot be.
    """
    row = _find(session, acceptance.secret, now, locked=True)
    if viewer.account_id is not None:
        account = session.get_one(Account, require_scope(viewer, "write"))
    elif acceptance.name and acceptance.password:
        account = create_account(session, acceptance.name, now)
        account.password_hash = password.hashed(acceptance.password, account.name)
    else:
        raise TokenRequired
    row.accepted_at, row.accepted_by_id = now, account.id
    if row.organization is not None and row.role is not None:
        _join(session, row.organization, account, cast("wire.Role", row.role))
    session.flush()
    _audit(session, Viewer(account_id=account.id), "accept", row, now)
    memberships = session.scalars(select(Membership).filter_by(account_id=account.id))
    return wire.Account(
        name=account.name,
        organizations={
            each.organization.name: cast("wire.Role", each.role) for each in memberships
        },
        scopes=list(viewer.scopes),
        is_admin=account.is_admin,
    )


def _join(session: Session, organization: Organization, account: Account, role: wire.Role) -> None:
    held = session.get(Membership, (organization.id, account.id))
    if held is None or not covers(held.role, role):
        give_role(session, organization, account.id, role)


def _organization(session: Session, viewer: Viewer, org: str | None) -> Organization | None:
    if org is None:
        require_operator(viewer)
        return None
    require_scope(viewer, "admin")
    return require_role(session, viewer, org, "admin")


def _open(now: datetime) -> Select[Invitation]:
    return (
        select(Invitation)
        .where(Invitation.expires_at > now)
        .filter_by(revoked_at=None, accepted_at=None)
        .order_by(Invitation.id)
    )


def _find(session: Session, secret: str, now: datetime, *, locked: bool = False) -> Invitation:
    query = _open(now).filter_by(secret_sha256=token.hashed(secret))
    row = session.scalar(query.with_for_update(of=Invitation) if locked else query)
    if row is None:
        raise InvitationNotFound
    return row


def _audit(session: Session, viewer: Viewer, verb: str, row: Invitation, now: datetime) -> None:
    organization = None if row.organization is None else row.organization.name
    kind = "registry" if organization is None else "org"
    subject = f"{organization or 'registry'}/{row.label}"
    detail = {"invitation": row.id, "role": row.role}
    audit.record(session, viewer.account_id, f"{kind}.invitation.{verb}", subject, now, **detail)


def _shown(row: Invitation, secret: str | None = None) -> wire.Invitation:
    return wire.Invitation(
        id=row.id,
        organization=None if row.organization is None else row.organization.name,
        role=cast("wire.Role | None", row.role),
        label=row.label,
        created_by=row.created_by.name,
        created_at=moment(row.created_at),
        expires_at=moment(row.expires_at),
        secret=secret,
    )
