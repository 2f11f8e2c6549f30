"""The catalogue: tasks, base models, adapters and their variants."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from adapterhub_registry.models.account import Organization
from adapterhub_registry.models.base import Model


class Task(Model):
    """What adapters are trained for."""

    __tablename__ = "task"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(96), unique=True)


class BaseModel(Model):
    """A frozen transformer. `key` is its fingerprint, or `name:<name>` where it was never fingerprinted."""

    __tablename__ = "base_model"

    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(unique=True)
    fingerprint: Mapped[str | None]


class Adapter(Model):
    """What `task/name@org` names. Description, license and languages are those of its newest version."""

    __tablename__ = "adapter"
    __table_args__ = (
        UniqueConstraint("organization_id", "task_id", "name"),
        Index(None, "updated_at", "id"),
        Index(None, "downloads", "id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    organization_id: Mapped[int] = mapped_column(ForeignKey("organization.id"))
    task_id: Mapped[int] = mapped_column(ForeignKey("task.id"), index=True)
    name: Mapped[str] = mapped_column(String(96))
    full_name: Mapped[str] = mapped_column(unique=True)
    """`task/name@org`, kept for search and order"""
    private: Mapped[bool]
    description: Mapped[str] = mapped_column(default="")
    license: Mapped[str | None]
    languages: Mapped[list[str]]
    downloads: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    organization: Mapped[Organization] = relationship()
    task: Mapped[Task] = relationship()


class Variant(Model):
    """The adapter for one base model and one method config."""

    __tablename__ = "variant"
    __table_args__ = (
        UniqueConstraint("adapter_id", "base_model_id", "config_id"),
        Index(None, "base_model_id", "id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    adapter_id: Mapped[int] = mapped_column(ForeignKey("adapter.id"))
    base_model_id: Mapped[int] = mapped_column(ForeignKey("base_model.id"))
    config_id: Mapped[str]
    method: Mapped[str] = mapped_column(index=True)

    adapter: Mapped[Adapter] = relationship()
    base_model: Mapped[BaseModel] = relationship()
