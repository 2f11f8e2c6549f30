"""Sign in with a name and a password.

Guessing is slowed down in the database, so for every server alike: for a name from one address, for an address, and
for a name from everywhere. The last is so much wider that nobody can lock somebody else out easily. Names that do not
exist are counted like those that do, and take as long to check.
"""

from datetime import datetime, timedelta
from typing import Literal

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from adapterhub_client import wire
from adapterhub_registry.errors import TooManyRequests, WrongPassword
from adapterhub_registry.models import Account
from adapterhub_registry.runtime import Runtime
from adapterhub_registry.service import audit, password, throttle, token
from adapterhub_registry.service.throttle import Rate

SESSION_DAYS = 14
_QUARTER = timedelta(minutes=15)
_PER_NAME_AND_ADDRESS = Rate(10, _QUARTER)
_PER_ADDRESS = Rate(100, _QUARTER)
_PER_NAME = Rate(200, timedelta(hours=1))
_NAME, _ADDRESS = 96, 64


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """Who says to be whom, from which address."""

    name: str
    password: str
    address: str

    @property
    def key_of_both(self) -> str:
        """What counts attempts for this name from this address."""
        return f"{self.key_of_name} from {self.address[:_ADDRESS]}"

    @property
    def key_of_name(self) -> str:
        """What counts attempts for this name."""
        return f"sign in as {self.name[:_NAME]}"

    @property
    def key_of_address(self) -> str:
        """What counts attempts from this address."""
        return f"sign in from {self.address[:_ADDRESS]}"


def sign_in(
    runtime: Runtime,
    attempt: Attempt,
    asked: wire.TokenRequest,
    kind: Literal["api", "session"] = "api",
) -> wire.Token:
    """A new token for whoever has the password.

    Raises:
        WrongPassword: Name and password do not go together, or the account is disabled.
        TooManyRequests: It was tried too often.
    """
    now = runtime.clock()
    wait = runtime.database.transact(lambda session: _wait(session, attempt, now))
    if wait is not None:
        raise TooManyRequests("attempts to sign in", wait.total_seconds())
    with runtime.database.reading() as session:
        account = session.scalar(select(Account).filter_by(name=attempt.name[:_NAME]))
    kept = None if account is None or account.disabled_at else account.password_hash
    is_right = password.matches(attempt.password, kept)

    def write(session: Session) -> wire.Token | None:
        if account is None:
            return None
        if not is_right:
            detail = {"address": attempt.address}
            audit.record(session, account.id, "account.refuse", account.name, now, **detail)
            return None
        throttle.forgive(session, attempt.key_of_both)
        throttle.forgive(session, attempt.key_of_name)
        row = session.get_one(Account, account.id)
        audit.record(session, row.id, "account.sign_in", row.name, now, address=attempt.address)
        made, secret = token.issue(session, row, asked, now, kind)
        return token.shown(made, secret)

    found = runtime.database.transact(write)
    if found is None:
        raise WrongPassword
    return found


def _wait(session: Session, attempt: Attempt, now: datetime) -> timedelta | None:
    """Count an attempt; how long to wait where there were too many."""
    counted = {
        attempt.key_of_both: _PER_NAME_AND_ADDRESS,
        attempt.key_of_address: _PER_ADDRESS,
        attempt.key_of_name: _PER_NAME,
    }
    waits = [throttle.take(session, key, rate, now) for key, rate in counted.items()]
    return max((wait for wait in waits if wait is not None), default=None)
