"""What lists are cut from: one row for each adapter, ready to be shown, and how often each answer is given.

Everything here follows from the other tables and can be rebuilt (`service/indexing.py`). On SQLite the words are
in an FTS5 table `search_text(title, body, answers)` whose rows have the adapters' ids; on PostgreSQL in `words`. What
an adapter answers is a word there too, so that words and answers are found together, by one index.
"""

from datetime import datetime

from sqlalchemy import BigInteger, Float, ForeignKey, Index, LargeBinary, String, Text
from sqlalchemy.dialects.postgresql import TSVECTOR
from sqlalchemy.orm import Mapped, mapped_column

from adapterhub_registry.models.base import Model

PLAIN = String().with_variant(String(collation="C"), "postgresql")
"""text in the order of its bytes, which is SQLite's own: both databases cut the same pages"""
PUBLIC = 0
"""the scope of what everyone may read; that of a private adapter is the id of its organization"""
EVERYTHING = -1
"""the scope that counts what administrators see"""


class SearchDocument(Model):
    """An adapter as lists sort, filter and show it."""

    __tablename__ = "search_document"
    __table_args__ = (
        Index(None, "updated_at", "adapter_id"),
        Index(None, "created_at", "adapter_id"),
        Index(None, "downloads", "adapter_id"),
        Index(None, "words", postgresql_using="gin"),
    )

    adapter_id: Mapped[int] = mapped_column(
        ForeignKey("adapter.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    scope_id: Mapped[int]
    full_name: Mapped[str] = mapped_column(PLAIN, unique=True)
    name: Mapped[str] = mapped_column(String(96), index=True)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    downloads: Mapped[int]
    versions: Mapped[int]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    """of all its versions together"""
    summary: Mapped[bytes] = mapped_column(LargeBinary)
    """the `AdapterSummary` that lists show, as JSON"""
    words: Mapped[str | None] = mapped_column(Text().with_variant(TSVECTOR(), "postgresql"))


class SearchFacet(Model):
    """An adapter's answer to one question, such as `task` or `language`."""

    __tablename__ = "search_facet"
    __table_args__ = (Index(None, "adapter_id", "field", "value"),)

    field: Mapped[str] = mapped_column(String(16), primary_key=True)
    value: Mapped[str] = mapped_column(PLAIN, primary_key=True)
    adapter_id: Mapped[int] = mapped_column(
        ForeignKey("search_document.adapter_id", ondelete="CASCADE"), primary_key=True
    )


class SearchCount(Model):
    """How many adapters of a scope give an answer; `detail` describes a base model. The field `total` sums up."""

    __tablename__ = "search_count"
    __table_args__ = (Index(None, "field", "scope_id", "adapters", "value"),)

    field: Mapped[str] = mapped_column(String(16), primary_key=True)
    value: Mapped[str] = mapped_column(PLAIN, primary_key=True)
    scope_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    adapters: Mapped[int] = mapped_column(BigInteger)
    detail: Mapped[str | None] = mapped_column(Text)


class SearchScore(Model):
    """The best that an adapter's versions report for one metric; `rank` is lower where the value is better."""

    __tablename__ = "search_score"
    __table_args__ = (
        Index(None, "dataset_id", "name", "split", "higher_is_better", "rank", "adapter_id"),
        Index(None, "name", "value", "adapter_id"),
    )

    adapter_id: Mapped[int] = mapped_column(
        ForeignKey("search_document.adapter_id", ondelete="CASCADE"), primary_key=True
    )
    dataset_id: Mapped[int] = mapped_column(ForeignKey("dataset.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    split: Mapped[str] = mapped_column(primary_key=True)
    version_id: Mapped[int] = mapped_column(
        ForeignKey("version.id", ondelete="CASCADE"), index=True
    )
    position: Mapped[int]
    """of the metric among those of its version"""
    value: Mapped[float] = mapped_column(Float(53))
    higher_is_better: Mapped[bool]
    rank: Mapped[float] = mapped_column(Float(53))


class SearchTrigram(Model):
    """Three letters of a word that names have, so that a misspelt word finds its neighbours."""

    __tablename__ = "search_trigram"

    trigram: Mapped[str] = mapped_column(String(3), primary_key=True)
    word: Mapped[str] = mapped_column(String(64), primary_key=True)
