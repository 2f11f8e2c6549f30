"""add search.

Revision: 5a1c0d2e9f01
After: 4661d45c8823
"""

revision = "5a1c0d2e9f01"
down_revision = "4661d45c8823"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass
