"""An adapter as a repository of files: branches and tags over commits.

`main` is the newest active version of the default variant, tags `v1`, `v2`, ... are its versions, and every other
variant has a branch of its own. Beside these stand commits that were made by Hugging Face clients. Whichever came
last, a commit or a version, is where a branch is.

A commit id is 40 hex digits of a digest over content: of a version, the first 40 of its manifest's digest.
"""

import re
from datetime import datetime

import msgspec
from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session, joinedload

from adapterhub_client import names
from adapterhub_client.errors import MalformedReference
from adapterhub_registry.domain.permission import Viewer
from adapterhub_registry.errors import RepositoryNotFound, RevisionNotFound
from adapterhub_registry.models import (
    Adapter,
    Alias,
    Blob,
    ImportedEntry,
    Organization,
    Repository,
    RepositoryCommit,
    RepositoryMove,
    RepositoryRef,
    Version,
    VersionFile,
)
from adapterhub_registry.service import representation
from adapterhub_registry.service.visibility import may_read, readable

MAIN = "main"
OID = re.compile(r"[0-9a-f]{40}")
REF_NAME = re.compile(r"[A-Za-z0-9._-]{1,96}")
_PREFIX = "sha256:"
_OLD_HUB_NAME = "AdapterHub"
_OLD_HUB = "@adapterhub"
_NOT_IN_A_REF = re.compile(r"[^a-z0-9_-]+")


class Moved(Exception):
    """A repository answers at another id now."""

    def __init__(self, repo_id: str) -> None:
        super().__init__(f"The repository is now {repo_id!r}.")
        self.repo_id = repo_id


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """A file of a tree."""

    sha256: str
    size_bytes: int


Tree = dict[str, Entry]


class View(msgspec.Struct, frozen=True, kw_only=True):
    """A repository that the viewer may see, with its versions and refs."""

    full_name: str
    repo_id: str
    organization: Organization
    private: bool
    gated: str | None
    created_at: datetime
    updated_at: datetime
    row: Repository | None
    adapter: Adapter | None
    versions: list[Version]
    """oldest first"""
    refs: dict[str, RepositoryRef]
    aliases: dict[str, int]
    """of the default variant: name and version"""

    def version(self, version_id: int | None) -> Version | None:
        """One of its versions."""
        return next((row for row in self.versions if row.id == version_id), None)


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """One commit."""

    oid: str
    tree: Tree
    title: str
    message: str
    author: str
    created_at: datetime
    parent_oid: str | None
    version: Version | None
    """the version that the tree is; None for a draft"""
    seen_version_id: int
    """the newest version there was when it was made"""


class Refs(msgspec.Struct, frozen=True):
    """Where branches and tags point."""

    branches: dict[str, str]
    tags: dict[str, str]


def reference_of(repo_id: str) -> names.Reference:
    """The adapter that a repository id stands for, in any case; RepositoryNotFound where it cannot be one."""
    try:
        return names.parse(repo_id.lower()) if "@" not in repo_id else _no_id(repo_id)
    except MalformedReference as error:
        raise RepositoryNotFound(repo_id) from error


def find(session: Session, viewer: Viewer, repo_id: str) -> View:
    """Look a repository up by its id, without regard to case.

    Raises:
        RepositoryNotFound: There is none, or it is private and not the viewer's.
        Moved: It has another id now.
    """
    full_name = reference_of(repo_id).adapter
    if full_name.endswith(_OLD_HUB):
        old = _of_old_hub(session, viewer, repo_id)
        if old is not None:
            return old
    row = session.scalar(
        select(Repository)
        .filter_by(full_name=full_name)
        .options(joinedload(Repository.organization))
    )
    adapter = session.scalar(
        select(Adapter)
        .where(Adapter.full_name == full_name, readable(viewer))
        .options(joinedload(Adapter.organization))
    )
    hidden = adapter is None and _exists(session, full_name)
    if hidden or (adapter is None and (row is None or not _may_read(session, viewer, row))):
        _follow(session, viewer, full_name)
        raise RepositoryNotFound(repo_id)
    return _view(session, full_name, row, adapter)


def snapshot(session: Session, view: View, revision: str) -> Snapshot:
    """The commit that a branch, a tag or a commit id names; RevisionNotFound."""
    if OID.fullmatch(revision):
        found = _by_oid(session, view, revision)
    else:
        named = refs(session, view)
        oid = named.branches.get(revision) or named.tags.get(revision)
        found = None if oid is None else _by_oid(session, view, oid)
    if found is None:
        raise RevisionNotFound(view.repo_id, revision, _why(view, revision))
    return found


def refs(session: Session, view: View) -> Refs:
    """Every branch and every tag, with the commit it is at."""
    branches = {
        name: oid
        for name in branch_names(view)
        if (oid := _head_oid(session, view, name)) is not None
    }
    tags = {name: ref.oid for name, ref in view.refs.items() if ref.kind == "tag"}
    tags |= {name: oid_of(row) for name, row in version_tags(view).items()}
    return Refs(branches, tags)


def branch_names(view: View) -> list[str]:
    """`main`, the branches of the other variants, and those that people made."""
    made = [name for name, ref in view.refs.items() if ref.kind == "branch"]
    return list(dict.fromkeys([MAIN, *_variants(view), *made]))


def version_tags(view: View) -> dict[str, Version]:
    """Tags that show versions: `v3` and aliases of the default variant, `<branch>.v3` of the others."""
    default, branch_of = default_variant(view), {v: k for k, v in _variants(view).items()}
    tags = {
        f"v{row.number}"
        if row.variant_id == default
        else f"{branch_of[row.variant_id]}.v{row.number}": row
        for row in view.versions
    }
    for name, version_id in view.aliases.items():
        row = view.version(version_id)
        if row is not None and row.status != "yanked" and name != MAIN:
            tags[name] = row
    return tags


def is_published_from(view: View, branch: str) -> bool:
    """Whether a valid tree of this branch becomes a version: `main` and the branches of variants."""
    return branch == MAIN or branch in _variants(view)


def default_variant(view: View) -> int | None:
    """The variant that `main` shows: the first that has an active version, else the first."""
    return _default(view.versions)


def oid_of(version: Version) -> str:
    """The commit id of a version."""
    return version.digest.removeprefix(_PREFIX)[:40]


def readable_repositories(viewer: Viewer) -> ColumnElement[bool]:
    """Repositories without an adapter that the viewer may see."""
    return may_read(viewer, Repository.private, Repository.organization_id)


def _of_old_hub(session: Session, viewer: Viewer, repo_id: str) -> View | None:
    """An entry of the reference hub as it is known on Hugging Face: `AdapterHub/<file>`, one variant alone."""
    entry = session.scalar(
        select(ImportedEntry)
        .join(ImportedEntry.adapter)
        .where(
            func.lower(ImportedEntry.file) == repo_id.partition("/")[2].lower(), readable(viewer)
        )
        .order_by(ImportedEntry.id)
        .limit(1)
    )
    if entry is None:
        return None
    view = _view(session, entry.adapter.full_name, None, entry.adapter)
    mine = [row for row in view.versions if row.variant_id == entry.variant_id]
    named = f"{_OLD_HUB_NAME}/{entry.file}"
    return msgspec.structs.replace(view, repo_id=named, versions=mine, aliases={})


def _no_id(repo_id: str) -> names.Reference:
    raise RepositoryNotFound(repo_id)


def _exists(session: Session, full_name: str) -> bool:
    return session.scalar(select(Adapter.id).filter_by(full_name=full_name)) is not None


def _may_read(session: Session, viewer: Viewer, row: Repository) -> bool:
    query = select(Repository.id).where(Repository.id == row.id, readable_repositories(viewer))
    return session.scalar(query) is not None


def _follow(session: Session, viewer: Viewer, full_name: str) -> None:
    moved = session.get(RepositoryMove, full_name)
    if moved is not None:
        raise Moved(find(session, viewer, names.parse(moved.new_name).repo_id).repo_id)


def _view(
    session: Session, full_name: str, row: Repository | None, adapter: Adapter | None
) -> View:
    versions: list[Version] = []
    aliases: dict[str, int] = {}
    if adapter is not None:
        query = representation.versions_query().where(Adapter.id == adapter.id)
        versions = list(session.scalars(query.order_by(Version.id)))
        held = session.scalars(select(Alias).filter_by(variant_id=_default(versions)))
        aliases = {alias.name: alias.version_id for alias in held}
    refs: dict[str, RepositoryRef] = {}
    if row is not None:
        stored = session.scalars(select(RepositoryRef).filter_by(repository_id=row.id))
        refs = {ref.name: ref for ref in stored}
    source = adapter or row
    if source is None:
        raise RepositoryNotFound(full_name)
    dates = [each for each in (adapter, row) if each is not None]
    return View(
        full_name=full_name,
        repo_id=names.parse(full_name).repo_id if row is None else row.spelling,
        organization=source.organization,
        private=source.private,
        gated=None if row is None else row.gated,
        created_at=min(each.created_at for each in dates),
        updated_at=max(each.updated_at for each in dates),
        row=row,
        adapter=adapter,
        versions=versions,
        refs=refs,
        aliases=aliases,
    )


