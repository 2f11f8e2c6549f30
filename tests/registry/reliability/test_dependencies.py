"""Group D: the services that the registry needs are stopped, slowed, cut and full; and clients that break off."""

import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import event, make_url, select, text
from tests.factories import make_files, make_manifest, sha256
from tests.registry.conftest import Clock, Hub, problem
from tests.registry.reliability.conftest import Gate
from tests.registry.test_server import Server, push

from adapterhub_client import wire
from adapterhub_registry.app import create_app
from adapterhub_registry.database import Database, Limits
from adapterhub_registry.models import Version
from adapterhub_registry.service import integrity
from adapterhub_registry.settings import MIB, Settings
from adapterhub_registry.storage import BlobStore, FolderStore, MemoryStore

ROOT = Path(__file__).parents[3]
SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"


def answering(status: str, body: bytes = SLOW_DOWN) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + body


# ---------------------------------------------------------------- D1: the object store


@pytest.fixture
def on_s3(settings: Settings, gated_store: BlobStore) -> Iterator[Hub]:
    clock = Clock()
    app = create_app(settings, store=gated_store, clock=clock)
    yield Hub(app, clock)
    app.extensions["adapterhub"].database.close()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(None, id="stopped"),
        pytest.param("500 Internal Server Error", id="500"),
        pytest.param("503 Slow Down", id="slow down"),
        pytest.param("403 Forbidden", id="403, as for a wrong clock"),
        pytest.param("404 Not Found", id="no such bucket"),
    ],
)
def test_d1_a_store_that_fails_is_503_and_nothing_is_half_done(
    on_s3: Hub, s3_gate: Gate, fault: str | None
) -> None:
    token, files = on_s3.token("ukp"), make_files()
    files["notes.txt"] = secrets.token_bytes(
        2 * MIB
    )  # so large that it is staged, and hashed by the commit
    upload = on_s3.begin(token, make_manifest(files=files))
    paths = {f"/uploads/{upload.id}/blobs/{sha256(each)}": each for each in files.values()}

    def fail() -> None:
        s3_gate.cut()
        s3_gate.closed, s3_gate.answer = fault is None, fault and answering(fault)
        if fault == "404 Not Found":
            body = b"<Error><Code>NoSuchBucket</Code><Message>Gone.</Message></Error>"
            s3_gate.answer = answering(fault, body)

    fail()
    refused = [on_s3.call("PUT", list(paths)[-1], token, data=files["notes.txt"])]
    s3_gate.free()
    for path, each in paths.items():
        assert on_s3.call("PUT", path, token, data=each).status_code == 204
    fail()
    refused.append(on_s3.call("POST", f"/uploads/{upload.id}/commit", token))
    shown = on_s3.get("/adapters").json["total"]
    s3_gate.free()
    committed = on_s3.call("POST", f"/uploads/{upload.id}/commit", token)

    said = {(each.status_code, problem(each).code) for each in refused}
    assert said == {(503, "store_failed")}
    assert {each.headers["Retry-After"] for each in refused} == {"5"}
    assert shown == 0
    assert committed.status_code == 201


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_d1_a_connection_that_is_cut_while_bytes_are_hashed_is_no_wrong_hash(
    on_s3: Hub, s3_gate: Gate
) -> None:
    content = secrets.token_bytes(3 * 1024 * 1024)
    token, files = on_s3.token("ukp"), {**make_files(), "middling.txt": content}
    upload = on_s3.begin(token, make_manifest(files=files))
    for each in files.values():
        path = f"/uploads/{upload.id}/blobs/{sha256(each)}"
        assert on_s3.call("PUT", path, token, data=each).status_code == 204

    s3_gate.cut_after = 1024 * 1024
    refused = on_s3.call("POST", f"/uploads/{upload.id}/commit", token)
    s3_gate.free()
    committed = on_s3.call("POST", f"/uploads/{upload.id}/commit", token)

    assert (refused.status_code, problem(refused).code) == (503, "store_failed")
    assert committed.status_code == 201


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_d1_a_slow_store_only_takes_longer(on_s3: Hub, s3_gate: Gate) -> None:
    token, files = on_s3.token("ukp"), make_files()
    s3_gate.slow_seconds = 0.2

    version = on_s3.publish(token, make_manifest(files=files), files)

    assert version.number == 1


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("harm", ["lost", "changed"])
def test_d1_bytes_that_are_lost_or_changed_are_found(
    settings: Settings, tmp_path: Path, harm: str
) -> None:
    store = FolderStore(tmp_path / "blobs")
    hub = Hub(create_app(settings, store=store, clock=Clock()), Clock())
    token, files = hub.token("ukp"), make_files()
    hub.publish(token, make_manifest(files=files), files)
    digest = sha256(files["README.md"])
    path = next((tmp_path / "blobs" / "blobs").rglob(digest))
    path.write_bytes(b"# Adaptes 0\n") if harm == "changed" else path.unlink()

    faults = [fault.subject for fault in integrity.check(hub.runtime)]
    answer = hub.get(f"/blobs/{digest}")
    again = hub.begin(token, make_manifest("nli/again@ukp", files))
    committed = hub.call("POST", f"/uploads/{again.id}/commit", token)
    hub.runtime.database.close()

    assert faults == [digest]
    if harm == "lost":
        assert (answer.status_code, problem(answer).code) == (503, "store_failed")
        assert [target.sha256 for target in again.missing] == [digest]
    else:
        # a client hashes what it gets; the registry does where it vouches: at a commit
        assert answer.headers["ETag"] == f'"{digest}"'
        assert (committed.status_code, problem(committed).code) == (503, "store_failed")


# ---------------------------------------------------------------- D2: the database


@pytest.fixture
def on_postgres(settings: Settings, postgres: str, postgres_gate: Gate) -> Iterator[Hub]:
    """A registry whose database is behind the gate."""
    url = make_url(postgres).set(host="127.0.0.1", port=postgres_gate.port)
    gated = msgspec.structs.replace(
        settings, database_url=url.render_as_string(hide_password=False)
    )
    clock = Clock()
    app = create_app(gated, store=MemoryStore(), clock=clock)
    yield Hub(app, clock)
    postgres_gate.free()
    app.extensions["adapterhub"].database.close()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_d2_what_every_pull_asks_says_that_the_database_is_down(
    on_postgres: Hub, postgres_gate: Gate
) -> None:
    token, files = on_postgres.token("ukp"), make_files()
    version = on_postgres.publish(token, make_manifest(files=files), files)
    paths = [f"/resolve?ref={version.reference}", f"/manifests/{version.digest}"]

    before = [on_postgres.get(path).status_code for path in paths]
    postgres_gate.shut()
    refused = [on_postgres.get(path) for path in paths]
    postgres_gate.free()
    after = [on_postgres.get(path).status_code for path in paths]

    assert before == after == [200, 200]
    assert [(each.status_code, problem(each).code) for each in refused] == [
        (503, "unavailable")
    ] * 2


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_d2_a_database_that_is_down_is_503_and_comes_back_by_itself(
    on_postgres: Hub, postgres_gate: Gate
) -> None:
    token, files = on_postgres.token("ukp"), make_files()
    upload = on_postgres.begin(token, make_manifest(files=files))

    postgres_gate.shut()
    refused = [
        on_postgres.get("/adapters"),
        on_postgres.call("POST", f"/uploads/{upload.id}/commit", token),
    ]
    postgres_gate.free()
    version = on_postgres.publish(token, make_manifest(files=files), files)

    assert [(each.status_code, problem(each).code) for each in refused] == [
        (503, "unavailable")
    ] * 2
    assert refused[0].headers["Retry-After"] == "5"
    assert version.number == 1


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_d2_a_failover_within_the_transaction_leaves_nothing_of_it(
    on_postgres: Hub, postgres_gate: Gate
) -> None:
    token, files = on_postgres.token("ukp"), make_files()
    upload = on_postgres.begin(token, make_manifest(files=files))
    for content in files.values():
        path = f"/uploads/{upload.id}/blobs/{sha256(content)}"
        on_postgres.call("PUT", path, token, data=content)
    store = on_postgres.runtime.store
    ask = store.size_bytes
    on_postgres.clock.move(minutes=16)  # what came just now is not asked for

    def cut(digest: str) -> int:
        postgres_gate.cut()
        return ask(digest)

    store.size_bytes = cut  # type: ignore[method-assign]  # asked for within the transaction
    refused = on_postgres.call("POST", f"/uploads/{upload.id}/commit", token)
    store.size_bytes = ask  # type: ignore[method-assign]
    with on_postgres.runtime.database.reading() as session:
        left = session.scalars(select(Version.number)).all()
    committed = on_postgres.call("POST", f"/uploads/{upload.id}/commit", token)

    assert (refused.status_code, left) == (503, [])
    assert committed.status_code == 201


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_d2_a_database_that_only_reads_still_serves(hub: Hub, settings: Settings) -> None:
    token, files = hub.token("ukp"), make_files()
    version = hub.publish(token, make_manifest(files=files), files)
    url = make_url(settings.database_url)
    read_only = Database(
        url.update_query_dict({"options": "-c default_transaction_read_only=on"}).render_as_string(
            hide_password=False
        )
    )
    kept = hub.app.extensions["adapterhub"]
    hub.app.extensions["adapterhub"] = msgspec.structs.replace(kept, database=read_only)

    pulled = [
        hub.get(f"/manifests/{version.digest}"),
        hub.get(f"/blobs/{sha256(files['README.md'])}?version={version.digest}"),
        hub.get(f"/blobs/{sha256(files['adapter.safetensors'])}?version={version.digest}"),
    ]
    refused = hub.call(
        "POST", "/uploads", token, body=wire.UploadDraft(manifest=make_manifest(description="x"))
    )
    hub.app.extensions["adapterhub"] = kept
    read_only.close()

    assert [answer.status_code for answer in pulled] == [200, 200, 200]
    assert (refused.status_code, problem(refused).code) == (503, "unavailable")


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_d2_when_all_connections_are_taken_the_answer_is_503(hub: Hub, settings: Settings) -> None:
    narrow = Database(settings.database_url, Limits(connections=1, waiting_seconds=0.2))
    kept = hub.app.extensions["adapterhub"]
    hub.app.extensions["adapterhub"] = msgspec.structs.replace(kept, database=narrow)
    held = [narrow.engine.connect() for _ in range(4)]

    refused = hub.get("/adapters")
    for each in held:
        each.close()
    answered = hub.get("/adapters")
    hub.app.extensions["adapterhub"] = kept
    narrow.close()

    assert (refused.status_code, problem(refused).code) == (503, "unavailable")
    assert answered.status_code == 200


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_d2_a_statement_that_takes_too_long_is_ended(settings: Settings) -> None:
    database = Database(settings.database_url, Limits(statement_seconds=0.2, idle_seconds=0.5))
    began = time.monotonic()

    with pytest.raises(Exception, match="statement timeout"), database.reading() as session:
        session.execute(text("select pg_sleep(20)"))
    with database.reading() as session:
        limits = [
            session.scalar(text(f"show {name}"))
            for name in ("statement_timeout", "idle_in_transaction_session_timeout")
        ]
    database.close()

    assert time.monotonic() - began < 10
    assert limits == ["200ms", "500ms"]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_d2_a_full_database_is_503_and_readable(hub: Hub, settings: Settings) -> None:
    token, files = hub.token("ukp"), make_files()
    hub.publish(token, make_manifest(files=files), files)
    path = settings.database_url.removeprefix("sqlite:///")
    engine = hub.runtime.database.engine
    engine.dispose()

    def fill(connection, _record) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")

    event.listen(engine, "connect", fill)
    drafts = [make_manifest(files=files, description="x" * 500_000)]
    refused = [
        hub.call("POST", "/uploads", token, body=wire.UploadDraft(manifest=draft))
        for draft in drafts
    ]
    event.remove(engine, "connect", fill)
    engine.dispose()

    assert Path(path).is_file()
    assert refused[-1].status_code == 503
    assert problem(refused[-1]).code == "unavailable"
    assert hub.get("/adapters").json["total"] == 1
    assert hub.begin(token, drafts[-1]).missing == []


