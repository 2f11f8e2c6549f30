"""A commit whose tree is a valid adapter folder becomes a version, by the same publish as any other."""

import msgspec
from sqlalchemy import select

from adapterhub_client import wire
from adapterhub_registry.domain.permission import Viewer
from adapterhub_registry.errors import Conflict, Unprocessable
from adapterhub_registry.models import RepositoryCommit, Version, VersionFile
from adapterhub_registry.runtime import Runtime
from adapterhub_registry.service import publishing, receiving, repository, representation
from adapterhub_registry.service.committing import Done
from adapterhub_registry.service.derivation import NoVersion, manifest
from adapterhub_registry.service.repository import Entry, View

_COMPARED = 100


class Released(msgspec.Struct, frozen=True):
    """The version that a commit became, or why it is a draft. Neither for branches that are never published."""

    version: wire.Version | None = None
    reason: str | None = None


def release(runtime: Runtime, viewer: Viewer, branch: str, done: Done) -> Released:
    """Publish what a branch is at, where it is an adapter and the branch is one that is published from.

    What breaks a rule stays a draft, and the answer says which.
    """
    view, snapshot = done.view, done.snapshot
    row = view.row
    known = snapshot.version is not None or not snapshot.tree
    if row is None or known or not repository.is_published_from(view, branch):
        return Released()
    reference = repository.reference_of(view.repo_id)

    def read(entry: Entry) -> bytes:
        return b"".join(runtime.store.read(entry.sha256))

    try:
        derived = manifest(snapshot.tree, read, reference)
        digest = _same_files(runtime, view, derived) or _published(runtime, viewer, view, derived)
    except NoVersion as error:
        return Released(reason=str(error))
    except (Unprocessable, Conflict) as error:
        return Released(reason="; ".join(error.reasons) or error.detail)
    with runtime.database.writing() as session:
        published = session.scalars(select(Version).filter_by(digest=digest)).one()
        committed = session.scalars(
            select(RepositoryCommit).filter_by(repository_id=row.id, oid=snapshot.oid)
        ).one()
        committed.version_id = published.id
        committed.seen_version_id = max(committed.seen_version_id, published.id)
        query = representation.versions_query().where(Version.id == published.id)
        return Released(version=representation.version(session.scalars(query).one()))


def _published(runtime: Runtime, viewer: Viewer, view: View, derived: wire.Manifest) -> str:
    """Publish as every client does, with the bytes of the commit in place of an upload; gives the digest."""
    upload = publishing.begin(
        runtime, viewer, wire.UploadDraft(manifest=derived, private=view.private)
    )
    for target in upload.missing:
        receiving.there(runtime, viewer, (upload.id, target.sha256))
    version, _ = publishing.commit(runtime, viewer, upload.id)
    return version.digest


def _same_files(runtime: Runtime, view: View, derived: wire.Manifest) -> str | None:
    """The digest of a version of these very files, however it was described when it was published."""
    wanted = {(file.path, file.sha256) for file in derived.files}
    recent = {row.id: row for row in view.versions[-_COMPARED:]}
    with runtime.database.reading() as session:
        rows = session.execute(
            select(VersionFile.version_id, VersionFile.path, VersionFile.sha256).where(
                VersionFile.version_id.in_(recent)
            )
        )
        found: dict[int, set[tuple[str, str]]] = {}
        for version_id, path, sha256 in rows:
            found.setdefault(version_id, set()).add((path, sha256))
    same = [recent[version_id] for version_id, files in found.items() if files == wanted]
    same = [row for row in same if row.status != "yanked"]
    return max(same, key=lambda row: row.id).digest if same else None
