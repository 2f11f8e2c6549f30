"""Bring the weights of what is recorded: fetched, checked, unpacked, converted, and published as any other version.

One file at a time, each finished before the next begins: an import that is stopped goes on where it was.
"""

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from adapterhub_client import names, wire
from adapterhub_registry.database import ensure_with
from adapterhub_registry.domain.permission import Viewer
from adapterhub_registry.errors import RegistryError
from adapterhub_registry.importing import archive
from adapterhub_registry.importing.conversion import ConversionRefused, to_safetensors
from adapterhub_registry.importing.fetching import CHUNK_BYTES, Fetcher, NotFetched
from adapterhub_registry.importing.findings import Note
from adapterhub_registry.importing.manifests import ContentUnreadable, Subject, manifest
from adapterhub_registry.importing.recording import IMPORTER
from adapterhub_registry.legacy import archives
from adapterhub_registry.models import (
    Account,
    Adapter,
    Alias,
    ImportedEntry,
    ImportedFile,
    Subtask,
    Task,
    Version,
)
from adapterhub_registry.runtime import Runtime
from adapterhub_registry.service import audit, indexing, publishing, receiving
from adapterhub_registry.service.recorded import alias

DEFAULT = "default"
"""the alias of the version that the reference hub gives when none is asked for"""

CONVERTED = {
    "pytorch_adapter.bin": "adapter.safetensors",
    "pytorch_model_head.bin": "model_head.safetensors",
}
"""files of torch, and what they are called as safetensors"""


class NotMirroredNow(Exception):
    """The weights of a file are still not here; says why."""


def mirror(runtime: Runtime, note: Note, told: Callable[[str], None], *, again: bool) -> int:
    """Bring what weights can be had; `again` asks once more for those that failed. Gives how many came."""
    brought = 0
    with Fetcher(limit_bytes=runtime.settings.max_blob_bytes) as fetcher:
        for file_id in _wanted(runtime, again=again):
            subject = _subject(runtime, file_id)
            if _waits(runtime, subject):
                _fail(runtime, subject, "its number is its name: it waits for those before it")
                continue
            told(f"{subject.reference} {subject.file.name}")
            try:
                _bring(runtime, fetcher, subject, note)
            except NotMirroredNow as error:
                _fail(runtime, subject, str(error))
                note("not_mirrored", subject.path, f"{subject.file.url}: {error}", "recorded only")
            else:
                brought += 1
    return brought


def _wanted(runtime: Runtime, *, again: bool) -> list[int]:
    """What to fetch: adapters that others were trained with first, and of an entry its default last.

    So the newest version of a variant is the one that the reference hub gives by default. Where versions are called
    1, 2, 3 they keep that order, and so their numbers.
    """
    states = ["pending", "failed"] if again else ["pending"]
    with runtime.database.reading() as session:
        rows = session.scalars(
            select(ImportedFile)
            .where(ImportedFile.state.in_(states))
            .options(joinedload(ImportedFile.entry))
        ).all()
        numbered = {row.entry_id: _are_numbered(runtime, row.entry) for row in rows}
        fetchable = [row for row in rows if row.url.startswith("http") and (row.sha1 or row.sha256)]
        ordered = sorted(fetchable, key=lambda row: _place(row, numbered=numbered[row.entry_id]))
        return [row.id for row in ordered]


def _place(row: ImportedFile, *, numbered: bool) -> tuple[bool, int, bool, int]:
    entry = row.entry
    if numbered:
        return bool(entry.dependencies), entry.position, False, int(row.name)
    return bool(entry.dependencies), entry.position, row.name == entry.default_version, row.position


def _are_numbered(runtime: Runtime, entry: ImportedEntry) -> bool:
    """Whether the versions of an entry are called 1, 2, 3, ... without a gap."""
    with runtime.database.reading() as session:
        found = session.scalars(select(ImportedFile.name).filter_by(entry_id=entry.id)).all()
    return sorted(found) == sorted(str(at + 1) for at in range(len(found)))


def _waits(runtime: Runtime, subject: Subject) -> bool:
    """Whether the number that a version is called would not be the one it gets."""
    if not _are_numbered(runtime, subject.entry):
        return False
    with runtime.database.reading() as session:
        rows = session.execute(
            select(ImportedFile.name, ImportedFile.state).filter_by(entry_id=subject.entry.id)
        ).all()
    own = int(subject.file.name)
    return any(state != "mirrored" for name, state in rows if int(name) < own)


def _subject(runtime: Runtime, file_id: int) -> Subject:
    with runtime.database.reading() as session:
        file = session.get_one(
            ImportedFile,
            file_id,
            options=[
                joinedload(ImportedFile.entry).joinedload(ImportedEntry.adapter),
                joinedload(ImportedFile.entry).joinedload(ImportedEntry.variant),
            ],
        )
        entry = file.entry
        reference = names.parse(entry.adapter.full_name)
        subtask = session.scalar(
            select(Subtask)
            .join(Task, Subtask.task_id == Task.id)
            .where(Task.name == reference.task, Subtask.name == reference.name)
        )
        return Subject(
            entry=entry,
            file=file,
            subtask=subtask,
            reference=reference,
            lineage=list(_origins(session, entry)),
            path=f"adapters/{entry.organization}/{entry.file}",
        )


