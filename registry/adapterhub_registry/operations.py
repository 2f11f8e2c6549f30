"""What the operator's commands do; `cli.py` only reads their words, so that `--help` answers at once."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy.exc import SQLAlchemyError

from adapterhub_client import wire
from adapterhub_registry import migration
from adapterhub_registry.api.document import generate
from adapterhub_registry.app import create_app
from adapterhub_registry.errors import BundleRefused, Conflict, RegistryError
from adapterhub_registry.importing import importer
from adapterhub_registry.importing.findings import Report
from adapterhub_registry.importing.findings import table as report_table
from adapterhub_registry.importing.reading import NoHub
from adapterhub_registry.runtime import Runtime, open_runtime
from adapterhub_registry.server import Address, run
from adapterhub_registry.service import account as accounts
from adapterhub_registry.service import (
    backup,
    bundle,
    bundle_import,
    garbage,
    indexing,
    integrity,
    signing,
)
from adapterhub_registry.service import export as exporting
from adapterhub_registry.service import organization as organizations
from adapterhub_registry.service import token as tokens
from adapterhub_registry.settings import SettingsRefused, from_environment
from adapterhub_registry.storage import BlobCorrupt, BlobMissing, StoreUnreachable

_TOLD_EVERY = 1000


class NotMigrated(Conflict):
    """The database is not at the newest revision."""

    code = "not_migrated"


def serve(
    address: Address, welcome: Callable[[str], None], announce: Callable[[str], None]
) -> None:
    """Serve until told to stop; `welcome` gets the token of a new registry, `announce` the address.

    Raises:
        NotMigrated: PostgreSQL is migrated by its operator alone.
    """
    settings = from_environment()
    with opened() as runtime:
        if not migration.is_current(runtime.database):
            raise NotMigrated("The database is not at the newest revision.")
        with runtime.database.writing() as session:
            secret = accounts.bootstrap(session, runtime.clock())
    if secret is not None:
        welcome(secret)
    run(settings, address, announce)


def migrate() -> None:
    """Bring the database to the newest revision."""
    with opened() as runtime:
        _migrate(runtime)


def create_account(name: str, *, is_admin: bool) -> None:
    """Make an account and the organization of its own name."""
    with opened() as runtime, runtime.database.writing() as session:
        accounts.create_account(session, name, runtime.clock(), is_admin=is_admin)


def create_token(name: str, asked: wire.TokenRequest) -> str:
    """Make a token for an account; its secret."""
    with opened() as runtime, runtime.database.writing() as session:
        row = accounts.find_account(session, name)
        return tokens.issue(session, row, asked, runtime.clock())[1]


def set_password(name: str, password: str) -> None:
    """Set the password of an account; every browser it is signed in with is signed out."""
    with opened() as runtime, runtime.database.writing() as session:
        accounts.give_password(session, name, password, runtime.clock())


def create_organization(name: str, admin: str) -> None:
    """Make an organization for an account."""
    with opened() as runtime, runtime.database.writing() as session:
        organizations.found(session, name, admin, runtime.clock())


def sweep(
    grace_hours: float | None, told: Callable[[str], None], *, dry_run: bool
) -> garbage.Swept:
    """Remove garbage."""
    grace = None if grace_hours is None else timedelta(hours=grace_hours)
    wish = garbage.Wish(grace=grace, dry_run=dry_run)
    with opened() as runtime:
        return garbage.sweep(runtime, wish, lambda seen: told(f"{seen} blobs looked at"))


def check(sample: float, told: Callable[[str], None]) -> integrity.Checked:
    """Compare the catalogue with the store; a share of the blobs is hashed."""

    def tell(progress: integrity.Progress) -> None:
        if progress.done % _TOLD_EVERY == 0:
            told(f"{progress.done} of {progress.total} blobs, {progress.size_bytes} bytes hashed")

    with opened() as runtime:
        return integrity.examine(runtime, sample=sample, told=tell)


def save(folder: Path, told: Callable[[str], None]) -> backup.Backup:
    """Copy the whole registry into a folder."""
    with opened() as runtime:
        return backup.save(runtime, folder, _counted(told))


def restore(folder: Path, told: Callable[[str], None]) -> backup.Backup:
    """Bring a registry back from a folder."""
    settings = from_environment()
    if settings.is_sqlite:
        settings.home.mkdir(parents=True, exist_ok=True)
    runtime = open_runtime(settings)
    try:
        return backup.restore(runtime, folder, _counted(told))
    finally:
        runtime.database.close()


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What to export, where to, and signed by whom."""

    file: Path
    names: tuple[str, ...] = ()
    keys: tuple[Path, ...] = ()
    private: bool = True


