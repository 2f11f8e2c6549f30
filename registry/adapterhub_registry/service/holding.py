"""Hold blobs that somebody is about to bring: garbage collection leaves them alone until a moment.

Bytes of the same digest may be garbage from long ago, listed by a collection that is under way, while a publish puts
them anew. So whoever will bring bytes says so first, in a transaction of its own: collection, which removes each blob
within a transaction, has either ended with it by then or finds that it is held.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import case, delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from adapterhub_registry.database import keep_blobs
from adapterhub_registry.models import BlobHold
from adapterhub_registry.runtime import Runtime

_AT_ONCE = 500


def hold(session: Session, digests: Iterable[str], until: datetime) -> None:
    """Hold blobs, whether they are here or not; a longer hold of somebody else stays."""
    keep_blobs(session)
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    insert = dialect.insert(BlobHold)
    longer = case(
        (insert.excluded.until > BlobHold.until, insert.excluded.until), else_=BlobHold.until
    )
    statement = insert.on_conflict_do_update(index_elements=["sha256"], set_={"until": longer})
    wanted = sorted(set(digests))  # one order, so that two uploads never wait for each other
    for at in range(0, len(wanted), _AT_ONCE):
        rows = [{"sha256": sha256, "until": until} for sha256 in wanted[at : at + _AT_ONCE]]
        session.execute(statement, rows)


def hold_now(runtime: Runtime, digests: Iterable[str]) -> None:
    """Hold blobs for as long as an upload may take, from now on."""
    wanted, until = list(digests), runtime.clock() + runtime.upload_lifetime
    runtime.database.transact(lambda session: hold(session, wanted, until))


def held(session: Session, digests: Sequence[str], now: datetime) -> set[str]:
    """Which of these blobs are held."""
    query = select(BlobHold.sha256).where(BlobHold.sha256.in_(digests), BlobHold.until > now)
    return set(session.scalars(query))


def release(session: Session, now: datetime) -> None:
    """Forget the holds that have ended."""
    session.execute(delete(BlobHold).where(BlobHold.until <= now))
