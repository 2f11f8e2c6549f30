"""add passwords, sessions, invitations and quotas.

Revision: 5a1c0d2e9f03
After: 5a1c0d2e9f02
"""

revision = "5a1c0d2e9f03"
down_revision = "5a1c0d2e9f02"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass
