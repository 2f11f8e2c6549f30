"""The index of the reference hub from our catalogue: for a base model, task, subtask, config and organization.

What was imported is named as the reference hub names it, and is where it was; every other adapter in the `adapters`
format follows under a file name of ours, `TASK.NAME-VARIANT`.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import msgspec
from sqlalchemy import func, select
from sqlalchemy.orm import Session, joinedload, undefer

from adapterhub_registry.domain.permission import Viewer
from adapterhub_registry.importing import identity
from adapterhub_registry.models import (
    Adapter,
    Architecture,
    ImportedEntry,
    ImportedFile,
    LegacyArchive,
    TaskProfile,
    Variant,
    Version,
)
from adapterhub_registry.service import representation
from adapterhub_registry.service.visibility import readable

Edition = Literal[1, 2]
"""of the layout: the first has an index for each type, and other configs"""

_OWN_FILE = re.compile(r".+-(?P<variant>[1-9][0-9]{0,17})")
_PREFERRED = "pfeiffer"
_METHODS = {method: name for name, method in identity.METHODS.items()}


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the index."""

    kind: str
    model_name: str
    task: str
    subtask: str
    organization: str
    file: str
    architecture: str
    config: dict[str, Any]
    config_id: str
    sha1: str | None

    @property
    def path(self) -> str:
        """Where its own document is, from the index's root."""
        return f"adapters/{self.organization}/{self.file}.json"

    @property
    def info(self) -> dict[str, Any]:
        """What `all.json` says of it."""
        return {
            "source": "ah",
            "adapter_id": f"@{self.organization}/{self.file}",
            "model_name": self.model_name,
            "task": self.task,
            "subtask": self.subtask,
            "username": self.organization,
            "adapter_config": self.config,
            "sha1_checksum": self.sha1,
        }


def index(items: Iterable[Item]) -> dict[str, Any]:
    """Nest entries as clients look them up. The default is the first, or the last of Pfeiffer's architecture."""
    found: dict[str, Any] = {}
    for item in items:
        subtask = found.setdefault(item.task, {}).setdefault(item.subtask, {})
        config = subtask.setdefault(item.config_id, {"versions": {}})
        config["versions"][item.organization] = item.path
        if "default" not in subtask or item.architecture == _PREFERRED:
            subtask["default"] = item.path
    return found


def items(
    session: Session, viewer: Viewer, edition: Edition, model_name: str | None = None
) -> Iterator[Item]:
    """Every entry that the viewer may read, of one base model or of all: what was imported first."""
    yield from _imported_items(session, viewer, edition, model_name)
    yield from _own_items(session, viewer, model_name)


def imported(
    session: Session, viewer: Viewer, organization: str, file: str
) -> ImportedEntry | None:
    """The imported entry of this name, if the viewer may read it."""
    return session.scalar(
        select(ImportedEntry)
        .join(ImportedEntry.adapter)
        .where(
            ImportedEntry.organization == organization,
            ImportedEntry.file == file,
            readable(viewer),
        )
        .options(joinedload(ImportedEntry.adapter), joinedload(ImportedEntry.variant))
    )


def own_variant(file: str) -> int | None:
    """The variant that a file name of ours means."""
    found = _OWN_FILE.fullmatch(file)
    return None if found is None else int(found["variant"])


def own_item(row: Version, kind: str | None, sha1: str | None) -> Item:
    """A version that was published here, as an entry."""
    variant = row.variant
    adapter = variant.adapter
    manifest = representation.manifest(row)
    return Item(
        kind=kind or "text_task",
        model_name=row.base_name,
        task=adapter.task.name,
        subtask=adapter.name,
        organization=adapter.organization.name,
        file=f"{adapter.task.name}.{adapter.name}-{variant.id}",
        architecture=_METHODS.get(variant.method, variant.method),
        config=manifest.method.config,
        config_id=variant.config_id,
        sha1=sha1,
    )


def imported_item(
    entry: ImportedEntry, edition: Edition, v1: dict[str, dict[str, Any]], sha1: str | None
) -> Item:
    """An imported entry, with the config that this edition of the index has for it."""
    config, config_id = entry.config, entry.config_id
    if edition == 1 and entry.architecture in v1:
        config = {**v1[entry.architecture], **entry.overrides}
        config_id = identity.config_id(config)
    return Item(
        kind=entry.kind,
        model_name=entry.model_name,
        task=entry.task,
        subtask=entry.subtask,
        organization=entry.organization,
        file=entry.file,
        architecture=entry.architecture,
        config=config,
        config_id=config_id,
        sha1=sha1,
    )


def first_configs(session: Session) -> dict[str, dict[str, Any]]:
    """The configs that the first edition has otherwise."""
    rows = session.scalars(select(Architecture))
    return {row.name: row.config_v1 for row in rows if row.config_v1 is not None}


def architectures(session: Session, edition: Edition) -> dict[str, dict[str, Any]]:
    """Every named config."""
    rows = session.scalars(select(Architecture).order_by(Architecture.name))
    return {
        row.name: row.config if edition != 1 or row.config_v1 is None else row.config_v1
        for row in rows
    }


def _imported_items(
    session: Session, viewer: Viewer, edition: Edition, model_name: str | None
) -> Iterator[Item]:
    v1 = first_configs(session)
    query = (
        select(ImportedEntry, ImportedFile.sha1, LegacyArchive.sha1)
        .join(ImportedEntry.adapter)
        .outerjoin(
            ImportedFile,
            (ImportedFile.entry_id == ImportedEntry.id)
            & (ImportedFile.name == ImportedEntry.default_version),
        )
        .outerjoin(LegacyArchive, LegacyArchive.version_id == ImportedFile.version_id)
        .where(readable(viewer))
        .order_by(ImportedEntry.position)
    )
    if model_name is not None:
        query = query.where(ImportedEntry.model_name == model_name)
    for entry, original, mirrored in session.execute(query):
        yield imported_item(entry, edition, v1, mirrored or original)


def _own_items(session: Session, viewer: Viewer, model_name: str | None) -> Iterator[Item]:
    """The newest version of each variant that was not imported, and clients of old can load."""
    newest = (
        select(func.max(Version.id))
        .where(Version.status != "yanked", Version.format == "adapters")
        .group_by(Version.variant_id)
    )
    query = (
        select(Version, TaskProfile.kind, LegacyArchive.sha1)
        .join(Version.variant)
        .join(Variant.adapter)
        .outerjoin(TaskProfile, TaskProfile.task_id == Adapter.task_id)
        .outerjoin(LegacyArchive, LegacyArchive.version_id == Version.id)
        .where(
            readable(viewer),
            Version.id.in_(newest),
            ~select(ImportedEntry.id).where(ImportedEntry.variant_id == Variant.id).exists(),
        )
        .options(
            undefer(Version.manifest),
            joinedload(Version.variant).joinedload(Variant.adapter).joinedload(Adapter.task),
            joinedload(Version.variant)
            .joinedload(Variant.adapter)
            .joinedload(Adapter.organization),
        )
        .order_by(Version.id)
    )
    if model_name is not None:
        query = query.where(Version.base_name == model_name)
    for row, kind, sha1 in session.execute(query):
        yield own_item(row, kind, sha1)
