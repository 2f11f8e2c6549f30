"""What was taken over from a reference hub: its entries, its files, and what it says of tasks and architectures.

A file whose weights are not here is no version: versions are immutable and have bytes. It is a row of its own with a
state, and points at the version it became once its weights were mirrored.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from adapterhub_registry.models.adapter import Adapter, Task, Variant
from adapterhub_registry.models.base import Model
from adapterhub_registry.models.version import Version


class TaskProfile(Model):
    """What the reference hub says of a task; `kind` is `text_task` or `text_lang`."""

    __tablename__ = "task_profile"

    task_id: Mapped[int] = mapped_column(ForeignKey("task.id"), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    display_name: Mapped[str]
    description: Mapped[str]

    task: Mapped[Task] = relationship()


class Subtask(Model):
    """A part of a task, mostly one dataset, with the metric that counts there."""

    __tablename__ = "subtask"
    __table_args__ = (UniqueConstraint("task_id", "name"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    task_id: Mapped[int] = mapped_column(ForeignKey("task.id"))
    name: Mapped[str] = mapped_column(String(96))
    display_name: Mapped[str]
    description: Mapped[str]
    languages: Mapped[list[str]]
    url: Mapped[str | None]
    citation: Mapped[str | None]
    hf_datasets_id: Mapped[str | None] = mapped_column(index=True)
    metric: Mapped[str | None]
    higher_is_better: Mapped[bool | None]

    task: Mapped[Task] = relationship()


class Architecture(Model):
    """A named method config of the reference hub; `config_v1` where its first index had another."""

    __tablename__ = "architecture"

    name: Mapped[str] = mapped_column(String(96), primary_key=True)
    display_name: Mapped[str]
    description: Mapped[str]
    citation: Mapped[str | None]
    config: Mapped[dict[str, Any]]
    config_v1: Mapped[dict[str, Any] | None]


class ImportedEntry(Model):
    """An entry of the reference hub: `organization/file` there, one variant of an adapter here."""

    __tablename__ = "imported_entry"
    __table_args__ = (
        UniqueConstraint("organization", "file"),
        Index(None, "model_name", "position"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    organization: Mapped[str] = mapped_column(String(96))
    file: Mapped[str]
    """the name of its document without the ending"""
    source_sha256: Mapped[str] = mapped_column(String(64))
    """of what was read, so that a second import sees whether anything changed"""
    position: Mapped[int]
    """in the order of paths, which decides the index's defaults"""
    variant_id: Mapped[int] = mapped_column(ForeignKey("variant.id"), index=True)
    adapter_id: Mapped[int] = mapped_column(ForeignKey("adapter.id"), index=True)
    kind: Mapped[str] = mapped_column(String(16))
    task: Mapped[str]
    subtask: Mapped[str]
    model_type: Mapped[str]
    model_name: Mapped[str]
    hidden_size: Mapped[int | None]
    author: Mapped[str]
    contact: Mapped[dict[str, Any]]
    """email, url, github, twitter: those that were given"""
    architecture: Mapped[str]
    overrides: Mapped[dict[str, Any]]
    config: Mapped[dict[str, Any]]
    config_id: Mapped[str] = mapped_column(String(16))
    default_version: Mapped[str]
    prediction_head: Mapped[bool]
    model_class: Mapped[str | None]
    description: Mapped[str]
    citation: Mapped[str | None]
    languages: Mapped[list[str]]
    dependencies: Mapped[dict[str, Any]]
    """reference -> what the entry says of it"""

    variant: Mapped[Variant] = relationship()
    adapter: Mapped[Adapter] = relationship()


class ImportedFile(Model):
    """A version of an entry as the reference hub lists it, under its own name there."""

    __tablename__ = "imported_file"
    __table_args__ = (
        UniqueConstraint("entry_id", "name"),
        CheckConstraint("state IN ('pending', 'failed', 'mirrored')", name="state"),
        Index(None, "state", "id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    entry_id: Mapped[int] = mapped_column(ForeignKey("imported_entry.id"))
    position: Mapped[int]
    name: Mapped[str]
    url: Mapped[str]
    sha1: Mapped[str | None] = mapped_column(String(40))
    sha256: Mapped[str | None] = mapped_column(String(64))
    score: Mapped[float | None]
    description: Mapped[str]
    state: Mapped[str] = mapped_column(String(16), default="pending")
    fault: Mapped[str | None]
    tried_at: Mapped[datetime | None]
    version_id: Mapped[int | None] = mapped_column(ForeignKey("version.id"), index=True)

    entry: Mapped[ImportedEntry] = relationship()
    version: Mapped[Version | None] = relationship()


class LegacyArchive(Model):
    """Checksums of the zip that clients of old get for a version; its bytes are made anew each time, and the same."""

    __tablename__ = "legacy_archive"

    version_id: Mapped[int] = mapped_column(ForeignKey("version.id"), primary_key=True)
    sha1: Mapped[str] = mapped_column(String(40))
    sha256: Mapped[str] = mapped_column(String(64))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
