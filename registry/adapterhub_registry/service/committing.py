"""Commits of files to a branch, as Hugging Face clients make them.

Bytes first, then the commit in one transaction. The same commit sent again, because its answer was lost, finds itself
done. Files of any kind are kept; `releasing` says which trees become versions.

Nobody gets at bytes by naming their hash: a commit takes what it brings along, what its account staged for this
repository, and what it could have read anyway.
"""

import hashlib
import unicodedata
from collections.abc import Iterable
from datetime import datetime
from pathlib import PurePosixPath

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from adapterhub_client import wire
from adapterhub_registry.database import ensure_with, keep_blobs
from adapterhub_registry.domain.permission import Viewer
from adapterhub_registry.errors import (
    BadRequest,
    ContentRefused,
    EntryNotFound,
    RevisionNotFound,
    StaleParent,
    UploadIncomplete,
)
from adapterhub_registry.models import (
    Blob,
    Repository,
    RepositoryBlob,
    RepositoryCommit,
    RepositoryRef,
)
from adapterhub_registry.runtime import Runtime
from adapterhub_registry.service import (
    audit,
    holding,
    publishing,
    quota,
    repository,
    rules,
    standing,
)
from adapterhub_registry.service.repository import MAIN, Entry, Snapshot, Tree, View
from adapterhub_registry.storage import BlobCorrupt, BlobMissing

MOST_FILES = 10_000
_TITLE = 200
_MESSAGE = 20_000
_SHA256_DIGITS = 64
_NOTHING = "0" * 40


class Added(msgspec.Struct, frozen=True):
    """A file to add; `size_bytes` None is that of the bytes that are here."""

    path: str
    sha256: str
    size_bytes: int | None
    is_here: bool
    """the bytes came with the commit, and are a blob"""


class Removed(msgspec.Struct, frozen=True):
    """A file to remove, or a folder with all below it."""

    path: str
    is_folder: bool


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """What a commit shall do."""

    title: str
    message: str = ""
    parent_oid: str | None = None
    changes: list[Added | Removed]


class Author(msgspec.Struct, frozen=True):
    """Who commits, and when."""

    account_id: int
    moment: datetime


class Done(msgspec.Struct, frozen=True):
    """Where the branch is now."""

    view: View
    snapshot: Snapshot


def commit(runtime: Runtime, viewer: Viewer, place: tuple[str, str], proposal: Proposal) -> Done:
    """Commit to a branch; `place` is the repository's id and the branch.

    Raises:
        RevisionNotFound: There is no such branch.
        StaleParent: The branch is no longer at the parent that the commit names.
        BadRequest, EntryNotFound: A path that cannot be, or is not there.
        UploadIncomplete, ContentRefused: Bytes are missing, or not what they claim.
        QuotaExceeded: The organization has no room for it.
    """
    repo_id, branch = place
    if not proposal.title.strip() or "\x00" in proposal.title + proposal.message:
        raise BadRequest("A commit needs a summary, without NUL characters.")
    view = writable(runtime, viewer, place)
    changes = _arrived(runtime, viewer, view, proposal.changes)
    with runtime.database.writing() as session:
        keep_blobs(session)
        account_id = standing.require_writer(session, viewer, view)
        author = Author(account_id, runtime.clock())
        row = locked(session, view, author.moment)
        view = repository.find(session, viewer, repo_id)  # as it is now that nobody else commits
        head = _head(session, view, branch)
        done = _done_before(session, view, head, proposal, changes)
        if done is None and proposal.parent_oid not in {None, head.oid}:
            raise StaleParent(branch, head.oid)
        tree = head.tree if done is not None else changed(head, changes)
        oid = head.oid
        if tree != head.tree:
            _require_blobs(runtime, changes)
            oid = record(session, row, (head, tree), (proposal.title, proposal.message), author)
            move(session, row, branch, oid, author)
            quota.require_room(session, runtime.settings, view.organization.name)
            subject = row.full_name
            audit.record(
                session, account_id, "repository.commit", subject, author.moment, commit=oid
            )
    _forget_staged(runtime, viewer, view, changes)
    with runtime.database.reading() as session:
        view = repository.find(session, viewer, repo_id)
        return Done(view, repository.snapshot(session, view, oid) if oid != _NOTHING else head)


def writable(runtime: Runtime, viewer: Viewer, place: tuple[str, str]) -> View:
    """The repository, where the viewer may write and the branch exists: looked up before any byte is taken."""
    return head(runtime, viewer, place).view


