"""What a viewer may do with a repository that they see, and how far its adapter has come."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from adapterhub_registry.domain.permission import Viewer
from adapterhub_registry.errors import Gated
from adapterhub_registry.models import Adapter, Version
from adapterhub_registry.service.repository import View
from adapterhub_registry.service.visibility import organizations_of, require_role, require_scope


def require_files(session: Session, viewer: Viewer, view: View) -> None:
    """Go on only where the viewer may have the files; Gated."""
    if view.gated is None or viewer.rules_everything:
        return
    if view.organization.id not in session.scalars(organizations_of(viewer)).all():
        raise Gated(view.repo_id, view.organization.name)


def require_writer(session: Session, viewer: Viewer, view: View) -> int:
    """Go on only for those who may write here; give the account's id.

    Raises:
        TokenRequired, MissingScope, MissingRole: They may not.
    """
    account_id = require_scope(viewer, "write")
    require_role(session, viewer, view.organization.name, "writer")
    return account_id


def newest_version_id(session: Session, full_name: str) -> int:
    """The newest version of an adapter, 0 where there is none."""
    query = (
        select(func.max(Version.id))
        .join(Version.variant)
        .join(Adapter)
        .where(Adapter.full_name == full_name)
    )
    return session.scalar(query) or 0
