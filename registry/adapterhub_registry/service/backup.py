"""A copy of a whole registry in a folder, and back from it: the database first, then every blob that it names.

The order is what makes the copy whole while the registry serves: a blob is there before a row names it. What is deleted
and collected meanwhile is in the copied database and has lost its bytes; such blobs are named. A second backup into
the same folder copies only what is new. Blobs are hashed on the way, both ways.
"""

import os
import shutil
import sqlite3
import subprocess  # PostgreSQL's own programs
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
from sqlalchemy import func, inspect, make_url, select, text

from adapterhub_registry import migration
from adapterhub_registry.models import Account, Blob, Version
from adapterhub_registry.runtime import Runtime
from adapterhub_registry.storage import BlobCorrupt, BlobMissing, BlobStore, FolderStore

MANIFEST = "backup.json"
_SQLITE, _POSTGRESQL = "registry.sqlite", "registry.pgdump"
_AT_ONCE = 500

Told = Callable[[int, int], None]
"""hears how many of how many blobs are done"""


class BackupRefused(Exception):
    """A backup that cannot be made, or a folder that holds none that fits."""


class Backup(msgspec.Struct, frozen=True, kw_only=True):
    """What a folder holds; written last, so that a backup that was cut off is none."""

    made_at: str
    database: str
    """the file with the database"""
    versions: int
    blobs: int
    size_bytes: int
    missing: list[str] = []
    """blobs that the catalogue names and the store has lost"""


