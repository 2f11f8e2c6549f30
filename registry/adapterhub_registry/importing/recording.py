"""Write what was read into the catalogue: each entry in a transaction of its own, and only where it changed."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from adapterhub_registry.database import ensure, ensure_with
from adapterhub_registry.importing.entries import Entry, File
from adapterhub_registry.importing.findings import Note
from adapterhub_registry.importing.reading import Repository, Subtask
from adapterhub_registry.models import (
    Account,
    Adapter,
    Architecture,
    BaseModel,
    ImportedEntry,
    ImportedFile,
    Membership,
    Model,
    Organization,
    Task,
    TaskProfile,
    Variant,
)
from adapterhub_registry.models import Subtask as SubtaskRow
from adapterhub_registry.runtime import Runtime
from adapterhub_registry.service import audit, indexing

IMPORTER = "reference-hub"
"""the account that what is imported is published by"""

_COPIED = (
    "position",
    "kind",
    "task",
    "subtask",
    "model_type",
    "model_name",
    "hidden_size",
    "author",
    "contact",
    "architecture",
    "overrides",
    "config",
    "config_id",
    "default_version",
    "prediction_head",
    "model_class",
    "description",
    "citation",
    "dependencies",
    "source_sha256",
)


class Changes(msgspec.Struct):
    """How many entries were new, different and as they were."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0


def record(runtime: Runtime, repository: Repository, note: Note) -> Changes:
    """Bring the catalogue to what the repository says."""
    with runtime.database.writing() as session:
        importer = _importer(session, runtime.clock())
        for org in sorted({entry.reference.org for entry in repository.entries}):
            _organization(session, org, importer, runtime.clock(), note)
        _vocabulary(session, repository)
    changes = Changes()
    for entry in repository.entries:
        languages = _languages(entry, repository)
        with runtime.database.reading() as session:
            row = _found(session, entry)
            if row is not None and _is_same(session, row, entry, languages):
                changes.unchanged += 1
                continue
        with runtime.database.writing() as session:
            created = _entry(session, entry, repository, runtime.clock(), note)
        changes.created += created
        changes.updated += not created
    return changes


def _importer(session: Session, now: datetime) -> Account:
    account = session.scalar(select(Account).filter_by(name=IMPORTER))
    if account is None:
        account = Account(name=IMPORTER, is_admin=False, created_at=now)
        session.add(account)
        session.flush()
        audit.record(session, None, "account.create", IMPORTER, now, is_admin=False)
    return account


def _organization(
    session: Session, name: str, importer: Account, now: datetime, note: Note
) -> None:
    row = session.scalar(select(Organization).filter_by(name=name))
    if row is None:
        row = Organization(name=name, created_at=now)
        session.add(row)
        session.flush()
        session.add(Membership(organization_id=row.id, account_id=importer.id, role="admin"))
        audit.record(session, None, "org.create", name, now, admin=IMPORTER)
    elif session.get(Membership, (row.id, importer.id)) is None:
        wrong = "an organization of this name is here already"
        note("existing_organization", f"adapters/{name}", wrong, "its adapters are added to it")


def _vocabulary(session: Session, repository: Repository) -> None:
    """Tasks, subtasks and architectures, each only where it is not so already."""
    for task in repository.tasks.values():
        row = ensure(session, Task, name=task.name)
        _put(
            session,
            TaskProfile,
            {"task_id": row.id},
            {
                "kind": task.kind,
                "display_name": task.display_name,
                "description": task.description,
            },
        )
    for subtask in repository.subtasks.values():
        task_id = ensure(session, Task, name=subtask.task).id
        values = msgspec.to_builtins(subtask)
        del values["task"], values["name"]
        _put(session, SubtaskRow, {"task_id": task_id, "name": subtask.name}, values)
    for architecture in repository.architectures.values():
        _put(
            session,
            Architecture,
            {"name": architecture.name},
            {
                "display_name": architecture.displayname.strip() or architecture.name,
                "description": architecture.description.strip(),
                "citation": (architecture.citation or "").strip() or None,
                "config": architecture.config,
                "config_v1": architecture.config_v1,
            },
        )


def _put(
    session: Session, model: type[Model], keys: Mapping[str, Any], values: Mapping[str, Any]
) -> None:
    row = session.scalar(select(model).filter_by(**keys))
    if row is None:
        session.add(model(**keys, **values))
        return
    for field, value in values.items():
        if getattr(row, field) != value:
            setattr(row, field, value)


def _found(session: Session, entry: Entry) -> ImportedEntry | None:
    return session.scalar(
        select(ImportedEntry).filter_by(organization=entry.reference.org, file=entry.file)
    )


