"""Groups U and R: bytes that are not what they claim, odd sizes, what nobody ended; and bytes out."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest
from tests.factories import make_files, make_folder, make_manifest, sha256
from tests.registry.conftest import Hub, ok, problem
from tests.registry.test_server import Server

from adapterhub_client import Hub as Client
from adapterhub_client import wire
from adapterhub_client.transfer import PARALLEL
from adapterhub_registry.service import garbage
from adapterhub_registry.service.receiving import SMALL_BYTES
from adapterhub_registry.storage import BlobStore, FolderStore, open_store
from adapterhub_registry.storage.store import PART_BYTES

ROOT = Path(__file__).parents[3]


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BlobStore]:
    if request.param == "folder":
        yield FolderStore(tmp_path / "blobs")
        return
    if "AWS_ENDPOINT_URL_S3" not in os.environ:
        pytest.skip("no S3: AWS_ENDPOINT_URL_S3 names none")
    bucket = os.environ.get("S3_BUCKET", "adapterhub")
    opened = open_store(f"s3://{bucket}/tests/{secrets.token_hex(8)}")
    yield opened
    for stored in opened.blobs():
        opened.remove(stored.sha256)
    for upload in opened.stale_uploads(datetime.now(UTC) + timedelta(days=1)):
        opened.discard(upload)


@pytest.fixture
def database_url(sqlite_template: Path, tmp_path: Path) -> str:
    copy = tmp_path / "registry.sqlite"
    copy.write_bytes(sqlite_template.read_bytes())
    return f"sqlite:///{copy}"


def send(hub: Hub, token: str, target: wire.UploadTarget, content: bytes) -> list[int]:
    """Send a blob the way its target says; the statuses of the answers."""
    if target.in_parts:
        path = target.url.removeprefix("/api/v1")
        parts = ok(hub.get(path, token), wire.Parts).missing
        return [
            put(hub, token, part, content[part.start : part.start + part.size_bytes])
            for part in parts
        ]
    return [put(hub, token, target, content)]


def put(hub: Hub, token: str, target: wire.UploadTarget | wire.Part, content: bytes) -> int:
    if target.url.startswith("/"):
        path = target.url.removeprefix("/api/v1")
        return hub.call("PUT", path, token, data=content).status_code
    headers = {**target.headers, "Content-Length": str(len(content))}
    return httpx2.put(target.url, content=content, headers=headers, timeout=60).status_code


SIZES = [
    pytest.param(0, id="nothing"),
    pytest.param(1, id="one byte"),
    pytest.param(SMALL_BYTES - 1, id="almost not small"),
    pytest.param(SMALL_BYTES, id="small"),
    pytest.param(SMALL_BYTES + 1, id="no more small"),
    pytest.param(2 * PART_BYTES, id="whole"),
    pytest.param(2 * PART_BYTES + 1, id="in parts"),
]


@pytest.mark.parametrize("size_bytes", SIZES)
def test_u3_a_file_of_any_size_arrives(hub: Hub, size_bytes: int) -> None:
    token, content = hub.token("ukp"), secrets.token_bytes(size_bytes)
    files = {**make_files(), "any.txt": content}
    upload = hub.begin(token, make_manifest(files=files))
    contents = {sha256(each): each for each in files.values()}

    sent = [send(hub, token, target, contents[target.sha256]) for target in upload.missing]
    committed = hub.call("POST", f"/uploads/{upload.id}/commit", token)
    answer = hub.get(f"/blobs/{sha256(content)}")

    assert {status for each in sent for status in each} <= {200, 204}
    assert committed.status_code == 201
    if answer.status_code == 302:
        got = httpx2.get(answer.headers["Location"], timeout=60)
        assert (got.content, got.headers["Content-Length"]) == (content, str(size_bytes))
    else:
        assert (answer.data, answer.headers["Content-Length"]) == (content, str(size_bytes))


@pytest.mark.parametrize("size_bytes", [12, SMALL_BYTES + 1, 2 * PART_BYTES + 1])
def test_u1_bytes_of_another_hash_are_refused_on_every_way(hub: Hub, size_bytes: int) -> None:
    token, content = hub.token("ukp"), secrets.token_bytes(size_bytes)
    files = {**make_files(), "any.txt": content}
    upload = hub.begin(token, make_manifest(files=files))
    contents = {sha256(each): each for each in files.values()}
    contents[sha256(content)] = bytes(size_bytes)

    sent = {
        target.sha256: send(hub, token, target, contents[target.sha256])
        for target in upload.missing
    }
    refused = hub.call("POST", f"/uploads/{upload.id}/commit", token)
    again = hub.begin(token, make_manifest(files=files))

    in_parts = size_bytes > 2 * PART_BYTES
    assert all(status in {200, 204} for status in sent[sha256(content)]) is in_parts
    assert problem(refused).code == ("content_refused" if in_parts else "upload_incomplete")
    assert [target.sha256 for target in again.missing] == [sha256(content)]
    assert hub.get("/adapters").json["total"] == 0
    assert sha256(content) not in hub.runtime.store.staged(upload.id)


@pytest.mark.parametrize(
    ("count", "status"),
    [
        pytest.param(0, 422, id="no file"),
        pytest.param(1, 201, id="one"),
        pytest.param(256, 201, id="as many as allowed"),
        pytest.param(257, 422, id="one more"),
    ],
)
def test_u3_as_many_files_as_allowed(hub: Hub, count: int, status: int) -> None:
    files = {f"{number}.safetensors": b"" for number in range(count)}

    begun = hub.call(
        "POST",
        "/uploads",
        hub.token("ukp"),
        body=wire.UploadDraft(manifest=make_manifest(files=files)),
    )

    assert begun.status_code == status


@pytest.mark.parametrize(
    ("hours", "swept"),
    [pytest.param(1, 0, id="under way"), pytest.param(30, 1, id="given up")],
)
def test_u9_what_nobody_ended_is_removed_when_it_is_old(hub: Hub, hours: int, swept: int) -> None:
    hub.clock.moment = datetime.now(UTC)
    token, content = hub.token("ukp"), secrets.token_bytes(2 * PART_BYTES + 1)
    files = {"adapter.safetensors": make_files()["adapter.safetensors"], "any.txt": content}
    upload = hub.begin(token, make_manifest(files=files))
    (target,) = [each for each in upload.missing if each.in_parts]
    parts = ok(hub.get(target.url.removeprefix("/api/v1"), token), wire.Parts).missing
    assert put(hub, token, parts[0], content[:PART_BYTES]) in {200, 204}

    hub.clock.move(hours=hours)
    found = garbage.sweep(hub.runtime)

    assert found.uploads == swept
    assert len(hub.runtime.store.staged(upload.id)) == 1 - swept


@pytest.mark.parametrize("store", ["s3"], indirect=True)
def test_u7_a_presigned_address_is_for_one_key_one_method_and_some_time(
    hub: Hub, store: BlobStore
) -> None:
    token, content = hub.token("ukp"), secrets.token_bytes(SMALL_BYTES + 1)
    upload = hub.begin(token, make_manifest(files={**make_files(), "any.txt": content}))
    (target,) = [each for each in upload.missing if each.url.startswith("http")]
    other = target.url.replace(sha256(content), sha256(b"other"))
    blob = target.url.replace(f"staging/{upload.id}/", f"blobs/sha256/{sha256(content)[:2]}/")
    short = store.part_target(upload.id, sha256(content), 1, 5, timedelta(seconds=1))
    assert short is not None
    time.sleep(2.5)

    answers = [
        httpx2.put(other, content=content, headers=target.headers),
        httpx2.put(blob, content=content, headers=target.headers),
        httpx2.get(target.url),
        httpx2.delete(target.url),
        httpx2.put(short.url, content=b"12345", headers=short.headers),
    ]

    assert [answer.status_code for answer in answers] == [403] * 5
    assert store.staged(upload.id) == {}


# ---------------------------------------------------------------- a real server, and clients that are killed

PUSH = """
import os, signal, sys
from adapterhub_client import Hub
moved = 0
def progress(name, count, total):
    global moved
    moved += count
    if moved > int(sys.argv[5]):
        os.kill(os.getpid(), signal.SIGKILL)
