"""Accounts: who there is, and what they sign in with."""

from datetime import datetime
from typing import cast

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from adapterhub_client import names, wire
from adapterhub_registry.domain.permission import Viewer
from adapterhub_registry.errors import (
    AccountNotFound,
    LastAdmin,
    MalformedName,
    NameTaken,
    WrongPassword,
)
from adapterhub_registry.models import Account, Membership, Organization
from adapterhub_registry.service import audit, password, places, token
from adapterhub_registry.service.representation import moment
from adapterhub_registry.service.visibility import require_operator, require_scope

FIRST_ADMIN = "admin"
_REGISTRY = "this registry"


def bootstrap(session: Session, now: datetime) -> str | None:
    """Make the first account of an empty registry; its token, or None where there are accounts already."""
    if session.scalar(select(func.count()).select_from(Account)):
        return None
    account = Account(name=FIRST_ADMIN, is_admin=True, created_at=now)
    session.add(account)
    session.flush()
    audit.record(session, None, "account.create", account.name, now, first=True)
    asked = wire.TokenRequest(label="first start", scopes=["admin"], expires_days=None)
    _, secret = token.issue(session, account, asked, now)
    return secret


def create_account(
    session: Session, name: str, now: datetime, *, is_admin: bool = False, actor: int | None = None
) -> Account:
    """Make an account and the organization of its own name.

    Raises:
        MalformedName: The name is outside the grammar, or reserved.
        NameTaken: An account or an organization has it.
    """
    require_free(session, name)
    account = Account(name=name, is_admin=is_admin, created_at=now)
    session.add(account)
    session.flush()
    add_organization(session, name, account.id, now)
    audit.record(session, actor, "account.create", name, now, is_admin=is_admin)
    return account


def create(
    session: Session, viewer: Viewer, asked: wire.AccountRequest, now: datetime
) -> wire.AccountSummary:
    """Make an account as an administrator of the registry.

    Raises:
        MalformedName, NameTaken: The name cannot be.
        PasswordRefused: The password is not taken.
    """
    actor = require_operator(viewer)
    account = create_account(session, asked.name, now, is_admin=asked.is_admin, actor=actor)
    if asked.password is not None:
        account.password_hash = password.hashed(asked.password, account.name)
        session.flush()
    return _summary(session, account)


def find_account(session: Session, name: str) -> Account:
    """The account of this name; AccountNotFound."""
    account = session.scalar(select(Account).filter_by(name=name))
    if account is None:
        raise AccountNotFound(name)
    return account


def accounts(session: Session, viewer: Viewer, asked: places.Page) -> wire.AccountPage:
    """A page of all accounts, by name, for administrators of the registry."""
    require_operator(viewer)
    after = places.read(asked.after, tuple[str])
    query = select(Account).order_by(Account.name).limit(asked.limit + 1)
    rows = session.scalars(query if after is None else query.where(Account.name > after[0])).all()
    shown = rows[: asked.limit]
    return wire.AccountPage(
        items=[_summary(session, row) for row in shown],
        next=places.write((shown[-1].name,)) if len(rows) > asked.limit else None,
    )


def change(
    session: Session, viewer: Viewer, name: str, wanted: wire.AccountChange, now: datetime
) -> wire.AccountSummary:
    """Let an account administrate the registry, or do nothing at all, or take that back.

    Raises:
        AccountNotFound: No account has this name.
        LastAdmin: The registry would be left without an administrator.
    """
    actor = require_operator(viewer)
    admins = session.scalars(
        select(Account).filter_by(is_admin=True, disabled_at=None).with_for_update()
    ).all()
    account = find_account(session, name)
    if wanted.is_admin is not None:
        account.is_admin = wanted.is_admin
    if wanted.disabled is not None:
        account.disabled_at = (account.disabled_at or now) if wanted.disabled else None
    if not any(each.is_admin and each.disabled_at is None for each in [*admins, account]):
        raise LastAdmin(_REGISTRY, name)
    session.flush()
    detail = {"is_admin": wanted.is_admin, "disabled": wanted.disabled}
    audit.record(session, actor, "account.change", name, now, **detail)
    return _summary(session, account)


def set_password(
    session: Session, viewer: Viewer, asked: wire.PasswordRequest, now: datetime
) -> None:
    """Set the viewer's own password, and sign every browser out.

    Raises:
        MissingScope: Only a token that may do everything the account may.
        WrongPassword: There is a password, and `current` is another one.
        PasswordRefused: It is not taken.
    """
    account = session.get_one(Account, require_scope(viewer, "admin"), with_for_update=True)
    held = account.password_hash
    if held is not None and not password.matches(asked.current or "", held):
        raise WrongPassword
    _keep_password(session, account, asked.new, now, actor=account.id)
    kinds = ("session", "api") if asked.revoke_tokens else ("session",)
    token.revoke_all(session, account, kinds, now, but=viewer.token_id)


def give_password(session: Session, name: str, new: str, now: datetime) -> None:
    """Set the password of an account as the operator of the registry, and sign every browser out."""
    account = find_account(session, name)
    _keep_password(session, account, new, now, actor=None)
    token.revoke_all(session, account, ("session",), now)


def has_password(session: Session, viewer: Viewer) -> bool:
    """Whether the viewer's account has a password to sign in with."""
    account = session.get_one(Account, require_scope(viewer, "read"))
    return account.password_hash is not None


def whoami(session: Session, viewer: Viewer) -> wire.Account:
    """Who the token speaks for, and where they may do what."""
    account_id = require_scope(viewer, "read")
    return wire.Account(
        name=viewer.name or "",
        organizations={
            name: role for name, role in _roles(session, account_id).items() if viewer.is_for(name)
        },
        scopes=list(viewer.scopes),
        is_admin=viewer.is_admin,
    )


def require_free(session: Session, name: str) -> None:
    """Go on only with a name that an account or an organization may have, and none has."""
    if not names.NAME.fullmatch(name) or len(name) > names.REPO_NAME_LIMIT:
        raise MalformedName(
            f"{name!r} is no name: lower-case letters and digits, words joined by `.`, `-` or `_`."
        )
    if name in names.RESERVED_ORGS:
        raise MalformedName(f"The name {name!r} is reserved.")
    for taken in (Organization, Account):
        if session.scalar(select(taken.id).filter_by(name=name)) is not None:
            raise NameTaken(name)


def add_organization(session: Session, name: str, admin_id: int, now: datetime) -> None:
    """Make an organization with an admin."""
    row = Organization(name=name, created_at=now)
    session.add(row)
    session.flush()
    session.add(Membership(organization_id=row.id, account_id=admin_id, role="admin"))
    session.flush()


def _keep_password(
    session: Session, account: Account, new: str, now: datetime, *, actor: int | None
) -> None:
    account.password_hash = password.hashed(new, account.name)
    session.flush()
    audit.record(session, actor, "account.password", account.name, now)


def _roles(session: Session, account_id: int) -> dict[str, wire.Role]:
    memberships = session.scalars(select(Membership).filter_by(account_id=account_id))
    return {each.organization.name: cast("wire.Role", each.role) for each in memberships}


def _summary(session: Session, row: Account) -> wire.AccountSummary:
    return wire.AccountSummary(
        name=row.name,
        is_admin=row.is_admin,
        has_password=row.password_hash is not None,
        created_at=moment(row.created_at),
        disabled_at=None if row.disabled_at is None else moment(row.disabled_at),
        organizations=_roles(session, row.id),
    )
