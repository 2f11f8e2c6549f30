"""Keep what was seen in weights while they came.

Revision: 5a1c0d2e9f09
After: 5a1c0d2e9f08
"""

import sqlalchemy as sa
from alembic import op

revision = "5a1c0d2e9f09"
down_revision = "5a1c0d2e9f08"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("upload_blob", sa.Column("findings", sa.JSON(), nullable=True))


def downgrade() -> None:
    op.drop_column("upload_blob", "findings")
