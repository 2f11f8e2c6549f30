"""Measured values, and how often versions are pulled."""

from datetime import date

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column, relationship

from adapterhub_registry.models.base import Model


class Dataset(Model):
    """What metrics are measured on."""

    __tablename__ = "dataset"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)


class Metric(Model):
    """A value that a manifest reports."""

    __tablename__ = "metric"
    __table_args__ = (Index(None, "dataset_id", "name", "value"),)

    version_id: Mapped[int] = mapped_column(ForeignKey("version.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    dataset_id: Mapped[int] = mapped_column(ForeignKey("dataset.id"))
    split: Mapped[str]
    name: Mapped[str]
    value: Mapped[float]
    std: Mapped[float | None]
    seeds: Mapped[list[int]]
    higher_is_better: Mapped[bool]

    dataset: Mapped[Dataset] = relationship()


class DownloadDay(Model):
    """Downloads of a version on one day (UTC)."""

    __tablename__ = "download_day"

    version_id: Mapped[int] = mapped_column(ForeignKey("version.id"), primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    count: Mapped[int]
