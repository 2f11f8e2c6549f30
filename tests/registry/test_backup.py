"""A registry is saved while it serves, and brought back somewhere else, byte for byte."""

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import create_engine, make_url, text
from tests.factories import make_files, make_manifest, sha256
from tests.registry.conftest import POSTGRES, Hub, ok

from adapterhub_client import wire
from adapterhub_registry.app import create_app
from adapterhub_registry.runtime import Runtime, open_runtime
from adapterhub_registry.service import backup, garbage, integrity
from adapterhub_registry.service.backup import BackupRefused
from adapterhub_registry.settings import Settings
from adapterhub_registry.storage import BlobStore, FolderStore, MemoryStore, open_store

Elsewhere = Callable[[BlobStore], Runtime]


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "blobs")


@pytest.fixture
def elsewhere(settings: Settings, tmp_path: Path) -> Iterator[Elsewhere]:
    """Opens a registry over a new, empty database of the same kind, and any store."""
    opened: list[Runtime] = []
    databases: list[str] = []

    def open_one(store: BlobStore) -> Runtime:
        url = f"sqlite:///{tmp_path / f'elsewhere{len(opened)}.sqlite'}"
        if not settings.is_sqlite:
            databases.append(f"adapterhub_restored_{secrets.token_hex(4)}")
            _on_server(f'CREATE DATABASE "{databases[-1]}"')
            url = make_url(settings.database_url).set(database=databases[-1])
            url = url.render_as_string(hide_password=False)
        changed = msgspec.structs.replace(settings, database_url=url)
        opened.append(open_runtime(changed, store=store))
        return opened[-1]

    yield open_one
    for runtime in opened:
        runtime.database.close()
    for name in databases:
        _on_server(f'DROP DATABASE "{name}" WITH (FORCE)')


def _on_server(statement: str) -> None:
    server = create_engine(
        make_url(POSTGRES).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT"
    )
    with server.connect() as connection:
        connection.execute(text(statement))
    server.dispose()


def silent(_done: int, _total: int) -> None:
    """Nobody listens."""


def fill(hub: Hub, count: int = 3) -> str:
    token = hub.token("ukp")
    for seed in range(count):
        files = make_files(seed)
        hub.publish(token, make_manifest(f"nli/number-{seed}@ukp", files), files, private=seed == 1)
    return token