def _origins(session: Session, entry: ImportedEntry) -> Iterator[str]:
    """The versions that an entry says it was trained with: of the same base, the default of each, where it is here."""
    for reference in sorted(entry.dependencies):
        digest = session.scalar(
            select(Version.digest)
            .join(ImportedFile, ImportedFile.version_id == Version.id)
            .join(ImportedFile.entry)
            .join(ImportedEntry.adapter)
            .where(
                Adapter.full_name == reference,
                ImportedEntry.model_name == entry.model_name,
                ImportedFile.name == ImportedEntry.default_version,
            )
            .order_by(ImportedEntry.config_id != entry.config_id, ImportedEntry.position)
            .limit(1)
        )
        if digest is not None:
            yield digest


def _bring(runtime: Runtime, fetcher: Fetcher, subject: Subject, note: Note) -> None:
    checksums = {
        name: value
        for name, value in (("sha1", subject.file.sha1), ("sha256", subject.file.sha256))
        if value is not None
    }
    with tempfile.TemporaryDirectory(prefix="adapterhub-import-") as scratch:
        zipped, folder = Path(scratch, "archive"), Path(scratch, "adapter")
        folder.mkdir()
        try:
            fetcher.fetch(subject.file.url, checksums, zipped)
            left_out = archive.unpack(zipped, folder, runtime.settings.max_blob_bytes)
            _convert(folder)
            made = manifest(subject, folder, note)
            version = _publish(runtime, made, folder)
        except (NotFetched, ContentUnreadable) as error:
            raise NotMirroredNow(str(error)) from error
        except archive.ArchiveRefused as error:
            raise NotMirroredNow(f"its zip is refused: {error}") from error
        except ConversionRefused as error:
            raise NotMirroredNow(f"its weights are refused: {error}") from error
        except RegistryError as error:
            raise NotMirroredNow(error.detail) from error
    if left_out:
        wrong = f"the zip of {subject.file.name!r} has {', '.join(sorted(left_out)[:5])}"
        note("archive", subject.path, wrong, "left out: no part of an adapter")
    _keep(runtime, subject, version)


def _convert(folder: Path) -> None:
    for source, target in CONVERTED.items():
        if (folder / source).exists():
            if not (folder / target).exists():
                to_safetensors(folder / source, folder / target)
            (folder / source).unlink()


def _publish(runtime: Runtime, made: wire.Manifest, folder: Path) -> wire.Version:
    """Publish through the same door as everybody."""
    viewer = _importer(runtime)
    upload = publishing.begin(runtime, viewer, wire.UploadDraft(manifest=made))
    if upload.published is not None:
        return upload.published
    missing = {target.sha256 for target in upload.missing}
    for each in made.files:
        if each.sha256 in missing:
            with (folder / each.path).open("rb") as file:
                chunks = iter(partial(file.read, CHUNK_BYTES), b"")
                receiving.blob(runtime, viewer, (upload.id, each.sha256), chunks)
    return publishing.commit(runtime, viewer, upload.id)[0]


def _importer(runtime: Runtime) -> Viewer:
    """The importer acts for the operator, who may publish anywhere."""
    with runtime.database.reading() as session:
        account = session.scalars(select(Account).filter_by(name=IMPORTER)).one()
    return Viewer(account_id=account.id, name=account.name, is_admin=True, scopes=("admin",))


def _keep(runtime: Runtime, subject: Subject, version: wire.Version) -> None:
    """Let the file be that version, and the version answer to the file's name."""
    now = runtime.clock()
    with runtime.database.writing() as session:
        row = session.scalars(select(Version).filter_by(digest=version.digest)).one()
        file = session.get_one(ImportedFile, subject.file.id)
        file.state, file.fault, file.tried_at, file.version_id = "mirrored", None, now, row.id
        wanted = [alias(file.name)]
        if file.name == subject.entry.default_version:
            wanted.append(DEFAULT)
        for name in filter(None, wanted):
            keys = {"variant_id": row.variant_id, "name": name}
            ensure_with(session, Alias, keys, {"version_id": row.id, "updated_at": now})
        audit.record(
            session,
            None,
            "import.mirror",
            subject.reference.adapter,
            now,
            version=file.name,
            digest=version.digest,
        )
        indexing.refresh(session, [subject.entry.adapter_id])
    archives.sums(runtime, version.digest)


def _fail(runtime: Runtime, subject: Subject, fault: str) -> None:
    with runtime.database.writing() as session:
        file = session.get_one(ImportedFile, subject.file.id)
        file.state, file.fault, file.tried_at = "failed", fault, runtime.clock()
