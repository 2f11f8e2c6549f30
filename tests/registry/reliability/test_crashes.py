"""Group C: a process that is killed, and many that want the same at once."""

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import make_url, select, text, update
from tests.factories import make_files, make_manifest, make_weights, sha256
from tests.registry.conftest import Hub, ok
from tests.registry.reliability import killed

from adapterhub_client import wire
from adapterhub_registry.app import create_app
from adapterhub_registry.database import Database
from adapterhub_registry.models import Organization, Version
from adapterhub_registry.service import garbage, integrity
from adapterhub_registry.settings import Settings
from adapterhub_registry.storage import BlobStore, FolderStore

ROOT = Path(__file__).parents[3]


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return FolderStore(tmp_path / "blobs")


def numbers(hub: Hub) -> list[int]:
    with hub.runtime.database.reading() as session:
        return sorted(session.scalars(select(Version.number)))


@pytest.mark.parametrize("step", killed.STEPS)
def test_c1_a_publish_that_is_killed_is_there_as_a_whole_or_not_at_all(
    hub: Hub, settings: Settings, step: str
) -> None:
    hub.token("ukp")
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "ADAPTERHUB_HOME": str(settings.home),
        "ADAPTERHUB_DATABASE_URL": settings.database_url,
        "ADAPTERHUB_BLOBS": settings.blobs,
        "ADAPTERHUB_SECRET_KEY": "for tests",
        "ADAPTERHUB_DIRECT_BYTES": str(settings.direct_bytes),
    }

    command = [sys.executable, "-m", "tests.registry.reliability.killed", step]
    ended = subprocess.run(
        command, env=environment, cwd=ROOT, check=False, capture_output=True, timeout=120
    )
    left = numbers(hub)
    whole = list(integrity.check(hub.runtime))
    version = killed.publish(hub.runtime)

    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    assert left == ([1] if step in {"after the commit", "discarded"} else [])
    assert whole == []
    assert (version.number, numbers(hub)) == (1, [1])
    assert list(integrity.check(hub.runtime)) == []
    for file in make_manifest(files=killed.contents()).files:
        assert hub.get(f"/blobs/{file.sha256}").data == killed.contents()[file.path]


def publish_seed(hub: Hub, token: str, seed: int) -> int:
    files = {**make_files(), "adapter.safetensors": make_weights(seed)}
    return hub.publish(token, make_manifest(files=files), files).number


def test_c2_thirty_two_publishes_of_one_manifest_make_one_version(hub: Hub) -> None:
    token, files = hub.token("ukp"), make_files()

    with ThreadPoolExecutor(32) as pool:
        made = list(
            pool.map(
                lambda _: hub.publish(token, make_manifest(files=files), files).digest, range(32)
            )
        )

    assert (len(set(made)), numbers(hub)) == (1, [1])


def test_c2_thirty_two_publishes_of_one_variant_are_numbered_each_once(hub: Hub) -> None:
    token = hub.token("ukp")

    with ThreadPoolExecutor(32) as pool:
        made = list(pool.map(lambda seed: publish_seed(hub, token, seed), range(32)))

    assert sorted(made) == numbers(hub) == list(range(1, 33))


def test_c4_garbage_collection_leaves_uploads_in_flight_alone(hub: Hub) -> None:
    hub.clock.moment = datetime.now(UTC)
    token, files = hub.token("ukp"), killed.contents()
    upload = hub.begin(token, make_manifest(files=files))
    contents = {file.sha256: files[file.path] for file in make_manifest(files=files).files}
    for target in upload.missing:
        content, path = contents[target.sha256], target.url.removeprefix("/api/v1")
        if target.in_parts:
            for part in ok(hub.get(path, token), wire.Parts).missing:
                chunk = content[part.start : part.start + part.size_bytes]
                hub.call("PUT", part.url.removeprefix("/api/v1"), token, data=chunk)
                garbage.sweep(hub.runtime)
        else:
            hub.call("PUT", path, token, data=content)
            garbage.sweep(hub.runtime)

    committed = hub.call("POST", f"/uploads/{upload.id}/commit", token)
    garbage.sweep(hub.runtime)

    assert committed.status_code == 201
    assert list(integrity.check(hub.runtime)) == []


@pytest.mark.parametrize("hours", [-1, 1])
def test_c5_a_server_whose_clock_is_wrong_disturbs_no_other(
    hub: Hub, settings: Settings, store: BlobStore, hours: int
) -> None:
    hub.clock.moment = datetime.now(UTC)
    token, files = hub.token("ukp"), make_files()
    skewed = Hub(
        create_app(settings, store=store, clock=lambda: hub.clock() + timedelta(hours=hours)),
        hub.clock,
    )

    upload = hub.begin(token, make_manifest(files=files))
    for content in files.values():
        path = f"/uploads/{upload.id}/blobs/{sha256(content)}"
        assert skewed.call("PUT", path, token, data=content).status_code == 204
    swept = garbage.sweep(skewed.runtime)
    committed = skewed.call("POST", f"/uploads/{upload.id}/commit", token)
    again = hub.publish(token, make_manifest(files=files), files)
    skewed.runtime.database.close()

    assert swept.blobs == 0
    assert committed.status_code == 201
    assert again.number == 1


def serializable(url: str) -> str:
    asked = {"options": "-c default_transaction_isolation=serializable"}
    return make_url(url).update_query_dict(asked).render_as_string(hide_password=False)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_c5_serialization_failures_are_tried_again(
    settings: Settings, store: BlobStore, hub: Hub
) -> None:
    strict = Database(serializable(settings.database_url))
    with strict.reading() as session:
        assert session.scalar(text("show transaction_isolation")) == "serializable"
    app = create_app(settings, store=store, clock=hub.clock)
    hub.runtime.database.close()
    app.extensions["adapterhub"] = msgspec.structs.replace(
        app.extensions["adapterhub"], database=strict
    )
    other = Hub(app, hub.clock)
    token = other.token("ukp")

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda seed: publish_seed(other, token, seed), range(16)))

    assert sorted(made) == list(range(1, 17))
    strict.close()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_c5_a_deadlock_is_tried_again(hub: Hub) -> None:
    for name in ("one", "two"):
        hub.token(name)
    database, meeting = hub.runtime.database, threading.Barrier(2, timeout=20)
    runs: list[str] = []

    def touch(first: str, second: str) -> None:
        attempts = 0

        def work(session) -> None:
            nonlocal attempts
            attempts += 1
            runs.append(first)
            for at, name in enumerate((first, second)):
                session.execute(update(Organization).filter_by(name=name).values(name=name))
                if at == 0 and attempts == 1:
                    meeting.wait()

        database.transact(work)

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(touch, "one", "two"), pool.submit(touch, "two", "one")]:
            done.result()

    assert len(runs) == 3