with Hub(sys.argv[1], sys.argv[2], sys.argv[3], progress=progress) as hub:
    print(hub.push("nli/large@ukp", sys.argv[4]).number)
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    started = Server(tmp_path / "registry")
    started.home.mkdir()
    started.start()
    with started.client() as client:
        client.post("/orgs", json={"name": "ukp"}).raise_for_status()
    yield started
    started.end(signal.SIGTERM)


def pushed(server: Server, folder: Path, stop_after: int) -> subprocess.CompletedProcess[str]:
    arguments = [
        server.url,
        server.token,
        str(folder.parent / "cache"),
        str(folder),
        str(stop_after),
    ]
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PUSH, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def parts_sent(server: Server) -> int:
    lines = (server.home / "stderr.log").read_text().splitlines()
    requests = [json.loads(line) for line in lines if line.startswith("{")]
    return sum(
        each.get("method") == "PUT" and "/parts/" in each.get("path", "") and each["status"] == 204
        for each in requests
    )


def test_u2_a_push_that_was_killed_sends_only_what_is_missing(
    server: Server, tmp_path: Path
) -> None:
    parts = PARALLEL + 5  # and more bytes than pass through in one go
    folder = make_folder(tmp_path / "folder", size_bytes=(parts - 1) * PART_BYTES)

    # of all that was sent, at most what is under way is not yet acknowledged
    killed = pushed(server, folder, (PARALLEL + 1) * PART_BYTES)
    before = parts_sent(server)
    finished = pushed(server, folder, 1 << 60)

    assert killed.returncode == -signal.SIGKILL
    assert (finished.returncode, finished.stdout) == (0, "1\n"), finished.stderr
    assert 0 < before < parts
    assert parts_sent(server) == parts
    with Client(server.url, cache=tmp_path / "visitor") as hub:
        pulled = hub.pull("nli/large@ukp")
    assert (pulled / "adapter.safetensors").read_bytes() == (
        folder / "adapter.safetensors"
    ).read_bytes()


