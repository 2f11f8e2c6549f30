"""add imports.

Revision: 5a1c0d2e9f05
After: 5a1c0d2e9f04
"""

revision = "5a1c0d2e9f05"
down_revision = "5a1c0d2e9f04"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass
