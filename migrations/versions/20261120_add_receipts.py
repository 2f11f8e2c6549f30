"""Remember which small blobs an upload has brought: they are blobs at once, and staged nowhere.

Revision: 5a1c0d2e9f06
After: 5a1c0d2e9f05
"""

import sqlalchemy as sa
from alembic import op

revision = "5a1c0d2e9f06"
down_revision = "5a1c0d2e9f05"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "upload_blob",
        sa.Column("upload_id", sa.String(length=32), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["upload_id"],
            ["upload.id"],
            name=op.f("fk_upload_blob_upload_id_upload"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("upload_id", "sha256", name=op.f("pk_upload_blob")),
    )


def downgrade() -> None:
    op.drop_table("upload_blob")