def test_u2_a_body_that_ends_before_its_length_is_not_kept(server: Server) -> None:
    content = secrets.token_bytes(SMALL_BYTES)
    files = {**make_files(), "any.txt": content}
    with server.client() as client:
        draft = {"manifest": json.loads(wire.canonical(make_manifest(files=files)))}
        begun = client.post("/uploads", json=draft).json()
        path = f"/api/v1/uploads/{begun['id']}/blobs/{sha256(content)}"
        head = (
            f"PUT {path} HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer {server.token}\r\n"
            f"Content-Length: {len(content)}\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", server.port)) as broken:
            broken.sendall(head.encode() + content[:-1])
            broken.shutdown(socket.SHUT_WR)
            broken.settimeout(30)
            answer = broken.recv(1000)
        again = client.post("/uploads", json=draft).json()

    assert not answer or answer.split()[1][:1] == b"4"
    assert sha256(content) in {target["sha256"] for target in again["missing"]}


@pytest.mark.parametrize("store", ["folder"], indirect=True)  # S3 serves its ranges itself
def test_r2_ranges_are_never_compressed(hub: Hub) -> None:
    token, files = hub.token("ukp"), {**make_files(), "any.txt": b"a" * 5000}
    hub.publish(token, make_manifest(files=files), files)

    answer = hub.get(
        f"/blobs/{sha256(files['any.txt'])}",
        headers={"Range": "bytes=10-19", "Accept-Encoding": "gzip, br, zstd"},
    )

    assert (answer.status_code, answer.data) == (206, b"a" * 10)
    assert "Content-Encoding" not in answer.headers
