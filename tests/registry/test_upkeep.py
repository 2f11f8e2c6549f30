"""Garbage collection and the check of the store, beside all that goes on."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.factories import make_files, make_manifest, sha256
from tests.registry.conftest import Hub

from adapterhub_registry.cli import main
from adapterhub_registry.models import Blob
from adapterhub_registry.service import garbage, integrity
from adapterhub_registry.storage import FolderStore

FILES = make_files()


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "blobs")


@pytest.fixture
def published(hub: Hub) -> Hub:
    hub.clock.moment = datetime.now(UTC)
    hub.publish(hub.token("ukp"), make_manifest(files=FILES), FILES)
    return hub


def path_of(store: FolderStore, digest: str) -> Path:
    return store.folder / "blobs" / "sha256" / digest[:2] / digest


def orphan(store: FolderStore, content: bytes, *, old: bool = True) -> str:
    store.put(sha256(content), [content], len(content))
    if old:
        os.utime(path_of(store, sha256(content)), (0, 0))
    return sha256(content)


def test_young_garbage_waits_for_its_grace(published: Hub, store: FolderStore) -> None:
    young = orphan(store, b"young", old=False)
    old = orphan(store, b"older")

    looked = garbage.sweep(published.runtime, garbage.Wish(dry_run=True))
    swept = garbage.sweep(published.runtime)
    published.clock.move(minutes=1)
    later = garbage.sweep(
        published.runtime, garbage.Wish(grace=published.runtime.upload_lifetime * 0)
    )

    assert looked == swept == garbage.Swept(0, 1, 5)
    assert later == garbage.Swept(0, 1, 5)
    left = {each.sha256 for each in store.blobs()}
    assert left == {sha256(each) for each in FILES.values()}
    assert {young, old}.isdisjoint(left)


def test_the_bytes_of_a_deleted_version_become_garbage(published: Hub, store: FolderStore) -> None:
    token = published.token("ukp")
    path = "/adapters/nli/multinli@ukp?reason=gone"
    assert published.call("DELETE", path, token).status_code == 200

    published.clock.move(hours=30)
    swept = garbage.sweep(published.runtime)

    assert swept.blobs == len(FILES)
    assert list(store.blobs()) == []
    with published.runtime.database.reading() as session:
        assert session.query(Blob).count() == 0


def test_rows_whose_bytes_went_in_a_crash_go_too(published: Hub, store: FolderStore) -> None:
    with published.runtime.database.writing() as session:
        session.add(Blob(sha256="c" * 64, size_bytes=3, created_at=published.clock()))
    published.clock.move(hours=30)

    garbage.sweep(published.runtime)

    assert integrity.examine(published.runtime).faults == []


def test_both_directions_are_compared(published: Hub, store: FolderStore) -> None:
    lost, changed = sha256(FILES["README.md"]), sha256(FILES["adapter.safetensors"])
    unknown = orphan(store, b"nobody's")
    store.remove(lost)
    path = path_of(store, changed)
    path.write_bytes(b"x" + path.read_bytes()[1:])

    told: list[integrity.Progress] = []
    found = integrity.examine(published.runtime, told=told.append)

    assert {(each.subject, each.kind) for each in found.faults} == {
        (lost, "missing"),
        (changed, "corrupt"),
    }
    assert [(each.subject, each.kind) for each in found.unknown] == [(unknown, "unknown")]
    assert (found.blobs, found.hashed, found.versions) == (3, 3, 1)
    assert [(each.done, each.total) for each in told] == [(1, 3), (2, 3), (3, 3)]


def test_a_sample_of_nothing_still_finds_what_is_lost_or_short(
    published: Hub, store: FolderStore
) -> None:
    lost, short = sha256(FILES["README.md"]), sha256(FILES["adapter.safetensors"])
    store.remove(lost)
    path_of(store, short).write_bytes(b"x")

    found = integrity.examine(published.runtime, sample=0)

    assert {(each.subject, each.kind) for each in found.faults} == {
        (lost, "missing"),
        (short, "corrupt"),
    }
    assert (found.hashed, found.size_bytes) == (0, 0)


def test_l6_a_database_older_than_its_bucket_and_a_bucket_older_than_its_database(
    published: Hub, store: FolderStore
) -> None:
    """Backups of two things are never of one moment: each direction is reported for what it is."""
    newer = orphan(store, b"published after the dump")
    older = sha256(FILES["adapter_config.json"])
    store.remove(older)

    found = integrity.examine(published.runtime)

    assert [(each.kind, each.subject) for each in found.faults] == [("missing", older)]
    assert [(each.kind, each.subject) for each in found.unknown] == [("unknown", newer)]


def test_the_command_says_it_with_its_exit_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DATABASE_URL", "BLOBS", "SECRET_KEY", "PUBLIC_URL"):
        monkeypatch.delenv(f"ADAPTERHUB_{name}", raising=False)
    monkeypatch.setenv("ADAPTERHUB_HOME", str(tmp_path))
    unknown = orphan(FolderStore(tmp_path / "blobs"), b"nobody's")

    plain = CliRunner().invoke(main, ["fsck", "--sample", "10"])
    strict = CliRunner().invoke(main, ["fsck", "--strict", "--json"])
    looked = CliRunner().invoke(main, ["gc", "--dry-run"])
    swept = CliRunner().invoke(main, ["gc", "--grace-hours", "1", "--json"])

    assert (plain.exit_code, strict.exit_code) == (0, 65)
    assert plain.stdout == f"{unknown}: is not in the catalogue (8 bytes)\n"
    assert json.loads(strict.stdout)["unknown"][0]["subject"] == unknown
    assert looked.stdout == "Would remove 0 uploads and 1 blobs (8 bytes)\n"
    assert json.loads(swept.stdout) == {"uploads": 0, "blobs": 1, "size_bytes": 8}
