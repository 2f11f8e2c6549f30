"""Add what is left of what was deleted, and which bundles came in.

Revision: 5a1c0d2e9f02
After: 5a1c0d2e9f01
"""

import sqlalchemy as sa
from alembic import op

revision = "5a1c0d2e9f02"
down_revision = "5a1c0d2e9f01"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("version", sa.Column("published_as", sa.String(), nullable=True))
    op.create_table(
        "tombstone",
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("organization_id", sa.Integer(), nullable=False),
        sa.Column("full_name", sa.String(), nullable=False),
        sa.Column("variant_id", sa.Integer(), nullable=True),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("private", sa.Boolean(), nullable=False),
        sa.Column("base_key", sa.String(), nullable=False),
        sa.Column("base_name", sa.String(), nullable=False),
        sa.Column("method", sa.String(), nullable=False),
        sa.Column("config_id", sa.String(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted_by_id", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["organization_id"],
            ["organization.id"],
            name=op.f("fk_tombstone_organization_id_organization"),
        ),
        sa.ForeignKeyConstraint(
            ["deleted_by_id"], ["account.id"], name=op.f("fk_tombstone_deleted_by_id_account")
        ),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_tombstone")),
    )
    for columns in (["organization_id"], ["variant_id", "number"], ["full_name", "number"]):
        op.create_index(op.f(f"ix_tombstone_{'_'.join(columns)}"), "tombstone", columns)
    op.create_table(
        "retired_name",
        sa.Column("full_name", sa.String(), nullable=False),
        sa.Column("organization_id", sa.Integer(), nullable=False),
        sa.Column("private", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted_by_id", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["organization_id"],
            ["organization.id"],
            name=op.f("fk_retired_name_organization_id_organization"),
        ),
        sa.ForeignKeyConstraint(
            ["deleted_by_id"], ["account.id"], name=op.f("fk_retired_name_deleted_by_id_account")
        ),
        sa.PrimaryKeyConstraint("full_name", name=op.f("pk_retired_name")),
    )
    op.create_index(op.f("ix_retired_name_organization_id"), "retired_name", ["organization_id"])
    op.create_table(
        "imported_bundle",
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("exported_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("imported_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("key_id", sa.String(length=71), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_imported_bundle")),
    )
    op.create_index(
        op.f("ix_imported_bundle_source_exported_at"), "imported_bundle", ["source", "exported_at"]
    )


def downgrade() -> None:
    op.drop_table("imported_bundle")
    op.drop_table("retired_name")
    op.drop_table("tombstone")
    op.drop_column("version", "published_as")
