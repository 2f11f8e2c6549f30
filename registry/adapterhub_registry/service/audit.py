"""The audit log: every change of state, in the transaction that makes it."""

from datetime import datetime

import structlog
from sqlalchemy.orm import Session

from adapterhub_registry.models import AuditEvent


def record(
    session: Session, actor: int | None, action: str, subject: str, now: datetime, **detail: object
) -> None:
    """Write down who did what to which thing; no actor is the operator's shell."""
    context = structlog.contextvars.get_contextvars()
    session.add(
        AuditEvent(
            created_at=now,
            account_id=actor,
            action=action,
            subject=subject,
            detail=detail,
            request_id=context.get("request_id"),
        )
    )
