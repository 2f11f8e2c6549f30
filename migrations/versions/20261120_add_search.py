"""add search.

Revision: 5a1c0d2e9f01
After: 4661d45c8823

The tables are empty afterwards: `adapterhub-registry reindex` fills them from a catalogue that has rows already.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "5a1c0d2e9f01"
down_revision = "4661d45c8823"
branch_labels = None
depends_on = None

PLAIN = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "search_count",
        sa.Column("field", sa.String(length=16), nullable=False),
        sa.Column("value", PLAIN, nullable=False),
        sa.Column("scope_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("adapters", sa.BigInteger(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("field", "value", "scope_id", name=op.f("pk_search_count")),
    )
    op.create_index(
        op.f("ix_search_count_field_scope_id_adapters_value"),
        "search_count",
        ["field", "scope_id", "adapters", "value"],
    )
    op.create_table(
        "search_trigram",
        sa.Column("trigram", sa.String(length=3), nullable=False),
        sa.Column("word", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("trigram", "word", name=op.f("pk_search_trigram")),
    )
    op.create_table(
        "search_document",
        sa.Column("adapter_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("scope_id", sa.Integer(), nullable=False),
        sa.Column("full_name", PLAIN, nullable=False),
        sa.Column("name", sa.String(length=96), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("downloads", sa.Integer(), nullable=False),
        sa.Column("versions", sa.Integer(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("summary", sa.LargeBinary(), nullable=False),
        sa.Column(
            "words", sa.Text().with_variant(postgresql.TSVECTOR(), "postgresql"), nullable=True
        ),
        sa.ForeignKeyConstraint(
            ["adapter_id"],
            ["adapter.id"],
            name=op.f("fk_search_document_adapter_id_adapter"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("adapter_id", name=op.f("pk_search_document")),
        sa.UniqueConstraint("full_name", name=op.f("uq_search_document_full_name")),
    )
    for columns in (
        ["updated_at", "adapter_id"],
        ["created_at", "adapter_id"],
        ["downloads", "adapter_id"],
        ["name"],
    ):
        name = op.f("ix_search_document_" + "_".join(columns))
        op.create_index(name, "search_document", columns)
    op.create_index(
        op.f("ix_search_document_words"), "search_document", ["words"], postgresql_using="gin"
    )
    op.create_table(
        "search_facet",
        sa.Column("field", sa.String(length=16), nullable=False),
        sa.Column("value", PLAIN, nullable=False),
        sa.Column("adapter_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["adapter_id"],
            ["search_document.adapter_id"],
            name=op.f("fk_search_facet_adapter_id_search_document"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("field", "value", "adapter_id", name=op.f("pk_search_facet")),
    )
    op.create_index(
        op.f("ix_search_facet_adapter_id_field_value"),
        "search_facet",
        ["adapter_id", "field", "value"],
    )
    op.create_table(
        "search_score",
        sa.Column("adapter_id", sa.Integer(), nullable=False),
        sa.Column("dataset_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("split", sa.String(), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("value", sa.Float(precision=53), nullable=False),
        sa.Column("higher_is_better", sa.Boolean(), nullable=False),
        sa.Column("rank", sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(
            ["adapter_id"],
            ["search_document.adapter_id"],
            name=op.f("fk_search_score_adapter_id_search_document"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["dataset_id"], ["dataset.id"], name=op.f("fk_search_score_dataset_id_dataset")
        ),
        sa.ForeignKeyConstraint(
            ["version_id"],
            ["version.id"],
            name=op.f("fk_search_score_version_id_version"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "adapter_id", "dataset_id", "name", "split", name=op.f("pk_search_score")
        ),
    )
    for columns in (
        ["dataset_id", "name", "split", "higher_is_better", "rank", "adapter_id"],
        ["name", "value", "adapter_id"],
        ["version_id"],
    ):
        op.create_index(op.f("ix_search_score_" + "_".join(columns)), "search_score", columns)
    with op.batch_alter_table("variant") as batch:
        batch.drop_index(op.f("ix_variant_base_model_id"))
        batch.create_index(op.f("ix_variant_base_model_id_id"), ["base_model_id", "id"])
    if op.get_bind().dialect.name == "sqlite":
        # The words come in lower case and apart by spaces: what is left of tokenizing is the same on every database.
        op.execute(
            "CREATE VIRTUAL TABLE search_text "
            "USING fts5(title, body, answers, tokenize='ascii', prefix='2 3')"
        )


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.drop_table("search_text")
    for table in (
        "search_score",
        "search_facet",
        "search_document",
        "search_trigram",
        "search_count",
    ):
        op.drop_table(table)
    with op.batch_alter_table("variant") as batch:
        batch.drop_index(op.f("ix_variant_base_model_id_id"))
        batch.create_index(op.f("ix_variant_base_model_id"), ["base_model_id"])
