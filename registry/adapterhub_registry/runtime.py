"""What one running registry is made of; `app.create_app` and the commands build it, services take it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import msgspec

from adapterhub_registry.database import Database, Limits
from adapterhub_registry.settings import Settings, SettingsRefused
from adapterhub_registry.storage import BlobStore, open_store
from adapterhub_registry.trying import Trier

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The clock on the wall."""
    return datetime.now(UTC)


class Runtime(msgspec.Struct, frozen=True, kw_only=True):
    """Settings, database, bytes, time, and who runs adapters."""

    settings: Settings
    database: Database
    store: BlobStore
    clock: Clock = utc_now
    trier: Trier

    @property
    def upload_lifetime(self) -> timedelta:
        """How long a publish may take."""
        return timedelta(hours=self.settings.upload_hours)


def open_runtime(
    settings: Settings, *, store: BlobStore | None = None, clock: Clock = utc_now
) -> Runtime:
    """Open what the settings name; a store or a clock that is given takes their place.

    Raises:
        SettingsRefused: `settings.blobs` names no kind of store.
    """
    try:
        opened = open_store(settings.blobs, settings.blobs_public_url) if store is None else store
    except ValueError as error:
        raise SettingsRefused(str(error)) from error
    return Runtime(
        settings=settings,
        database=Database(
            settings.database_url,
            Limits(
                connections=settings.database_connections,
                statement_seconds=settings.statement_seconds,
                lock_seconds=settings.statement_seconds,
                idle_seconds=2 * settings.statement_seconds,
            ),
        ),
        store=opened,
        clock=clock,
        trier=Trier(settings),
    )
