"""The audit log: every change of state, in the transaction that makes it."""

from datetime import datetime
from typing import Annotated

import msgspec
import structlog
from sqlalchemy import Select, select
from sqlalchemy.orm import Session, joinedload

from adapterhub_client import wire
from adapterhub_registry.domain.permission import Viewer
from adapterhub_registry.models import AuditEvent
from adapterhub_registry.service import places
from adapterhub_registry.service.representation import moment
from adapterhub_registry.service.visibility import require_role, require_scope


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries; every field that is set has to hold."""

    org: str | None = None
    """of this organization; for its admins"""
    action: str | None = None
    """such as `version.publish`; `version.` is all that begin so"""
    subject: str | None = None
    """such as `nli/multinli@ukp`"""
    limit: Annotated[int, msgspec.Meta(ge=1, le=500)] = 100
    after: str | None = None
    """`next` of the page before"""


def record(
    session: Session, actor: int | None, action: str, subject: str, now: datetime, **detail: object
) -> None:
    """Write down who did what to which thing; no actor is the operator's shell.

    `subject` is `task/name@org` with or without a version, `org` or `org/account` of the actions `org.*`, else what
    the action is about.
    """
    context = structlog.contextvars.get_contextvars()
    session.add(
        AuditEvent(
            created_at=now,
            account_id=actor,
            action=action,
            subject=subject,
            organization=_organization(action, subject),
            detail=detail,
            request_id=context.get("request_id"),
        )
    )


def read(session: Session, viewer: Viewer, asked: Asked) -> wire.AuditPage:
    """A page of the log, the newest first.

    Of an organization, of the whole registry for its administrators, else of what the viewer did.

    Raises:
        OrganizationNotFound, MissingRole: The viewer is no admin of the organization.
    """
    account_id = require_scope(viewer, "admin")
    query = select(AuditEvent)
    if asked.org is not None:
        require_role(session, viewer, asked.org, "admin")
        query = query.where(AuditEvent.organization == asked.org)
    elif not viewer.rules_everything:
        query = query.where(AuditEvent.account_id == account_id)
    return _page(session, query, asked)


def read_own(session: Session, viewer: Viewer, asked: Asked) -> wire.AuditPage:
    """A page of what the viewer did, the newest first, whatever else they may read."""
    account_id = require_scope(viewer, "admin")
    return _page(session, select(AuditEvent).where(AuditEvent.account_id == account_id), asked)


def _page(session: Session, query: Select[AuditEvent], asked: Asked) -> wire.AuditPage:
    if asked.action is not None:
        is_prefix = asked.action.endswith(".")
        held = AuditEvent.action
        query = query.where(
            held.startswith(asked.action, autoescape=True) if is_prefix else held == asked.action
        )
    if asked.subject is not None:
        query = query.where(AuditEvent.subject == asked.subject)
    after = places.read(asked.after, tuple[int])
    if after is not None:
        query = query.where(AuditEvent.id < after[0])
    query = query.options(joinedload(AuditEvent.account)).order_by(AuditEvent.id.desc())
    rows = session.scalars(query.limit(asked.limit + 1)).all()
    shown = rows[: asked.limit]
    return wire.AuditPage(
        items=[_shown(row) for row in shown],
        next=places.write((shown[-1].id,)) if len(rows) > asked.limit else None,
    )


def _organization(action: str, subject: str) -> str | None:
    if "@" in subject:
        return subject.rpartition("@")[2].partition(":")[0]
    return subject.partition("/")[0] if action.startswith("org.") else None


def _shown(row: AuditEvent) -> wire.AuditEvent:
    return wire.AuditEvent(
        id=row.id,
        at=moment(row.created_at),
        account=None if row.account is None else row.account.name,
        action=row.action,
        subject=row.subject,
        organization=row.organization,
        detail=row.detail,
        request_id=row.request_id,
    )