def save(runtime: Runtime, folder: Path, told: Told) -> Backup:
    """Copy the registry into a folder.

    Raises:
        BackupRefused: The database's own program fails, or is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    made_at = runtime.clock().isoformat()
    target = FolderStore(folder)
    blobs = size_bytes = 0
    missing: list[str] = []
    with _dumped(runtime, folder) as dumped:
        for sha256, length in dumped.blobs:
            try:
                _copy(runtime.store, target, sha256, length)
                blobs, size_bytes = blobs + 1, size_bytes + length
            except (BlobMissing, BlobCorrupt):
                missing.append(sha256)
            told(blobs + len(missing), dumped.count)
    made = Backup(
        made_at=made_at,
        database=dumped.name,
        versions=dumped.versions,
        blobs=blobs,
        size_bytes=size_bytes,
        missing=missing,
    )
    _write(folder / MANIFEST, msgspec.json.format(msgspec.json.encode(made)))
    return made


def restore(runtime: Runtime, folder: Path, told: Told) -> Backup:
    """Bring a registry back into an empty database and any store, and the database to the newest revision.

    It can be stopped while blobs are copied, and run again.

    Raises:
        BackupRefused: The folder holds no whole backup, or one of another kind of database; or the database is in use.
    """
    try:
        held = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Backup)
    except FileNotFoundError as error:
        raise BackupRefused(f"{str(folder)!r} holds no whole backup.") from error
    except msgspec.DecodeError as error:
        raise BackupRefused(f"{str(folder / MANIFEST)!r} cannot be read: {error}.") from error
    expected = _SQLITE if _file(runtime) is not None else _POSTGRESQL
    if held.database != expected:
        raise BackupRefused(
            f"The backup holds {held.database!r}, and the database of this registry wants {expected!r}."
        )
    if not _is_ours(runtime, held):
        _load(runtime, folder / held.database)
    migration.migrate(runtime.database)
    for done, (sha256, length) in enumerate(_blobs(runtime), 1):
        if sha256 not in held.missing:
            _copy(FolderStore(folder), runtime.store, sha256, length)
        told(done, held.blobs + len(held.missing))
    return held


def _copy(source: BlobStore, target: BlobStore, sha256: str, size_bytes: int) -> None:
    try:
        if target.size_bytes(sha256) == size_bytes:
            return
    except BlobMissing:
        pass
    target.put(sha256, source.read(sha256), size_bytes)


def _blobs(runtime: Runtime) -> Iterator[tuple[str, int]]:
    """Every blob of the catalogue, page by page."""
    after = ""
    while True:
        with runtime.database.reading() as session:
            query = select(Blob.sha256, Blob.size_bytes).where(Blob.sha256 > after)
            rows = session.execute(query.order_by(Blob.sha256).limit(_AT_ONCE)).all()
        if not rows:
            return
        yield from ((sha256, length) for sha256, length in rows)
        after = rows[-1][0]


class _Dumped(msgspec.Struct, frozen=True):
    """A database as it was written to a file, and what is in it."""

    name: str
    versions: int
    count: int
    """of blobs"""
    blobs: Iterator[tuple[str, int]]


@contextmanager
def _dumped(runtime: Runtime, folder: Path) -> Iterator[_Dumped]:
    """Write the database as it is at one moment; what is read while this is open is of that moment."""
    file = _file(runtime)
    if file is None:
        with _snapshot(runtime, folder) as dumped:
            yield dumped
        return
    beside = folder / f".{_SQLITE}.part"
    beside.unlink(missing_ok=True)
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(beside)) as copy:
        source.backup(copy)
    beside.replace(folder / _SQLITE)
    with closing(sqlite3.connect(f"file:{folder / _SQLITE}?mode=ro", uri=True)) as copy:
        (versions,) = copy.execute("SELECT count(*) FROM version").fetchone()
        (count,) = copy.execute("SELECT count(*) FROM blob").fetchone()
        rows = copy.execute("SELECT sha256, size_bytes FROM blob ORDER BY sha256")
        yield _Dumped(_SQLITE, versions, count, ((str(row[0]), int(row[1])) for row in rows))


@contextmanager
def _snapshot(runtime: Runtime, folder: Path) -> Iterator[_Dumped]:
    """PostgreSQL lets its program read what a transaction sees."""
    beside = folder / f".{_POSTGRESQL}.part"
    engine = runtime.database.engine.execution_options(isolation_level="REPEATABLE READ")
    with engine.connect() as connection:
        for limit in ("statement_timeout", "idle_in_transaction_session_timeout"):
            connection.execute(text(f"SET LOCAL {limit} = 0"))
        snapshot = connection.scalar(text("SELECT pg_export_snapshot()"))
        options = ("--format=custom", "--no-owner", "--no-privileges")
        _postgresql(runtime, "pg_dump", *options, f"--snapshot={snapshot}", f"--file={beside}")
        beside.replace(folder / _POSTGRESQL)
        versions = connection.scalar(select(func.count()).select_from(Version)) or 0
        count = connection.scalar(select(func.count()).select_from(Blob)) or 0
        query = select(Blob.sha256, Blob.size_bytes).order_by(Blob.sha256)
        with connection.execution_options(yield_per=_AT_ONCE).execute(query) as rows:
            yield _Dumped(_POSTGRESQL, versions, count, ((row[0], row[1]) for row in rows))


def _load(runtime: Runtime, dump: Path) -> None:
    """Fill an empty database."""
    if not _is_empty(runtime):
        raise BackupRefused("The database is not empty: a backup is restored into a new one.")
    file = _file(runtime)
    runtime.database.close()
    if file is None:
        # its tables may be there, empty: whoever opened the registry before has migrated it
        _postgresql(
            runtime,
            "pg_restore",
            "--clean",
            "--if-exists",
            "--single-transaction",
            "--no-owner",
            "--no-privileges",
            str(dump),
        )
        return
    for beside in (f"{file}-wal", f"{file}-shm"):
        Path(beside).unlink(missing_ok=True)
    fresh = file.with_name(f".{file.name}.part")
    shutil.copyfile(dump, fresh)
    fresh.replace(file)


def _is_empty(runtime: Runtime) -> bool:
    if "account" not in inspect(runtime.database.engine).get_table_names():
        return True
    with runtime.database.reading() as session:
        return not session.scalar(select(func.count()).select_from(Account))


def _is_ours(runtime: Runtime, held: Backup) -> bool:
    """Whether the database came from this backup: then blobs are what is left to do."""
    if _is_empty(runtime):
        return False
    with runtime.database.reading() as session:
        blobs = session.scalar(select(func.count()).select_from(Blob))
        versions = session.scalar(select(func.count()).select_from(Version))
    return (versions, blobs) == (held.versions, held.blobs + len(held.missing))


def _file(runtime: Runtime) -> Path | None:
    """The file of an SQLite database; None for PostgreSQL."""
    url = make_url(runtime.settings.database_url)
    return Path(url.database or "") if runtime.settings.is_sqlite else None


def _postgresql(runtime: Runtime, program: str, *arguments: str) -> None:
    """Run one of PostgreSQL's programs; the password goes by the environment, where no list of processes shows it."""
    url = make_url(runtime.settings.database_url)
    where = url.set(drivername="postgresql", password=None).render_as_string(hide_password=False)
    if shutil.which(program) is None:
        raise BackupRefused(f"`{program}` is not installed: it comes with PostgreSQL's client.")
    done = subprocess.run(  # noqa: S603  # ours, without a shell
        [program, f"--dbname={where}", *arguments],
        env={**os.environ, **({"PGPASSWORD": str(url.password)} if url.password else {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise BackupRefused(f"`{program}` fails: {said}.")


def _write(path: Path, content: bytes) -> None:
    beside = path.with_name(f".{path.name}.part")
    beside.write_bytes(content)
    beside.replace(path)