def _is_same(session: Session, row: ImportedEntry, entry: Entry, languages: list[str]) -> bool:
    rows = session.scalars(
        select(ImportedFile).filter_by(entry_id=row.id).order_by(ImportedFile.position)
    )
    return (
        all(getattr(row, field) == getattr(entry, field) for field in _COPIED)
        and row.languages == languages
        and [_listed(file) for file in rows] == entry.files
    )


def _listed(row: ImportedFile) -> File:
    return File(
        name=row.name,
        url=row.url,
        sha1=row.sha1,
        sha256=row.sha256,
        score=row.score,
        description=row.description,
    )


def _entry(
    session: Session, entry: Entry, repository: Repository, now: datetime, note: Note
) -> bool:
    """Make or change the row of an entry, its adapter and its variant; also says whether it is new."""
    subtask = repository.subtasks.get((entry.reference.task, entry.reference.name))
    languages = _languages(entry, repository)
    variant = _variant(session, entry, subtask, languages, now)
    row = _found(session, entry)
    created = row is None
    if row is None:
        row = ImportedEntry(organization=entry.reference.org, file=entry.file)
        session.add(row)
    for field in _COPIED:
        setattr(row, field, getattr(entry, field))
    row.languages = languages
    row.variant_id, row.adapter_id = variant.id, variant.adapter_id
    session.flush()
    _files(session, row, entry, note)
    full_name = entry.reference.adapter
    action = "import.create" if created else "import.update"
    audit.record(session, None, action, full_name, now, file=entry.file)
    indexing.refresh(session, [variant.adapter_id])
    return created


def _variant(
    session: Session,
    entry: Entry,
    subtask: Subtask | None,
    languages: list[str],
    now: datetime,
) -> Variant:
    reference = entry.reference
    task = ensure(session, Task, name=reference.task)
    base = ensure_with(
        session, BaseModel, {"key": f"name:{entry.model_name}"}, {"fingerprint": None}
    )
    organization = session.scalars(select(Organization).filter_by(name=reference.org)).one()
    known = session.scalar(select(Adapter.id).filter_by(full_name=reference.adapter))
    adapter = ensure_with(
        session,
        Adapter,
        {"organization_id": organization.id, "task_id": task.id, "name": reference.name},
        {
            "full_name": reference.adapter,
            "private": False,
            "description": (subtask.description if subtask else "") or entry.description,
            "languages": languages,
            "downloads": 0,
            "created_at": now,
            "updated_at": now,
        },
    )
    if known is None:
        audit.record(session, None, "adapter.create", reference.adapter, now, private=False)
    keys = {"adapter_id": adapter.id, "base_model_id": base.id, "config_id": entry.config_id}
    return ensure_with(session, Variant, keys, {"method": entry.method})


def _languages(entry: Entry, repository: Repository) -> list[str]:
    subtask = repository.subtasks.get((entry.reference.task, entry.reference.name))
    return entry.languages or (subtask.languages if subtask else [])


def _files(session: Session, row: ImportedEntry, entry: Entry, note: Note) -> None:
    before = {each.name: each for each in session.scalars(_files_of(row))}
    for position, file in enumerate(entry.files):
        known = before.pop(file.name, None)
        if known is None:
            known = ImportedFile(entry_id=row.id, name=file.name, state="pending")
            session.add(known)
        elif known.state == "mirrored" and _listed(known) != file:
            wrong = f"the version {file.name!r} has changed since its weights were mirrored"
            note("changed_upstream", entry.subject, wrong, "what was mirrored stays")
            continue
        elif (known.url, known.sha1, known.sha256) != (file.url, file.sha1, file.sha256):
            known.state, known.fault = "pending", None
        known.position = position
        for field in ("url", "sha1", "sha256", "score", "description"):
            setattr(known, field, getattr(file, field))
    for gone in before.values():
        wrong = f"the version {gone.name!r} is no longer listed"
        if gone.state == "mirrored":
            note("changed_upstream", entry.subject, wrong, "what was mirrored stays")
        else:
            session.delete(gone)
            note("changed_upstream", entry.subject, wrong, "removed, as it never had weights here")
    for each in session.scalars(_files_of(row)):
        _require_fetchable(each)


def _require_fetchable(file: ImportedFile) -> None:
    if file.state == "pending" and not (file.sha1 or file.sha256):
        file.state, file.fault = "failed", "there is no checksum to hold it against"
    elif file.state == "pending" and not file.url.startswith(("http://", "https://")):
        file.state, file.fault = "failed", "its address is no web address"


def _files_of(row: ImportedEntry) -> Select[ImportedFile]:
    return select(ImportedFile).filter_by(entry_id=row.id).order_by(ImportedFile.position)
