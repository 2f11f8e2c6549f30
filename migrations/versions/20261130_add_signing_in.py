"""Add passwords, sessions, invitations, quotas, and whose adapters an entry of the audit log is about.

Revision: 5a1c0d2e9f08
After: 5a1c0d2e9f07
"""

import sqlalchemy as sa
from alembic import op

revision = "5a1c0d2e9f08"
down_revision = "5a1c0d2e9f07"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
ADDED = {
    "account": ["password_hash", "disabled_at"],
    "organization": ["max_versions", "max_bytes"],
    "token": ["kind", "organizations", "used_at"],
    "audit_event": ["organization"],
}


def upgrade() -> None:
    op.add_column("account", sa.Column("password_hash", sa.String(), nullable=True))
    op.add_column("account", sa.Column("disabled_at", MOMENT, nullable=True))
    op.add_column("organization", sa.Column("max_versions", sa.Integer(), nullable=True))
    op.add_column("organization", sa.Column("max_bytes", sa.BigInteger(), nullable=True))
    op.add_column("token", sa.Column("kind", sa.String(8), server_default="api", nullable=False))
    op.add_column("token", sa.Column("organizations", sa.JSON(), nullable=True))
    op.add_column("token", sa.Column("used_at", MOMENT, nullable=True))
    op.add_column("audit_event", sa.Column("organization", sa.String(length=96), nullable=True))
    op.create_table(
        "invitation",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("secret_sha256", sa.String(length=64), nullable=False),
        sa.Column("organization_id", sa.Integer(), nullable=True),
        sa.Column("role", sa.String(length=16), nullable=True),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("created_by_id", sa.Integer(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.Column("revoked_at", MOMENT, nullable=True),
        sa.Column("accepted_at", MOMENT, nullable=True),
        sa.Column("accepted_by_id", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["organization_id"],
            ["organization.id"],
            name=op.f("fk_invitation_organization_id_organization"),
        ),
        sa.ForeignKeyConstraint(
            ["created_by_id"], ["account.id"], name=op.f("fk_invitation_created_by_id_account")
        ),
        sa.ForeignKeyConstraint(
            ["accepted_by_id"], ["account.id"], name=op.f("fk_invitation_accepted_by_id_account")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_invitation")),
        sa.UniqueConstraint("secret_sha256", name=op.f("uq_invitation_secret_sha256")),
    )
    op.create_index(op.f("ix_invitation_organization_id"), "invitation", ["organization_id"])
    op.create_table(
        "throttle",
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("until", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_throttle")),
    )
    op.create_index(op.f("ix_throttle_until"), "throttle", ["until"])
    _say_whose()
    op.create_index(op.f("ix_audit_event_organization_id"), "audit_event", ["organization", "id"])
    op.create_index(op.f("ix_audit_event_account_id_id"), "audit_event", ["account_id", "id"])


def downgrade() -> None:
    op.drop_index(op.f("ix_audit_event_account_id_id"), "audit_event")
    op.drop_index(op.f("ix_audit_event_organization_id"), "audit_event")
    op.drop_table("throttle")
    op.drop_table("invitation")
    for table, columns in ADDED.items():
        for (
            column
        ) in columns:  # not in a batch: that would make the tables anew, which others refer to
            op.drop_column(table, column)


def _say_whose() -> None:
    """What is in the log already is about `task/name@org`, or about an organization or one of its members."""
    event = sa.table(
        "audit_event",
        sa.column("id", sa.Integer),
        sa.column("action", sa.String),
        sa.column("subject", sa.String),
        sa.column("organization", sa.String),
    )
    bind = op.get_bind()
    rows = bind.execute(sa.select(event.c.id, event.c.action, event.c.subject)).all()
    for row in rows:
        whose = None
        if "@" in row.subject:
            whose = row.subject.rpartition("@")[2].partition(":")[0]
        elif row.action.startswith("org."):
            whose = row.subject.partition("/")[0]
        if whose:
            bind.execute(sa.update(event).where(event.c.id == row.id).values(organization=whose))