def head(runtime: Runtime, viewer: Viewer, place: tuple[str, str]) -> Done:
    """Where a branch is, for those who may write."""
    repo_id, branch = place
    with runtime.database.reading() as session:
        view = repository.find(session, viewer, repo_id)
        standing.require_writer(session, viewer, view)
        return Done(view, _head(session, view, branch))


def keep(runtime: Runtime, chunks: Iterable[bytes], sha256: str, size_bytes: int) -> None:
    """Make a blob of bytes that came with a request."""
    holding.hold_now(runtime, [sha256])
    try:
        runtime.store.put(sha256, chunks, size_bytes)
    except BlobCorrupt as error:
        raise ContentRefused([f"{sha256}: {error.fault}"]) from error


def staging(account_id: int, full_name: str, sha256: str) -> str:
    """The name under which an account stages a large file for a repository."""
    return hashlib.sha256(f"{account_id}:{full_name}:{sha256}".encode()).hexdigest()[:32]


def known(session: Session, viewer: Viewer, view: View, files: Iterable[wire.File]) -> set[str]:
    """Those of these files whose bytes the viewer need not send: they are here, and theirs to read."""
    wanted = {file.sha256: file.size_bytes for file in files}
    found = set(publishing.known_blobs(session, viewer, list(files)))
    if view.row is not None:
        query = (
            select(Blob.sha256, Blob.size_bytes)
            .join(RepositoryBlob, RepositoryBlob.sha256 == Blob.sha256)
            .where(RepositoryBlob.repository_id == view.row.id, Blob.sha256.in_(wanted))
        )
        found |= {
            sha256 for sha256, size_bytes in session.execute(query) if wanted[sha256] == size_bytes
        }
    return found


def changed(head: Snapshot, changes: Iterable[Added | Removed]) -> Tree:
    """The tree after these changes; BadRequest or EntryNotFound where one cannot be made."""
    tree = dict(head.tree)
    for change in changes:
        if isinstance(change, Added):
            tree[change.path] = Entry(change.sha256, change.size_bytes or 0)
            continue
        path = change.path.strip("/")
        gone = [each for each in tree if each == path or each.startswith(path + "/")]
        gone = gone if change.is_folder else [each for each in gone if each == path]
        if not gone:
            raise EntryNotFound(change.path, head.oid)
        for each in gone:
            del tree[each]
    faults = _faults(tree)
    if faults:
        raise BadRequest("The commit is refused: " + "; ".join(faults) + ".")
    return dict(sorted(tree.items()))


def record(
    session: Session,
    row: Repository,
    trees: tuple[Snapshot | None, Tree],
    texts: tuple[str, str],
    author: Author,
) -> str:
    """Write a commit on top of a head; its id is taken over its content."""
    head, tree = trees
    title, message = texts[0][:_TITLE], texts[1][:_MESSAGE]
    parent_oid = None if head is None or head.oid == _NOTHING else head.oid
    content = msgspec.json.encode(tree)
    identity = msgspec.json.encode([row.full_name, parent_oid, title, message])
    oid = hashlib.sha256(identity + content).hexdigest()[: len(_NOTHING)]
    sizes = {entry.sha256: entry.size_bytes for entry in tree.values()}
    for sha256 in sorted(sizes):  # one order, so that two commits never wait for each other
        rest = {"size_bytes": sizes[sha256], "created_at": author.moment}
        ensure_with(session, Blob, {"sha256": sha256}, rest)
        ensure_with(session, RepositoryBlob, {"repository_id": row.id, "sha256": sha256}, {})
    session.add(
        RepositoryCommit(
            repository_id=row.id,
            oid=oid,
            parent_oid=parent_oid,
            tree=content,
            title=title,
            message=message,
            account_id=author.account_id,
            created_at=author.moment,
            seen_version_id=standing.newest_version_id(session, row.full_name),
        )
    )
    row.updated_at = author.moment
    session.flush()
    return oid


def move(session: Session, row: Repository, branch: str, oid: str, author: Author) -> None:
    """Let a branch point at a commit."""
    keys = {"repository_id": row.id, "name": branch}
    rest = {"kind": "branch", "oid": oid, "created_at": author.moment}
    ensure_with(session, RepositoryRef, keys, rest).oid = oid
    session.flush()


def locked(session: Session, view: View, now: datetime) -> Repository:
    """The row of a repository, made where the catalogue alone knew it; others wait until this transaction ends."""
    rest = {
        "organization_id": view.organization.id,
        "spelling": view.repo_id,
        "private": view.private,
        "created_at": view.created_at,
        "updated_at": now,
    }
    row = ensure_with(session, Repository, {"full_name": view.full_name}, rest)
    return session.scalars(
        select(Repository)
        .filter_by(id=row.id)
        .with_for_update(of=Repository)
        .execution_options(populate_existing=True)
    ).one()


def _head(session: Session, view: View, branch: str) -> Snapshot:
    if branch in repository.branch_names(view):
        try:
            return repository.snapshot(session, view, branch)
        except RevisionNotFound:
            if branch != MAIN:
                raise
            return _before_all(view)
    raise RevisionNotFound(view.repo_id, branch, "Commits go to branches.")


def _before_all(view: View) -> Snapshot:
    return Snapshot(
        oid=_NOTHING,
        tree={},
        title="",
        message="",
        author="",
        created_at=view.created_at,
        parent_oid=None,
        version=None,
        seen_version_id=0,
    )


def _arrived(
    runtime: Runtime, viewer: Viewer, view: View, changes: Iterable[Added | Removed]
) -> list[Added | Removed]:
    """The changes with every byte in its place and every size known."""
    found: list[Added | Removed] = []
    missing: list[str] = []
    for change in changes:
        if isinstance(change, Removed) or change.is_here:
            found.append(change)
            continue
        size_bytes = _arrived_bytes(runtime, viewer, view, change)
        if size_bytes is None:
            missing.append(change.sha256)
        else:
            found.append(msgspec.structs.replace(change, size_bytes=size_bytes))
    if missing:
        raise UploadIncomplete(missing)
    return found


def _arrived_bytes(runtime: Runtime, viewer: Viewer, view: View, change: Added) -> int | None:
    """The size of a large file that was staged, or that the viewer could read; None where it is not here."""
    if len(change.sha256) != _SHA256_DIGITS:
        return None
    upload = staging(viewer.account_id or 0, view.full_name, change.sha256)
    staged = runtime.store.staged_bytes(upload, change.sha256)
    if staged is not None and change.size_bytes in {None, staged}:
        holding.hold_now(runtime, [change.sha256])
        try:
            runtime.store.promote(upload, change.sha256, staged)
        except BlobCorrupt as error:
            raise ContentRefused([f"{change.path}: {error.fault}"]) from error
        return staged
    with runtime.database.reading() as session:
        blob = session.get(Blob, change.sha256)
        if blob is None or change.size_bytes not in {None, blob.size_bytes}:
            return None
        file = wire.File(path=change.path, sha256=blob.sha256, size_bytes=blob.size_bytes)
        return blob.size_bytes if known(session, viewer, view, [file]) else None


def _done_before(
    session: Session,
    view: View,
    head: Snapshot,
    proposal: Proposal,
    changes: list[Added | Removed],
) -> Snapshot | None:
    """The head, where it is what this very commit made when it was sent before."""
    parent_oid = proposal.parent_oid
    if parent_oid is None or head.oid == parent_oid or head.parent_oid != parent_oid:
        return None
    before = repository.snapshot(session, view, parent_oid)
    same = head.title == proposal.title[:_TITLE] and changed(before, changes) == head.tree
    return head if same else None


def _require_blobs(runtime: Runtime, changes: Iterable[Added | Removed]) -> None:
    """Bytes may have been lost between their hash and the transaction; not those that came with this request."""
    gone = []
    for change in changes:
        if isinstance(change, Added) and not change.is_here:
            try:
                runtime.store.size_bytes(change.sha256)
            except BlobMissing:
                gone.append(change.sha256)
    if gone:
        raise UploadIncomplete(gone)


def _forget_staged(
    runtime: Runtime, viewer: Viewer, view: View, changes: Iterable[Added | Removed]
) -> None:
    for change in changes:
        if isinstance(change, Added) and not change.is_here:
            upload = staging(viewer.account_id or 0, view.full_name, change.sha256)
            runtime.store.discard(upload)


def _faults(tree: Tree) -> list[str]:
    """What is wrong with the paths of a tree, as clauses."""
    faults = [f"the path {path!r} {fault}" for path in tree for fault in rules.place_faults(path)]
    folded: dict[str, str] = {}
    for path in tree:
        key = unicodedata.normalize("NFC", path).casefold()
        if key in folded:
            faults.append(f"{folded[key]!r} and {path!r} are the same on some file systems")
        folded[key] = path
    for key, path in folded.items():
        parents = (str(parent) for parent in PurePosixPath(key).parents)
        faults += [
            f"{path!r} lies in {folded[p]!r}, which is a file" for p in parents if p in folded
        ]
    if len(tree) > MOST_FILES:
        faults.append(f"there would be {len(tree)} files, at most {MOST_FILES} are allowed")
    return faults[:20]
