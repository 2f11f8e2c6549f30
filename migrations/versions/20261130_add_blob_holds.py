"""Hold blobs that are about to come: garbage collection leaves them alone.

Revision: 5a1c0d2e9f07
After: 5a1c0d2e9f06
"""

import sqlalchemy as sa
from alembic import op

revision = "5a1c0d2e9f07"
down_revision = "5a1c0d2e9f06"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "blob_hold",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_blob_hold")),
    )
    op.create_index(op.f("ix_blob_hold_until"), "blob_hold", ["until"])


def downgrade() -> None:
    op.drop_table("blob_hold")