def _default(versions: list[Version]) -> int | None:
    active = [row.variant_id for row in versions if row.status != "yanked"]
    return min(active or [row.variant_id for row in versions], default=None)


def _variants(view: View) -> dict[str, int]:
    """A branch for every variant but the default one: `<base>.<method>`, longer where two would be the same."""
    default = default_variant(view)
    found: dict[str, int] = {}
    for row in view.versions:
        variant = row.variant
        if row.variant_id == default or row.variant_id in found.values():
            continue
        short = f"{_slug(row.base_name)}.{_slug(variant.method)}"
        spellings = (short, f"{short}.{_slug(variant.config_id)[:8]}", f"{short}.{row.variant_id}")
        found[next(name for name in spellings if name not in found)] = row.variant_id
    return found


def _slug(text: str) -> str:
    return _NOT_IN_A_REF.sub("-", text.rpartition("/")[2].lower()).strip("-")[:40] or "unknown"


def _head_oid(session: Session, view: View, branch: str) -> str | None:
    """Where a branch is: at its last commit, or at a version of its variant that came after it."""
    ref = view.refs.get(branch)
    commit = None if ref is None or view.row is None else _commit_row(session, view.row.id, ref.oid)
    variant_id = default_variant(view) if branch == MAIN else _variants(view).get(branch)
    own = None if commit is None else view.version(commit.version_id)
    if own is not None:
        variant_id = own.variant_id
    offered = [
        row for row in view.versions if row.variant_id == variant_id and row.status != "yanked"
    ]
    newest = max(offered, key=lambda row: row.number, default=None)
    withdrawn = own is not None and own.status == "yanked"
    if commit is None:
        if ref is not None:
            return ref.oid
        return None if newest is None else oid_of(newest)
    if newest is not None and (newest.id > commit.seen_version_id or withdrawn):
        return oid_of(newest)
    return None if withdrawn else commit.oid


def _by_oid(session: Session, view: View, oid: str) -> Snapshot | None:
    commit = None if view.row is None else _commit_row(session, view.row.id, oid)
    if commit is not None:
        return Snapshot(
            oid=oid,
            tree=msgspec.json.decode(commit.tree, type=Tree),
            title=commit.title,
            message=commit.message,
            author=commit.account.name,
            created_at=commit.created_at,
            parent_oid=commit.parent_oid,
            version=view.version(commit.version_id),
            seen_version_id=commit.seen_version_id,
        )
    row = next((row for row in view.versions if oid_of(row) == oid), None)
    return None if row is None else _of_version(session, view, row)


def _of_version(session: Session, view: View, row: Version) -> Snapshot:
    files = session.execute(
        select(VersionFile.path, Blob.sha256, Blob.size_bytes)
        .join(Blob, Blob.sha256 == VersionFile.sha256)
        .where(VersionFile.version_id == row.id)
        .order_by(VersionFile.path)
    )
    before = [
        each
        for each in view.versions
        if each.variant_id == row.variant_id and each.number < row.number
    ]
    return Snapshot(
        oid=oid_of(row),
        tree={path: Entry(sha256, size_bytes) for path, sha256, size_bytes in files},
        title=f"Version {row.number}",
        message=row.digest,
        author=row.created_by.name,
        created_at=row.created_at,
        parent_oid=oid_of(max(before, key=lambda each: each.number)) if before else None,
        version=row,
        seen_version_id=row.id,
    )


def _commit_row(session: Session, repository_id: int, oid: str) -> RepositoryCommit | None:
    return session.scalar(
        select(RepositoryCommit)
        .filter_by(repository_id=repository_id, oid=oid)
        .options(joinedload(RepositoryCommit.account))
    )


def _why(view: View, revision: str) -> str:
    if view.adapter is not None and not view.versions:
        return "Only what it is was taken over from another hub: its weights are not here."
    yanked = [row for row in view.versions if row.status == "yanked"]
    if revision != MAIN or not yanked:
        return ""
    return f"Every version has been yanked ({yanked[-1].reason}); a tag such as v1 still has its files."