def test_all_of_it_comes_back_elsewhere(
    hub: Hub, store: FolderStore, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    token = fill(hub)
    runtime = elsewhere(MemoryStore())

    made = backup.save(hub.runtime, tmp_path / "saved", silent)
    held = backup.restore(runtime, tmp_path / "saved", silent)

    assert (made, made.versions, made.missing) == (held, 3, [])
    assert list(integrity.check(runtime)) == []
    there = Hub(create_app(runtime.settings, store=runtime.store, clock=hub.clock), hub.clock)
    for path in ("/adapters", "/whoami", "/audit", "/adapters/nli/number-1@ukp"):
        assert there.get(path, token).json == hub.get(path, token).json
    files = make_files(2)
    assert there.get(f"/blobs/{sha256(files['README.md'])}").data == files["README.md"]
    assert (
        there.publish(token, make_manifest("nli/number-2@ukp", make_files(9)), make_files(9)).number
        == 2
    )
    there.runtime.database.close()


def test_a_second_backup_copies_what_is_new(
    hub: Hub, store: FolderStore, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    fill(hub, 2)
    backup.save(hub.runtime, tmp_path / "saved", silent)
    before = {
        path: path.stat().st_mtime_ns
        for path in (tmp_path / "saved").rglob("*")
        if len(path.name) == 64
    }

    fill(hub, 3)
    made = backup.save(hub.runtime, tmp_path / "saved", silent)
    runtime = elsewhere(MemoryStore())
    backup.restore(runtime, tmp_path / "saved", silent)

    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert made.versions == 3
    assert list(integrity.check(runtime)) == []


def test_what_was_cut_off_is_no_backup(
    hub: Hub, store: FolderStore, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    fill(hub)
    backup.save(hub.runtime, tmp_path / "saved", silent)

    def cut_off(done: int, _total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backup.save(hub.runtime, tmp_path / "saved", cut_off)

    with pytest.raises(BackupRefused, match="holds no whole backup"):
        backup.restore(elsewhere(MemoryStore()), tmp_path / "saved", silent)


def test_a_restore_that_was_cut_off_goes_on(
    hub: Hub, store: FolderStore, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    fill(hub)
    backup.save(hub.runtime, tmp_path / "saved", silent)
    runtime = elsewhere(MemoryStore())

    def cut_off(done: int, _total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backup.restore(runtime, tmp_path / "saved", cut_off)
    backup.restore(runtime, tmp_path / "saved", silent)

    assert list(integrity.check(runtime)) == []


def test_a_registry_in_use_is_not_written_over(
    hub: Hub, store: FolderStore, tmp_path: Path
) -> None:
    token = fill(hub)
    backup.save(hub.runtime, tmp_path / "saved", silent)
    files = make_files(7)
    hub.publish(token, make_manifest("nli/newer@ukp", files), files)

    with pytest.raises(BackupRefused, match="is not empty"):
        backup.restore(hub.runtime, tmp_path / "saved", silent)

    assert ok(hub.get("/adapters/nli/newer@ukp"), wire.Adapter).summary.versions == 1


def test_a_blob_that_the_store_lost_is_named_and_the_rest_comes_back(
    hub: Hub, store: FolderStore, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    fill(hub)
    lost = sha256(make_files(1)["README.md"])
    store.remove(lost)

    made = backup.save(hub.runtime, tmp_path / "saved", silent)
    runtime = elsewhere(MemoryStore())
    backup.restore(runtime, tmp_path / "saved", silent)

    assert made.missing == [lost]
    assert [fault.subject for fault in integrity.check(runtime)] == [lost]


def test_a_backup_that_rotted_is_not_restored(
    hub: Hub, store: FolderStore, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    fill(hub)
    backup.save(hub.runtime, tmp_path / "saved", silent)
    rotten = sha256(make_files(0)["README.md"])
    path = tmp_path / "saved" / "blobs" / "sha256" / rotten[:2] / rotten
    path.write_bytes(path.read_bytes()[::-1])

    with pytest.raises(Exception, match=rotten):
        backup.restore(elsewhere(MemoryStore()), tmp_path / "saved", silent)


def test_garbage_collection_beside_a_backup_takes_nothing_it_needs(
    hub: Hub, store: FolderStore, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    fill(hub)

    def collect(_done: int, _total: int) -> None:
        garbage.sweep(hub.runtime)

    backup.save(hub.runtime, tmp_path / "saved", collect)
    runtime = elsewhere(MemoryStore())
    backup.restore(runtime, tmp_path / "saved", silent)

    assert list(integrity.check(runtime)) == []


def test_what_is_published_or_deleted_meanwhile_does_not_tear_the_copy(
    hub: Hub, store: FolderStore, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    token = fill(hub)
    gone = sha256(make_files(2)["adapter.safetensors"])

    def meanwhile(done: int, _total: int) -> None:
        if done == 1:
            files = make_files(8)
            hub.publish(token, make_manifest("nli/newer@ukp", files), files)
            hub.call("DELETE", "/adapters/nli/number-2@ukp?reason=wrong", token)
            store.remove(gone)

    made = backup.save(hub.runtime, tmp_path / "saved", meanwhile)
    runtime = elsewhere(MemoryStore())

    def cut_off(done: int, _total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backup.restore(runtime, tmp_path / "saved", cut_off)
    backup.restore(runtime, tmp_path / "saved", silent)

    assert (made.versions, [each for each in made.missing if each != gone]) == (3, [])
    assert {fault.subject for fault in integrity.check(runtime)} == set(made.missing)


def test_a_backup_moves_a_registry_to_s3(
    hub: Hub, store: FolderStore, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    bucket = os.environ.get("S3_BUCKET")
    if not os.environ.get("AWS_ENDPOINT_URL_S3") or not bucket:
        pytest.skip("no S3: AWS_ENDPOINT_URL_S3 names none")
    fill(hub)
    runtime = elsewhere(open_store(f"s3://{bucket}/tests/{secrets.token_hex(8)}"))

    backup.save(hub.runtime, tmp_path / "saved", silent)
    backup.restore(runtime, tmp_path / "saved", silent)

    assert list(integrity.check(runtime)) == []


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_without_its_program_postgresql_is_not_saved(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _program: None)

    with pytest.raises(BackupRefused, match="`pg_dump` is not installed"):
        backup.save(hub.runtime, tmp_path / "saved", silent)
    assert not (tmp_path / "saved" / backup.MANIFEST).exists()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_backup_of_another_kind_of_database_is_refused(
    hub: Hub, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    made = backup.save(hub.runtime, tmp_path / "saved", silent)
    other = msgspec.structs.replace(made, database="registry.pgdump")
    (tmp_path / "saved" / backup.MANIFEST).write_bytes(msgspec.json.encode(other))

    with pytest.raises(BackupRefused, match=r"wants 'registry\.sqlite'"):
        backup.restore(elsewhere(MemoryStore()), tmp_path / "saved", silent)
