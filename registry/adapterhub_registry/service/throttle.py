"""What somebody may do only so often, counted in the database: it holds for every worker and every server.

Each key has one moment: until when it would be busy if everything came at an even pace (the generic cell rate
algorithm, which ATM networks police cells with). That is one row to read and to write, whatever the rate.
"""

from datetime import datetime, timedelta

import msgspec
from sqlalchemy import delete
from sqlalchemy.orm import Session

from adapterhub_registry.database import ensure_with
from adapterhub_registry.models import Throttle


class Rate(msgspec.Struct, frozen=True):
    """So many times within a stretch of time, at once or spread."""

    times: int
    within: timedelta


def take(session: Session, key: str, rate: Rate, now: datetime) -> timedelta | None:
    """Take one time; None where it is given, else how long to wait for the next.

    The transaction has to be committed whatever comes of it, or it did not count.
    """
    ensure_with(session, Throttle, {"key": key}, {"until": now})
    row = session.get_one(Throttle, key, with_for_update=True, populate_existing=True)
    until = max(row.until, now) + rate.within / rate.times
    if until - now > rate.within:
        return until - now - rate.within
    row.until = until
    return None


def forgive(session: Session, key: str) -> None:
    """Begin anew."""
    session.execute(delete(Throttle).where(Throttle.key == key))


def forget(session: Session, now: datetime) -> None:
    """Remove what says nothing any more."""
    session.execute(delete(Throttle).where(Throttle.until <= now))
