"""Organizations: who is in them, and with which role."""

from datetime import datetime
from typing import cast

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from adapterhub_client import wire
from adapterhub_registry.domain.permission import Viewer
from adapterhub_registry.errors import LastAdmin, OrganizationNotFound, TokenElsewhere
from adapterhub_registry.models import Adapter, Membership, Organization
from adapterhub_registry.service import audit
from adapterhub_registry.service.account import add_organization, find_account, require_free
from adapterhub_registry.service.visibility import readable, require_role, require_scope


def create(session: Session, viewer: Viewer, name: str, now: datetime) -> wire.Organization:
    """Make an organization; whoever does is its admin.

    Raises:
        MalformedName: The name is outside the grammar, or reserved.
        NameTaken: An account or an organization has it.
        TokenElsewhere: The token is for some organizations only.
    """
    account_id = require_scope(viewer, "write")
    if viewer.organizations is not None:
        raise TokenElsewhere(name, viewer.organizations)
    require_free(session, name)
    add_organization(session, name, account_id, now)
    audit.record(session, account_id, "org.create", name, now)
    return show(session, viewer, name)


def found(session: Session, name: str, admin: str, now: datetime) -> None:
    """Make an organization for an account, as the operator of the registry."""
    account = find_account(session, admin)
    require_free(session, name)
    add_organization(session, name, account.id, now)
    audit.record(session, None, "org.create", name, now, admin=admin)


def show(session: Session, viewer: Viewer, name: str) -> wire.Organization:
    """An organization and how many adapters of it the viewer may read; members are shown to members.

    Raises:
        OrganizationNotFound: No organization has this name.
    """
    row = session.scalar(select(Organization).filter_by(name=name))
    if row is None:
        raise OrganizationNotFound(name)
    memberships = session.scalars(select(Membership).filter_by(organization_id=row.id)).all()
    inside = viewer.rules_everything or (
        viewer.is_for(name)
        and any(membership.account_id == viewer.account_id for membership in memberships)
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
        MissingRole: Only admins of the organization may; everyone may leave.
        AccountNotFound: No account has this name.
        LastAdmin: The organization would be left without one.
    """
    name, account_name = place
    leaves = role is None and account_name == viewer.name
    actor = require_scope(viewer, "write" if leaves else "admin")
    row = require_role(session, viewer, name, "reader" if leaves else "admin")
    account = find_account(session, account_name)
    give_role(session, row, account.id, role)
    audit.record(session, actor, "org.member", f"{name}/{account_name}", now, role=role)
    return show(session, viewer, name)


def give_role(session: Session, row: Organization, account_id: int, role: wire.Role | None) -> None:
    """Let an account have this role in an organization, or none; LastAdmin."""
    admins = session.scalars(
        select(Membership).filter_by(organization_id=row.id, role="admin").with_for_update()
    ).all()
    held = session.get(Membership, (row.id, account_id))
    if role != "admin" and held is not None and list(admins) == [held]:
        raise LastAdmin(row.name, held.account.name)
    if held is not None and role is None:
        session.delete(held)
    elif held is not None and role is not None:
        held.role = role
    elif role is not None:
        session.add(Membership(organization_id=row.id, account_id=account_id, role=role))
    session.flush()
