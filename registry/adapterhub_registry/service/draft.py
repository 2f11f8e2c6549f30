"""Tell who asks for an adapter that only a Hugging Face client has begun what is missing for a version."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from adapterhub_registry.domain.permission import Viewer
from adapterhub_registry.errors import OnlyDraft
from adapterhub_registry.models import Repository
from adapterhub_registry.service import repository
from adapterhub_registry.service.derivation import without_weights
from adapterhub_registry.service.repository import MAIN


def refuse(session: Session, viewer: Viewer, full_name: str) -> None:
    """Say why there is no version yet, where the viewer may see that there is a repository.

    Raises:
        OnlyDraft: With the cure, where all it has are pickled weights.
    """
    row = session.scalar(
        select(Repository).where(
            Repository.full_name == full_name, repository.readable_repositories(viewer)
        )
    )
    if row is None:
        return
    view = repository.find(session, viewer, row.spelling)
    tree = repository.snapshot(session, view, MAIN).tree
    raise OnlyDraft(
        full_name, without_weights(tree) or "it is a draft that only Hugging Face clients see"
    )
