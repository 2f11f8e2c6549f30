"""add repositories.

Revision: 5a1c0d2e9f04
After: 5a1c0d2e9f03
"""

revision = "5a1c0d2e9f04"
down_revision = "5a1c0d2e9f03"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass
