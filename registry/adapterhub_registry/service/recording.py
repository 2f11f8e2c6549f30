"""Write a verified manifest into the catalogue: the one transaction of a publish."""

from datetime import datetime

import msgspec
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from adapterhub_client import wire
from adapterhub_registry.database import ensure, ensure_with
from adapterhub_registry.domain.permission import Viewer
from adapterhub_registry.errors import (
    ManifestRefused,
    NameMoved,
    NameRetired,
    PrivateMembers,
    PublicAlready,
    UploadNotFound,
)
from adapterhub_registry.models import (
    Adapter,
    BaseModel,
    Blob,
    Dataset,
    Head,
    Lineage,
    Member,
    Metric,
    Organization,
    RepositoryMove,
    RetiredName,
    Task,
    Upload,
    Variant,
    Version,
    VersionFile,
)
from adapterhub_registry.service import audit, indexing, lineage, tombstone
from adapterhub_registry.service.representation import versions_query
from adapterhub_registry.service.visibility import readable, require_role


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """A manifest as it becomes a version; without a number it gets the next one."""

    manifest: wire.Manifest
    canonical: bytes
    digest: str
    created_at: datetime
    account_id: int
    number: int | None = None
    status: wire.Status = "active"
    reason: str | None = None


def record(session: Session, viewer: Viewer, upload_id: str, now: datetime) -> tuple[Version, bool]:
    """Make the version of an upload whose blobs are verified, or find it; also says whether it is new.

    Rows are made and locked in one fixed order (upload, task, base, adapter, variant, blobs by name), so two
    publishes never wait for each other in a circle. The lock on the variant is what keeps numbers without gaps.
    """
    upload = session.scalar(
        select(Upload).filter_by(id=upload_id, account_id=viewer.account_id).with_for_update()
    )
    if upload is None:
        raise UploadNotFound(upload_id)
    manifest = msgspec.json.decode(upload.manifest, type=wire.Manifest)
    organization = require_role(session, viewer, manifest.reference.org, "writer")
    require_possible(session, viewer, manifest)
    members_of, absent = members(session, viewer, manifest)
    if absent:
        raise ManifestRefused(absent)
    adapter = _adapter(session, organization, upload, now)
    _hold(session, adapter, manifest)
    require_possible(session, viewer, manifest)  # once more: the name may have become free just now
    release = Release(
        manifest=manifest,
        canonical=upload.manifest,
        digest=upload.digest,
        created_at=now,
        account_id=upload.account_id,
    )
    version, created = write(session, adapter, release, members_of)
    if created:
        audit.record(
            session,
            viewer.account_id,
            "version.publish",
            adapter.full_name,
            now,
            digest=upload.digest,
            number=version.number,
        )
    upload.version_id = version.id
    session.flush()
    if created:
        indexing.refresh(session, [adapter.id])
    return version, created


def write(
    session: Session, adapter: Adapter, release: Release, members_of: list[tuple[str, int]]
) -> tuple[Version, bool]:
    """Write a version and all that its manifest says, or find it; also says whether it is new."""
    variant = variant_of(session, adapter, release.manifest)
    session.execute(select(Variant.id).filter_by(id=variant.id).with_for_update())
    version = session.scalar(versions_query().where(Version.digest == release.digest))
    if version is not None:
        return version, False
    version = _version(session, release, variant)
    _contents(session, version, release.manifest, release.created_at)
    _pin(session, adapter, version, members_of)
    _describe(adapter, release.manifest, release.created_at)
    return version, True


def members(
    session: Session, viewer: Viewer, manifest: wire.Manifest
) -> tuple[list[tuple[str, int]], list[str]]:
    """The versions that a composition pins, as name and id; and those the viewer does not find, as clauses."""
    found: list[tuple[str, int]] = []
    absent: list[str] = []
    for member in manifest.composition.members if manifest.composition else []:
        version_id = session.scalar(
            select(Version.id)
            .join(Version.variant)
            .join(Variant.adapter)
            .where(Version.digest == member.digest, readable(viewer))
        )
        if version_id is None:
            absent.append(f"the member {member.name!r} ({member.digest}) is not in this registry")
        else:
            found.append((member.name, version_id))
    return found, absent


def require_possible(session: Session, viewer: Viewer, manifest: wire.Manifest) -> None:
    """Go on only where this name and this digest may still be given.

    Raises:
        NameRetired: An adapter of this name was deleted.
        NameMoved: It belongs to another organization now.
        Deleted: This very version was deleted.
    """
    name = manifest.reference.reference.adapter
    digest = wire.digest(manifest)
    tombstone.refuse_deleted(session, viewer, digest)
    if session.scalar(select(Version.id).filter_by(digest=digest)) is not None:
        return  # published already, whatever its adapter is called now
    if session.get(RetiredName, name) is not None:
        raise NameRetired(name)
    moved = session.get(RepositoryMove, name)
    if moved is not None:
        raise NameMoved(name, moved.new_name)


def is_public(session: Session, full_name: str) -> bool:
    """Whether there is an adapter of this name that everyone can read."""
    return session.scalar(select(Adapter.private).filter_by(full_name=full_name)) is False


