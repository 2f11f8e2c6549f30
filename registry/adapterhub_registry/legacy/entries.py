"""The document of one entry: its files with addresses and checksums, mirrored ones at ours."""

from typing import Any

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload, undefer

from adapterhub_registry.domain.permission import Viewer
from adapterhub_registry.errors import NotFound
from adapterhub_registry.legacy import archives, index
from adapterhub_registry.legacy.index import Edition
from adapterhub_registry.models import (
    Adapter,
    ImportedEntry,
    ImportedFile,
    TaskProfile,
    Variant,
    Version,
)
from adapterhub_registry.runtime import Runtime
from adapterhub_registry.service.visibility import readable


class EntryNotListed(NotFound):
    """The index has no such entry."""

    code = "entry_not_listed"

    def __init__(self, organization: str, file: str) -> None:
        super().__init__(f"The index has no entry '{organization}/{file}'.")


class Asked(msgspec.Struct, frozen=True):
    """Which entry, in which edition of the layout, and where our own zips are."""

    organization: str
    file: str
    edition: Edition
    address: str


def document(runtime: Runtime, session: Session, viewer: Viewer, asked: Asked) -> dict[str, Any]:
    """The document of an entry.

    Raises:
        EntryNotListed: There is none, or the viewer may not read it.
    """
    organization, file = asked.organization, asked.file
    entry = index.imported(session, viewer, organization, file)
    if entry is not None:
        return _imported(runtime, session, entry, asked)
    variant_id = index.own_variant(file)
    rows = [] if variant_id is None else _versions(session, viewer, variant_id, organization)
    kind = None
    if rows:
        kind = session.scalar(
            select(TaskProfile.kind).filter_by(task_id=rows[0].variant.adapter.task_id)
        )
    if not rows or index.own_item(rows[0], kind, None).file != file:
        raise EntryNotListed(organization, file)
    files = {str(row.number): _ours(runtime, row, asked.address) for row in rows}
    item = index.own_item(rows[0], kind, files[str(rows[0].number)]["sha1"])
    return _document(item, str(rows[0].number), files, asked.edition)


def _imported(
    runtime: Runtime, session: Session, entry: ImportedEntry, asked: Asked
) -> dict[str, Any]:
    rows = session.scalars(
        select(ImportedFile)
        .filter_by(entry_id=entry.id)
        .options(joinedload(ImportedFile.version))
        .order_by(ImportedFile.position)
    ).all()
    files = {
        row.name: _listed(runtime, row, asked.address)
        for row in rows
        if row.version is None or row.version.status != "yanked"
    }
    known = {row.version_id for row in rows}
    later = [row for row in _of_variant(session, entry.variant_id) if row.id not in known]
    for row in reversed(later):
        name = str(row.number)
        files[name if name not in files else f"v{name}"] = _ours(runtime, row, asked.address)
    if not files:
        raise EntryNotListed(entry.organization, entry.file)
    default = entry.default_version if entry.default_version in files else next(reversed(files))
    v1 = index.first_configs(session)
    item = index.imported_item(entry, asked.edition, v1, files[default].get("sha1"))
    return _document(item, default, files, asked.edition)


def _document(
    item: index.Item, default: str, files: dict[str, dict[str, Any]], edition: Edition
) -> dict[str, Any]:
    info = {} if edition == 1 else {"info": item.info}
    return {"config_id": item.config_id, "default_version": default, "files": files, **info}


def _listed(runtime: Runtime, row: ImportedFile, address: str) -> dict[str, Any]:
    """Our own zip where the weights are here, else what the reference hub says."""
    score = {} if row.score is None else {"score": row.score}
    if row.version is not None:
        return {**_ours(runtime, row.version, address), **score}
    sums = {"sha1": row.sha1, "sha256": row.sha256}
    return {"url": row.url, **{name: each for name, each in sums.items() if each}, **score}


def _ours(runtime: Runtime, row: Version, address: str) -> dict[str, Any]:
    sums = archives.sums(runtime, row.digest)
    name = row.digest.removeprefix("sha256:")
    return {"url": f"{address}/{name}.zip", "sha1": sums.sha1, "sha256": sums.sha256}


def _versions(
    session: Session, viewer: Viewer, variant_id: int, organization: str
) -> list[Version]:
    adapter = session.scalar(
        select(Adapter)
        .join(Variant, Variant.adapter_id == Adapter.id)
        .where(Variant.id == variant_id, readable(viewer))
        .options(joinedload(Adapter.organization))
    )
    if adapter is None or adapter.organization.name != organization:
        return []
    return _of_variant(session, variant_id)


def _of_variant(session: Session, variant_id: int) -> list[Version]:
    """The versions of a variant that clients of old can load, newest first."""
    return list(
        session.scalars(
            select(Version)
            .filter_by(variant_id=variant_id, format="adapters")
            .where(Version.status != "yanked")
            .options(
                undefer(Version.manifest),
                joinedload(Version.variant).joinedload(Variant.adapter).joinedload(Adapter.task),
                joinedload(Version.variant)
                .joinedload(Variant.adapter)
                .joinedload(Adapter.organization),
            )
            .order_by(Version.number.desc())
        )
    )
