"""add lifecycle.

Revision: 5a1c0d2e9f02
After: 5a1c0d2e9f01
"""

revision = "5a1c0d2e9f02"
down_revision = "5a1c0d2e9f01"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass
