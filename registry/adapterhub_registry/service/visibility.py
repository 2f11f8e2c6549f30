"""What a viewer may read, as clauses of SQL, and whether an organization lets them in."""

from sqlalchemy import ColumnElement, Select, exists, or_, select, true
from sqlalchemy.orm import InstrumentedAttribute, Session

from adapterhub_client.wire import Role, Scope
from adapterhub_registry.domain.permission import Viewer, covers, reaches
from adapterhub_registry.errors import (
    MissingRole,
    MissingScope,
    NotOperator,
    OrganizationNotFound,
    TokenElsewhere,
    TokenRequired,
)
from adapterhub_registry.models import Adapter, Membership, Organization, Repository


def readable(viewer: Viewer) -> ColumnElement[bool]:
    """Adapters that are public, or of an organization the viewer is in."""
    return may_read(viewer, Adapter.private, Adapter.organization_id)


def may_read(
    viewer: Viewer,
    private: InstrumentedAttribute[bool],
    organization_id: InstrumentedAttribute[int],
) -> ColumnElement[bool]:
    """The same for any table that says whose its rows are and whether they are private."""
    if viewer.rules_everything:
        return true()
    if viewer.is_anonymous:
        return private.is_(False)
    return or_(private.is_(False), organization_id.in_(organizations_of(viewer)))


def open_files(viewer: Viewer) -> ColumnElement[bool]:
    """Adapters whose files are for everyone who may read them, or of an organization the viewer is in."""
    if viewer.rules_everything:
        return true()
    gated = exists().where(Repository.full_name == Adapter.full_name, Repository.gated.is_not(None))
    if viewer.is_anonymous:
        return ~gated
    return or_(~gated, Adapter.organization_id.in_(organizations_of(viewer)))


def organizations_of(viewer: Viewer) -> Select[int]:
    """The ids of the organizations that the viewer is in, and that the token is for."""
    mine = select(Membership.organization_id).where(Membership.account_id == viewer.account_id)
    if viewer.organizations is None:
        return mine
    named = select(Organization.id).where(Organization.name.in_(viewer.organizations))
    return mine.where(Membership.organization_id.in_(named))


def require_scope(viewer: Viewer, scope: Scope) -> int:
    """Go on only with a token of this scope; give the account's id.

    Raises:
        TokenRequired: Nobody is signed in.
        MissingScope: The token does not reach this far.
    """
    if viewer.account_id is None:
        raise TokenRequired
    if not reaches(viewer.scopes, scope):
        raise MissingScope(scope)
    return viewer.account_id


def require_operator(viewer: Viewer) -> int:
    """Go on only for administrators of the whole registry; give the account's id.

    Raises:
        TokenRequired, MissingScope, NotOperator: The viewer is none.
    """
    account_id = require_scope(viewer, "admin")
    if not viewer.rules_everything:
        raise NotOperator
    return account_id


def may(session: Session, viewer: Viewer, name: str, role: Role) -> bool:
    """Whether somebody may do in an organization what this role is for; nobody may without a token."""
    if viewer.is_anonymous or not reaches(viewer.scopes, "write"):
        return False
    try:
        require_role(session, viewer, name, role)
    except (OrganizationNotFound, MissingRole, TokenElsewhere):
        return False
    return True


def require_role(session: Session, viewer: Viewer, name: str, role: Role) -> Organization:
    """Go on only with this role in the organization; it is looked up anew each time.

    Raises:
        OrganizationNotFound: There is no such organization.
        MissingRole: The account does not have the role.
        TokenElsewhere: The account may have it, but the token is for others.
    """
    organization = session.scalar(select(Organization).filter_by(name=name))
    if organization is None:
        raise OrganizationNotFound(name)
    if not viewer.is_for(name):
        raise TokenElsewhere(name, viewer.organizations or ())
    held = session.scalar(
        select(Membership.role).filter_by(
            organization_id=organization.id, account_id=viewer.account_id
        )
    )
    if not viewer.rules_everything and not covers(held, role):
        raise MissingRole(name, role)
    return organization
