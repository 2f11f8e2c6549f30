"""Make, change, move and delete repositories, and the branches and tags that people give them."""

import hashlib
from datetime import datetime

import msgspec
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from adapterhub_client import names
from adapterhub_client.errors import MalformedReference
from adapterhub_registry.database import keep_blobs
from adapterhub_registry.domain.permission import Viewer
from adapterhub_registry.errors import (
    BadRequest,
    Conflict,
    RefFixed,
    RefTaken,
    RepositoryExists,
    RevisionNotFound,
    Unprocessable,
)
from adapterhub_registry.models import (
    Adapter,
    Organization,
    Repository,
    RepositoryBlob,
    RepositoryCommit,
    RepositoryMove,
    RepositoryRef,
    RetiredName,
)
from adapterhub_registry.runtime import Runtime
from adapterhub_registry.service import (
    audit,
    committing,
    deletion,
    git_object,
    ownership,
    repository,
    standing,
)
from adapterhub_registry.service.committing import Author
from adapterhub_registry.service.repository import MAIN, Entry, View
from adapterhub_registry.service.visibility import require_role, require_scope

_NUMBERED = (
    "Tags such as {!r} show numbered versions, which come into being when `main` is an adapter."
)
_DELETED = "deleted by a Hugging Face client"
_RETIRED = "{!r} was deleted, and a name is not given twice: take another."


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What may be changed; None leaves it."""

    private: bool | None = None
    gated: str | None = None
    """`auto`, `manual` or `open`"""


def create(runtime: Runtime, viewer: Viewer, repo_id: str, *, private: bool) -> str:
    """Make a repository with a first commit; give its id.

    Raises:
        BadRequest: The id is outside the grammar; the reason is in the message.
        RepositoryExists: There is one.
        OrganizationNotFound, MissingRole: The viewer may not make one there.
    """
    reference = _named(repo_id)
    content = git_object.ATTRIBUTES
    sha256 = hashlib.sha256(content).hexdigest()
    with runtime.database.reading() as session:
        _free(session, viewer, reference, repo_id)
    committing.keep(runtime, [content], sha256, len(content))
    with runtime.database.writing() as session:
        keep_blobs(session)
        organization = _free(session, viewer, reference, repo_id)
        author = Author(require_scope(viewer, "write"), runtime.clock())
        row = Repository(
            organization_id=organization.id,
            full_name=reference.adapter,
            spelling=repo_id,
            private=private,
            created_at=author.moment,
            updated_at=author.moment,
        )
        session.add(row)
        session.flush()
        tree = {git_object.ATTRIBUTES_FILE: Entry(sha256, len(content))}
        oid = committing.record(session, row, (None, tree), ("initial commit", ""), author)
        committing.move(session, row, MAIN, oid, author)
        _audit(session, viewer, "repository.create", row.full_name, author.moment, private=private)
    return repo_id


def change(session: Session, viewer: Viewer, repo_id: str, wanted: Settings, now: datetime) -> View:
    """Change who may see a repository, or have its files.

    Raises:
        Unprocessable: A setting that cannot be.
    """
    view = repository.find(session, viewer, repo_id)
    _require_admin(session, viewer, view)
    if wanted.gated not in {None, "auto", "manual", "open"}:
        raise Unprocessable(f"`gated` is 'auto', 'manual' or false, not {wanted.gated!r}.")
    if wanted.private is not None and view.adapter is not None:
        reference = names.parse(view.full_name)
        ownership.set_private(session, viewer, reference, now, private=wanted.private)
    row = committing.locked(session, view, now)
    if wanted.private is not None:
        row.private = wanted.private
    if wanted.gated is not None:
        row.gated = None if wanted.gated == "open" else wanted.gated
    row.updated_at = now
    detail = {"private": row.private, "gated": row.gated}
    _audit(session, viewer, "repository.change", row.full_name, now, **detail)
    session.flush()
    return repository.find(session, viewer, repo_id)


def remove(session: Session, viewer: Viewer, repo_id: str, now: datetime) -> None:
    """Delete a repository; the versions that were published from it leave a tombstone.

    Raises:
        DependedOn: Public compositions of others pin its versions.
    """
    view = repository.find(session, viewer, repo_id)
    _require_admin(session, viewer, view)
    if view.adapter is not None:
        wish = deletion.Wish(reason=_DELETED)
        deletion.delete_adapter(session, viewer, names.parse(view.full_name), wish, now)
        return
    if view.row is not None:
        for table in (RepositoryBlob, RepositoryRef, RepositoryCommit):
            session.execute(delete(table).where(table.repository_id == view.row.id))
        session.execute(delete(Repository).filter_by(id=view.row.id))
    session.execute(delete(RepositoryMove).filter_by(new_name=view.full_name))
    _audit(session, viewer, "repository.delete", view.full_name, now)


def rename(session: Session, viewer: Viewer, old_id: str, new_id: str, now: datetime) -> None:
    """Give a repository another id; the old one leads there. A published adapter may change its organization.

    Raises:
        Conflict: A published adapter cannot change its task or its name.
        RepositoryExists, NameTaken: The new id is taken.
    """
    view = repository.find(session, viewer, old_id)
    _require_admin(session, viewer, view)
    reference = _named(new_id)
    old = names.parse(view.full_name)
    if view.adapter is not None:
        if (old.task, old.name) != (reference.task, reference.name):
            raise Conflict(
                f"{view.repo_id!r} has published versions: it may go to another organization, not change its name."
            )
        ownership.transfer(session, viewer, old, reference.org, now)
        return
    organization = _free(session, viewer, reference, new_id, moving=view.full_name)
    row = committing.locked(session, view, now)
    row.full_name, row.spelling = reference.adapter, new_id
    row.organization_id, row.updated_at = organization.id, now
    for move in session.scalars(select(RepositoryMove).filter_by(new_name=view.full_name)):
        move.new_name = reference.adapter
    session.execute(delete(RepositoryMove).filter_by(old_name=reference.adapter))
    session.add(RepositoryMove(old_name=view.full_name, new_name=reference.adapter, moved_at=now))
    _audit(session, viewer, "repository.move", view.full_name, now, to=reference.adapter)


def add_ref(
    session: Session,
    viewer: Viewer,
    place: tuple[str, str],
    ref: tuple[str, str],
    now: datetime,
) -> None:
    """Make a branch or a tag; `place` is the repository and the revision, `ref` the kind and the name.

    Raises:
        RefTaken: There is one of this name.
        BadRequest: A name that cannot be.
    """
    repo_id, revision = place
    kind, name = ref
    view = repository.find(session, viewer, repo_id)
    account_id = standing.require_writer(session, viewer, view)
    if not repository.REF_NAME.fullmatch(name) or repository.OID.fullmatch(name):
        raise BadRequest(
            f"{name!r} is no name for a {kind}: 1 to 96 letters, digits, `.`, `_` and `-`, and no commit id."
        )
    row = committing.locked(session, view, now)
    view = repository.find(session, viewer, repo_id)
    known = repository.refs(session, view)
    if name in known.branches or name in known.tags:
        raise RefTaken("branch" if name in known.branches else "tag", name)
    if name[:1] == "v" and names.NUMBER.fullmatch(name[1:]):
        raise BadRequest(_NUMBERED.format(name))
    oid = repository.snapshot(session, view, revision).oid
    session.add(RepositoryRef(repository_id=row.id, name=name, kind=kind, oid=oid, created_at=now))
    audit.record(
        session, account_id, f"repository.{kind}.create", view.full_name, now, name=name, commit=oid
    )


def remove_ref(
    session: Session, viewer: Viewer, repo_id: str, ref: tuple[str, str], now: datetime
) -> None:
    """Delete a branch or a tag that somebody made.

    Raises:
        RevisionNotFound: There is none.
        RefFixed: It shows a version, a variant or `main`.
    """
    kind, name = ref
    view = repository.find(session, viewer, repo_id)
    account_id = standing.require_writer(session, viewer, view)
    held = view.refs.get(name)
    shown = repository.refs(session, view)
    there = shown.branches if kind == "branch" else shown.tags
    if name == MAIN or (held is None and name in there):
        raise RefFixed(f"The {kind} {name!r} shows what is published; it cannot be deleted.")
    if held is None or held.kind != kind:
        raise RevisionNotFound(view.repo_id, name)
    session.execute(delete(RepositoryRef).filter_by(repository_id=held.repository_id, name=name))
    audit.record(session, account_id, f"repository.{kind}.delete", view.full_name, now, name=name)


def _named(repo_id: str) -> names.Reference:
    """The adapter that a new repository would be; BadRequest with the reason where there cannot be one."""
    try:
        return names.parse(repo_id.lower())
    except MalformedReference as error:
        raise BadRequest(f"{error} {error.hint}") from error


def _free(
    session: Session,
    viewer: Viewer,
    reference: names.Reference,
    repo_id: str,
    *,
    moving: str | None = None,
) -> Organization:
    """The organization of a name that is free; others that make one there wait until this transaction ends."""
    require_scope(viewer, "write")
    organization = require_role(session, viewer, reference.org, "writer")
    session.execute(select(Organization.id).filter_by(id=organization.id).with_for_update())
    for table in (Adapter, Repository):
        if session.scalar(select(table.id).where(table.full_name == reference.adapter)) is not None:
            raise RepositoryExists(repo_id)
    if session.scalar(select(RetiredName.full_name).filter_by(full_name=reference.adapter)):
        raise BadRequest(_RETIRED.format(repo_id))
    moved = session.get(RepositoryMove, reference.adapter)
    if moved is not None and moved.new_name != moving:
        raise RepositoryExists(names.parse(moved.new_name).repo_id)
    return organization


def _require_admin(session: Session, viewer: Viewer, view: View) -> None:
    require_scope(viewer, "write")
    require_role(session, viewer, view.organization.name, "admin")


def _audit(
    session: Session, viewer: Viewer, action: str, subject: str, now: datetime, **detail: object
) -> None:
    audit.record(session, viewer.account_id, action, subject, now, **detail)