def _adapter(
    session: Session, organization: Organization, upload: Upload, now: datetime
) -> Adapter:
    name = msgspec.json.decode(upload.manifest, type=wire.Manifest).reference
    task = ensure(session, Task, name=name.task)
    full_name = name.reference.adapter
    existed = session.scalar(select(Adapter.id).filter_by(full_name=full_name)) is not None
    keys = {"organization_id": organization.id, "task_id": task.id, "name": name.name}
    rest = {
        "full_name": full_name,
        "private": upload.private,
        "description": "",
        "languages": [],
        "downloads": 0,
        "created_at": now,
        "updated_at": now,
    }
    adapter = ensure_with(session, Adapter, keys, rest)
    if upload.private and not adapter.private:
        raise PublicAlready(full_name)
    if not existed:
        account_id, private = upload.account_id, adapter.private
        audit.record(session, account_id, "adapter.create", full_name, now, private=private)
    return adapter


def _hold(session: Session, adapter: Adapter, manifest: wire.Manifest) -> None:
    """Keep the adapter from being deleted or transferred until the transaction ends; it may have been just now."""
    name = manifest.reference.reference.adapter
    held = select(Adapter.full_name).filter_by(id=adapter.id)
    found = session.scalar(held.with_for_update(read=True, key_share=True))
    if found is None:
        raise NameRetired(name)
    if found != name:
        raise NameMoved(name, found)


def _pin(
    session: Session, adapter: Adapter, version: Version, members_of: list[tuple[str, int]]
) -> None:
    """Write the members down; they stay from here on, and none may be private where the composition is not."""
    ids = sorted({member_id for _, member_id in members_of})
    held = select(Version.id).where(Version.id.in_(ids)).order_by(Version.id)
    if len(session.scalars(held.with_for_update(read=True, key_share=True)).all()) < len(ids):
        raise ManifestRefused(["one of its members was deleted just now"])
    session.add_all(
        Member(version_id=version.id, position=at, name=name, member_version_id=member_id)
        for at, (name, member_id) in enumerate(members_of)
    )
    session.flush()
    hidden = [] if adapter.private else lineage.private_members(session, [version.id])
    if hidden:
        raise PrivateMembers(adapter.full_name, hidden)


def variant_of(session: Session, adapter: Adapter, manifest: wire.Manifest) -> Variant:
    """The variant that a manifest is a version of, made where it is the first."""
    base = manifest.base
    base_model = ensure_with(
        session,
        BaseModel,
        {"key": base.fingerprint or f"name:{base.name}"},
        {"fingerprint": base.fingerprint},
    )
    keys = {
        "adapter_id": adapter.id,
        "base_model_id": base_model.id,
        "config_id": manifest.method.config_id,
    }
    return ensure_with(session, Variant, keys, {"method": manifest.method.name})


def _version(session: Session, release: Release, variant: Variant) -> Version:
    number = release.number
    if number is None:
        newest = session.scalar(select(func.max(Version.number)).filter_by(variant_id=variant.id))
        number = max(newest or 0, tombstone.last_number(session, variant)) + 1
    manifest = release.manifest
    version = Version(
        variant=variant,
        number=number,
        digest=release.digest,
        manifest=release.canonical,
        format=manifest.method.format,
        base=msgspec.to_builtins(manifest.base),
        base_name=manifest.base.name,
        size_bytes=manifest.size_bytes,
        status=release.status,
        reason=release.reason,
        created_at=release.created_at,
        created_by_id=release.account_id,
    )
    session.add(version)
    session.flush()
    return version


def _contents(session: Session, version: Version, manifest: wire.Manifest, now: datetime) -> None:
    sizes = {file.sha256: file.size_bytes for file in manifest.files}
    for sha256 in sorted(sizes):
        ensure_with(
            session,
            Blob,
            {"sha256": sha256},
            {"size_bytes": sizes[sha256], "created_at": now},
        )
    session.add_all(
        VersionFile(version_id=version.id, path=file.path, sha256=file.sha256)
        for file in manifest.files
    )
    session.add_all(
        Head(version_id=version.id, position=at, name=head.name, type=head.type, labels=head.labels)
        for at, head in enumerate(manifest.heads)
    )
    session.add_all(
        Lineage(version_id=version.id, position=at, kind=each.kind, digest=each.digest)
        for at, each in enumerate(manifest.lineage)
    )
    datasets = {
        name: ensure(session, Dataset, name=name)
        for name in sorted({metric.dataset for metric in manifest.metrics})
    }
    session.add_all(
        Metric(
            version_id=version.id,
            position=at,
            dataset_id=datasets[metric.dataset].id,
            split=metric.split,
            name=metric.name,
            value=metric.value,
            std=metric.std,
            seeds=metric.seeds,
            higher_is_better=metric.higher_is_better,
        )
        for at, metric in enumerate(manifest.metrics)
    )


def _describe(adapter: Adapter, manifest: wire.Manifest, now: datetime) -> None:
    adapter.description = manifest.description
    adapter.license = manifest.license
    adapter.languages = manifest.languages
    adapter.updated_at = now
