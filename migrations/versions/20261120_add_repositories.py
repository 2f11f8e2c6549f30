"""add repositories.

Revision: 5a1c0d2e9f04
After: 5a1c0d2e9f02
"""

import sqlalchemy as sa
from alembic import op

revision = "5a1c0d2e9f04"
down_revision = "5a1c0d2e9f02"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "repository",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("organization_id", sa.Integer(), nullable=False),
        sa.Column("full_name", sa.String(), nullable=False),
        sa.Column("spelling", sa.String(length=193), nullable=False),
        sa.Column("private", sa.Boolean(), nullable=False),
        sa.Column("gated", sa.String(length=8), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("gated IN ('auto', 'manual')", name=op.f("ck_repository_gated")),
        sa.ForeignKeyConstraint(
            ["organization_id"],
            ["organization.id"],
            name=op.f("fk_repository_organization_id_organization"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_repository")),
        sa.UniqueConstraint("full_name", name=op.f("uq_repository_full_name")),
    )
    op.create_index(op.f("ix_repository_organization_id"), "repository", ["organization_id"])
    op.create_index(op.f("ix_repository_updated_at_id"), "repository", ["updated_at", "id"])
    op.create_table(
        "repository_move",
        sa.Column("old_name", sa.String(), nullable=False),
        sa.Column("new_name", sa.String(), nullable=False),
        sa.Column("moved_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("old_name", name=op.f("pk_repository_move")),
    )
    op.create_index(op.f("ix_repository_move_new_name"), "repository_move", ["new_name"])
    op.create_table(
        "repository_commit",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("repository_id", sa.Integer(), nullable=False),
        sa.Column("oid", sa.String(length=40), nullable=False),
        sa.Column("parent_oid", sa.String(length=40), nullable=True),
        sa.Column("tree", sa.LargeBinary(), nullable=False),
        sa.Column("title", sa.String(), nullable=False),
        sa.Column("message", sa.String(), nullable=False),
        sa.Column("account_id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=True),
        sa.Column("seen_version_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["account.id"], name=op.f("fk_repository_commit_account_id_account")
        ),
        sa.ForeignKeyConstraint(
            ["repository_id"],
            ["repository.id"],
            name=op.f("fk_repository_commit_repository_id_repository"),
        ),
        sa.ForeignKeyConstraint(
            ["version_id"],
            ["version.id"],
            name=op.f("fk_repository_commit_version_id_version"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_repository_commit")),
        sa.UniqueConstraint(
            "repository_id", "oid", name=op.f("uq_repository_commit_repository_id_oid")
        ),
    )
    op.create_index(op.f("ix_repository_commit_version_id"), "repository_commit", ["version_id"])
    op.create_table(
        "repository_ref",
        sa.Column("repository_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=96), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("oid", sa.String(length=40), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("kind IN ('branch', 'tag')", name=op.f("ck_repository_ref_kind")),
        sa.ForeignKeyConstraint(
            ["repository_id"],
            ["repository.id"],
            name=op.f("fk_repository_ref_repository_id_repository"),
        ),
        sa.PrimaryKeyConstraint("repository_id", "name", name=op.f("pk_repository_ref")),
    )
    op.create_table(
        "repository_blob",
        sa.Column("repository_id", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["repository_id"],
            ["repository.id"],
            name=op.f("fk_repository_blob_repository_id_repository"),
        ),
        sa.ForeignKeyConstraint(
            ["sha256"], ["blob.sha256"], name=op.f("fk_repository_blob_sha256_blob")
        ),
        sa.PrimaryKeyConstraint("repository_id", "sha256", name=op.f("pk_repository_blob")),
    )
    op.create_index(op.f("ix_repository_blob_sha256"), "repository_blob", ["sha256"])


def downgrade() -> None:
    for table in (
        "repository_blob",
        "repository_ref",
        "repository_commit",
        "repository_move",
        "repository",
    ):
        op.drop_table(table)