def test_d2_a_full_disk_is_a_store_that_fails(tmp_path: Path) -> None:
    """The limit on a file's size stands for the end of the disk: writing fails in the same way."""
    script = f"""
import hashlib, resource
from adapterhub_registry.storage import FolderStore, StoreUnreachable
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
store, content = FolderStore({str(tmp_path)!r}), bytes(200_000)
digest = hashlib.sha256(content).hexdigest()
for keep in (lambda: store.stage("u", digest, [content], len(content)),
             lambda: store.stage_part("u", digest, 1, [content], len(content)),
             lambda: store.put(digest, [content], len(content))):
    try:
        keep()
    except StoreUnreachable as error:
        print(error)
small = bytes(5)
store.put(hashlib.sha256(small).hexdigest(), [small], 5)
"""

    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    assert ended.stdout.splitlines() == ["The folder cannot be written: File too large."] * 3
    left = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert left == [sha256(bytes(5))]


# ---------------------------------------------------------------- D3: clients


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    started = Server(tmp_path, workers=1)
    started.start()
    with started.client() as client:
        client.post("/orgs", json={"name": "ukp"}).raise_for_status()
    yield started
    started.end(15)


def test_d3_a_client_that_breaks_off_its_upload_leaves_nothing(server: Server) -> None:
    content = bytes(5_000_000)
    files = {**make_files(), "middling.txt": content}
    draft = msgspec.to_builtins(wire.UploadDraft(manifest=make_manifest(files=files)))
    with server.client() as client:
        begun = client.post("/uploads", json=draft).json()
        path = f"/api/v1/uploads/{begun['id']}/blobs/{sha256(content)}"
        head = (
            f"PUT {path} HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer {server.token}\r\n"
            f"Content-Length: {len(content)}\r\n\r\n"
        )
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", server.port)) as broken:
                broken.sendall(head.encode() + content[:2_000_000])

        again = client.post("/uploads", json=draft).json()
        answered = client.put(path.removeprefix("/api/v1"), content=content)

    assert len(again["missing"]) == 4
    assert answered.status_code == 204
    for _ in range(50):
        left = list((server.home / "blobs").rglob("*.part"))
        if not left:
            break
        time.sleep(0.1)
    assert left == []


def test_d3_clients_that_read_slowly_or_break_off_do_not_stop_the_others(server: Server) -> None:
    files = {**make_files(), "large.txt": secrets.token_bytes(20_000_000)}
    with server.client() as client:
        push(client, make_manifest(files=files), files)
        path = f"/api/v1/blobs/{sha256(files['large.txt'])}"
        slow = []
        for _ in range(8):
            each = socket.create_connection(("127.0.0.1", server.port))
            each.sendall(f"GET {path} HTTP/1.1\r\nHost: hub\r\n\r\n".encode())
            each.recv(1000)
            slow.append(each)
        began = time.monotonic()
        answers = [client.get("/adapters").status_code for _ in range(10)]
        seconds = time.monotonic() - began
        for each in slow:
            each.close()
        whole = client.get(path.removeprefix("/api/v1")).content

    assert answers == [200] * 10
    assert seconds < 10
    assert whole == files["large.txt"]
