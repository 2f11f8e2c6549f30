"""Add what is taken over from a reference hub.

Revision: 5a1c0d2e9f05
After: 5a1c0d2e9f04
"""

import sqlalchemy as sa
from alembic import op

revision = "5a1c0d2e9f05"
down_revision = "5a1c0d2e9f04"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "architecture",
        sa.Column("name", sa.String(length=96), nullable=False),
        sa.Column("display_name", sa.String(), nullable=False),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("citation", sa.String(), nullable=True),
        sa.Column("config", sa.JSON(), nullable=False),
        sa.Column("config_v1", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_architecture")),
    )
    op.create_table(
        "subtask",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("task_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=96), nullable=False),
        sa.Column("display_name", sa.String(), nullable=False),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("languages", sa.JSON(), nullable=False),
        sa.Column("url", sa.String(), nullable=True),
        sa.Column("citation", sa.String(), nullable=True),
        sa.Column("hf_datasets_id", sa.String(), nullable=True),
        sa.Column("metric", sa.String(), nullable=True),
        sa.Column("higher_is_better", sa.Boolean(), nullable=True),
        sa.ForeignKeyConstraint(["task_id"], ["task.id"], name=op.f("fk_subtask_task_id_task")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_subtask")),
        sa.UniqueConstraint("task_id", "name", name=op.f("uq_subtask_task_id_name")),
    )
    with op.batch_alter_table("subtask", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_subtask_hf_datasets_id"), ["hf_datasets_id"], unique=False
        )
    op.create_table(
        "task_profile",
        sa.Column("task_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("display_name", sa.String(), nullable=False),
        sa.Column("description", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["task_id"], ["task.id"], name=op.f("fk_task_profile_task_id_task")
        ),
        sa.PrimaryKeyConstraint("task_id", name=op.f("pk_task_profile")),
    )
    op.create_table(
        "imported_entry",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("organization", sa.String(length=96), nullable=False),
        sa.Column("file", sa.String(), nullable=False),
        sa.Column("source_sha256", sa.String(length=64), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("variant_id", sa.Integer(), nullable=False),
        sa.Column("adapter_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("subtask", sa.String(), nullable=False),
        sa.Column("model_type", sa.String(), nullable=False),
        sa.Column("model_name", sa.String(), nullable=False),
        sa.Column("hidden_size", sa.Integer(), nullable=True),
        sa.Column("author", sa.String(), nullable=False),
        sa.Column("contact", sa.JSON(), nullable=False),
        sa.Column("architecture", sa.String(), nullable=False),
        sa.Column("overrides", sa.JSON(), nullable=False),
        sa.Column("config", sa.JSON(), nullable=False),
        sa.Column("config_id", sa.String(length=16), nullable=False),
        sa.Column("default_version", sa.String(), nullable=False),
        sa.Column("prediction_head", sa.Boolean(), nullable=False),
        sa.Column("model_class", sa.String(), nullable=True),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("citation", sa.String(), nullable=True),
        sa.Column("languages", sa.JSON(), nullable=False),
        sa.Column("dependencies", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["adapter_id"], ["adapter.id"], name=op.f("fk_imported_entry_adapter_id_adapter")
        ),
        sa.ForeignKeyConstraint(
            ["variant_id"], ["variant.id"], name=op.f("fk_imported_entry_variant_id_variant")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_imported_entry")),
        sa.UniqueConstraint(
            "organization", "file", name=op.f("uq_imported_entry_organization_file")
        ),
    )
    with op.batch_alter_table("imported_entry", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_imported_entry_adapter_id"), ["adapter_id"], unique=False
        )
        batch_op.create_index(
            batch_op.f("ix_imported_entry_model_name_position"),
            ["model_name", "position"],
            unique=False,
        )
        batch_op.create_index(
            batch_op.f("ix_imported_entry_variant_id"), ["variant_id"], unique=False
        )
    op.create_table(
        "imported_file",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("entry_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("url", sa.String(), nullable=False),
        sa.Column("sha1", sa.String(length=40), nullable=True),
        sa.Column("sha256", sa.String(length=64), nullable=True),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("fault", sa.String(), nullable=True),
        sa.Column("tried_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("version_id", sa.Integer(), nullable=True),
        sa.CheckConstraint(
            "state IN ('pending', 'failed', 'mirrored')", name=op.f("ck_imported_file_state")
        ),
        sa.ForeignKeyConstraint(
            ["entry_id"],
            ["imported_entry.id"],
            name=op.f("fk_imported_file_entry_id_imported_entry"),
        ),
        sa.ForeignKeyConstraint(
            ["version_id"], ["version.id"], name=op.f("fk_imported_file_version_id_version")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_imported_file")),
        sa.UniqueConstraint("entry_id", "name", name=op.f("uq_imported_file_entry_id_name")),
    )
    with op.batch_alter_table("imported_file", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_imported_file_state_id"), ["state", "id"], unique=False
        )
        batch_op.create_index(
            batch_op.f("ix_imported_file_version_id"), ["version_id"], unique=False
        )
    op.create_table(
        "legacy_archive",
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("sha1", sa.String(length=40), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["version_id"], ["version.id"], name=op.f("fk_legacy_archive_version_id_version")
        ),
        sa.PrimaryKeyConstraint("version_id", name=op.f("pk_legacy_archive")),
    )


def downgrade() -> None:
    op.drop_table("legacy_archive")
    with op.batch_alter_table("imported_file", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_imported_file_version_id"))
        batch_op.drop_index(batch_op.f("ix_imported_file_state_id"))
    op.drop_table("imported_file")
    with op.batch_alter_table("imported_entry", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_imported_entry_variant_id"))
        batch_op.drop_index(batch_op.f("ix_imported_entry_model_name_position"))
        batch_op.drop_index(batch_op.f("ix_imported_entry_adapter_id"))
    op.drop_table("imported_entry")
    op.drop_table("task_profile")
    with op.batch_alter_table("subtask", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_subtask_hf_datasets_id"))
    op.drop_table("subtask")
    op.drop_table("architecture")