def export(
    wanted: Wanted, told: Callable[[str], None], *, dry_run: bool
) -> tuple[bundle.Index, str | None]:
    """Write a bundle, or only say what it would hold; what it holds, and its digest."""
    keys = [signing.secret_key(path) for path in wanted.keys]
    selection = exporting.Selection(names=wanted.names, private=wanted.private)
    with opened() as runtime:
        index = exporting.survey(runtime, selection)
        if dry_run:
            return index, None
        return index, exporting.write(runtime, index, wanted.file, keys, _bytes(told))


def outline(index: bundle.Index) -> Iterator[str]:
    """What a bundle holds, line by line: versions with their sizes, then the sums."""
    for version in index.versions:
        state = "" if version.status == "active" else f"  {version.status}"
        yield f"{version.reference}:{version.number}  {version.digest[:19]}{state}"
    yield (
        f"{len(index.adapters)} adapters, {len(index.versions)} versions, {len(index.blobs)} blobs, "
        f"{index.size_bytes} bytes"
    )


def examine(file: Path, trust: tuple[Path, ...], told: Callable[[str], None]) -> bundle.Seal:
    """Verify a bundle and write nothing."""
    with opened() as runtime:
        return bundle_import.examine(runtime, file, _trusted(runtime, trust), _bytes(told))


def take(file: Path, trust: tuple[Path, ...], told: Callable[[str], None]) -> bundle_import.Taken:
    """Take a bundle in."""
    with opened() as runtime:
        return bundle_import.take(runtime, file, _trusted(runtime, trust), _bytes(told))


def create_key(path: Path) -> str:
    """Make a key and give its id."""
    return signing.create(path)


def key_id(path: Path) -> str:
    """The id of a public key."""
    return signing.key_id(signing.public_key(path))


def import_hub(
    folder: Path, told: Callable[[str], None], *, metadata_only: bool, resume: bool
) -> Report:
    """Take over a reference hub."""
    with opened() as runtime:
        return importer.run(runtime, folder, told, metadata_only=metadata_only, resume=resume)


def describe(report: Report) -> str:
    """The report of an import as a table."""
    return report_table(report)


def reindex(told: Callable[[int], None]) -> int:
    """Make anew what search reads; of how many adapters."""
    with opened() as runtime, runtime.database.writing() as session:
        return indexing.rebuild(session, told)


def document() -> dict[str, Any]:
    """The OpenAPI document; neither a database nor a folder is touched."""
    settings = from_environment({"ADAPTERHUB_SECRET_KEY": "none", "ADAPTERHUB_BLOBS": "memory:"})
    return generate(create_app(msgspec.structs.replace(settings, database_url="sqlite://")))


def explained(error: Exception) -> tuple[str, str | None] | None:  # noqa: PLR0911  # one case each
    """An error as a sentence and a hint; None for a bug."""
    match error:
        case NotMigrated():
            return error.detail, "run `adapterhub-registry migrate`"
        case SQLAlchemyError():
            reason = str(error.__cause__ or error).strip().splitlines()[0]
            return f"The database refuses: {reason}", "look at ADAPTERHUB_DATABASE_URL"
        case StoreUnreachable():
            return str(error), "look at ADAPTERHUB_BLOBS and the AWS_ variables"
        case backup.BackupRefused() | BlobCorrupt() | BlobMissing():
            return str(error), None
        case signing.KeyRefused():
            return str(error), "`adapterhub-registry key create` makes keys"
        case BundleRefused():
            return error.detail, "nothing was written"
        case SettingsRefused():
            return str(error), "settings are environment variables; the registry's README has them"
        case RegistryError() | NoHub() | OSError():
            return str(error), None
        case _:
            return None


def _trusted(runtime: Runtime, trust: tuple[Path, ...]) -> dict[str, Any]:
    folder = runtime.settings.trusted_keys
    return signing.trusted_keys(trust or ((folder,) if folder.exists() else ()))


def _counted(told: Callable[[str], None]) -> backup.Told:
    """Progress in blobs as lines, now and then."""

    def tell(done: int, total: int) -> None:
        if done % _TOLD_EVERY == 0:
            told(f"{done} of {total} blobs")

    return tell


def _bytes(told: Callable[[str], None]) -> bundle.Told:
    """Progress in bytes as lines, one for each hundredth."""
    last = -1

    def tell(done: int, total: int) -> None:
        nonlocal last
        share = 100 * done // max(total, 1)
        if share != last:
            last = share
            told(f"{share} % of {total} bytes")

    return tell


@contextmanager
def opened() -> Iterator[Runtime]:
    """The runtime of a command; SQLite is migrated, and connections are gone before any fork."""
    settings = from_environment()
    if settings.is_sqlite:
        settings.home.mkdir(parents=True, exist_ok=True)
    runtime = open_runtime(settings)
    try:
        if settings.is_sqlite:
            _migrate(runtime)
        yield runtime
    finally:
        runtime.database.close()


def _migrate(runtime: Runtime) -> None:
    """Bring the database to the newest revision, and index what came from a revision without search."""
    migration.migrate(runtime.database)
    with runtime.database.writing() as session:
        if indexing.is_missing(session):
            indexing.rebuild(session)
