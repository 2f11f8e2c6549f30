"""What every blob store must hold, whatever keeps the bytes."""

import hashlib
import os
import secrets
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest

from adapterhub_registry.storage import (
    BlobCorrupt,
    BlobMissing,
    BlobStore,
    FolderStore,
    MemoryStore,
    StoreUnreachable,
    open_store,
)
from adapterhub_registry.storage.store import CHUNK_BYTES, MIB, PART_BYTES, part_sizes

CONTENT = b"weights"
MANY = secrets.token_bytes(3 * MIB + 5)
ABSENT = hashlib.sha256(b"never put").hexdigest()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def open_s3() -> BlobStore:
    if "AWS_ENDPOINT_URL_S3" not in os.environ:
        pytest.skip("no S3: AWS_ENDPOINT_URL_S3 names none")
    bucket = os.environ.get("S3_BUCKET", "adapterhub")
    return open_store(f"s3://{bucket}/tests/{secrets.token_hex(8)}")


@pytest.fixture(params=["memory", "folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BlobStore]:
    """Every kind of store; the tests below must hold for each, and each must leave nothing behind."""
    if request.param == "memory":
        yield MemoryStore()
    elif request.param == "folder":
        yield FolderStore(tmp_path / "blobs")
    else:
        opened = open_s3()
        yield opened
        for stored in opened.blobs():
            opened.remove(stored.sha256)
        for upload in opened.stale_uploads(datetime.now(UTC) + timedelta(days=1)):
            opened.discard(upload)


@pytest.fixture
def s3() -> Iterator[BlobStore]:
    opened = open_s3()
    yield opened
    for stored in opened.blobs():
        opened.remove(stored.sha256)
    opened.discard("u1")


def put(store: BlobStore, content: bytes, upload: str = "u1") -> str:
    digest = sha256(content)
    store.stage(upload, digest, iter([content]), len(content))
    store.promote(upload, digest, len(content))
    return digest


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(CONTENT, id="a few bytes"),
        pytest.param(bytes(range(256)) * 4096 * 3, id="three chunks"),
    ],
)
def test_what_is_put_comes_back(store: BlobStore, content: bytes) -> None:
    digest = put(store, content)

    assert b"".join(store.read(digest)) == content
    assert store.size_bytes(digest) == len(content)


@pytest.mark.parametrize(
    ("start", "length", "expected"),
    [
        pytest.param(0, 1, b"w", id="first byte"),
        pytest.param(2, 3, b"igh", id="middle"),
        pytest.param(5, None, b"ts", id="to the end"),
        pytest.param(5, 100, b"ts", id="past the end"),
        pytest.param(3, 0, b"", id="nothing"),
    ],
)
def test_a_part_can_be_read(
    store: BlobStore, start: int, length: int | None, expected: bytes
) -> None:
    digest = put(store, CONTENT)

    assert b"".join(store.read(digest, start, length)) == expected


def test_an_absent_blob_is_missing(store: BlobStore) -> None:
    with pytest.raises(BlobMissing):
        store.read(ABSENT)
    with pytest.raises(BlobMissing):
        store.size_bytes(ABSENT)


def test_staged_bytes_are_no_blob(store: BlobStore) -> None:
    store.stage("u1", sha256(CONTENT), [CONTENT], len(CONTENT))

    assert store.staged_bytes("u1", sha256(CONTENT)) == len(CONTENT)
    assert b"".join(store.read_staged("u1", sha256(CONTENT))) == CONTENT
    with pytest.raises(BlobMissing):
        store.size_bytes(sha256(CONTENT))


def test_an_upload_does_not_see_what_another_has_staged(store: BlobStore) -> None:
    store.stage("u1", sha256(CONTENT), [CONTENT], len(CONTENT))

    assert store.staged_bytes("u2", sha256(CONTENT)) is None
    with pytest.raises(BlobMissing):
        store.promote("u2", sha256(CONTENT), len(CONTENT))
    with pytest.raises(BlobMissing):
        b"".join(store.read_staged("u2", sha256(CONTENT)))


@pytest.mark.parametrize(
    ("sent", "size_bytes"),
    [
        pytest.param(b"weightz", 7, id="other bytes"),
        pytest.param(b"weight", 7, id="too few"),
        pytest.param(b"weights and more", 7, id="too many"),
        pytest.param(b"weights", 8, id="another size than declared"),
    ],
)
def test_wrong_bytes_are_refused_and_not_kept(
    store: BlobStore, sent: bytes, size_bytes: int
) -> None:
    with pytest.raises(BlobCorrupt):
        store.stage("u1", sha256(CONTENT), [sent], size_bytes)

    assert store.staged_bytes("u1", sha256(CONTENT)) is None


def test_a_sender_that_breaks_off_leaves_nothing(store: BlobStore) -> None:
    def breaking() -> Iterator[bytes]:
        yield CONTENT[:3]
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        store.stage("u1", sha256(CONTENT), breaking(), len(CONTENT))

    assert store.staged_bytes("u1", sha256(CONTENT)) is None


def test_promoting_twice_is_as_once(store: BlobStore) -> None:
    digest = put(store, CONTENT)

    store.promote("u1", digest, len(CONTENT))

    assert b"".join(store.read(digest)) == CONTENT
    assert [stored.sha256 for stored in store.blobs()] == [digest]


def test_two_uploads_may_bring_the_same_blob(store: BlobStore) -> None:
    put(store, CONTENT, "u1")
    digest = put(store, CONTENT, "u2")

    store.discard("u1")

    assert b"".join(store.read(digest)) == CONTENT
    assert store.staged_bytes("u2", digest) == len(CONTENT)


def test_a_promoted_blob_outlives_its_upload(store: BlobStore) -> None:
    digest = put(store, CONTENT)

    store.discard("u1")

    assert b"".join(store.read(digest)) == CONTENT
    assert store.staged_bytes("u1", digest) is None


def test_promotion_believes_only_its_own_hash(store: BlobStore) -> None:
    digest = sha256(CONTENT)
    store.stage("u1", digest, [CONTENT], len(CONTENT))

    with pytest.raises(BlobCorrupt):
        store.promote("u1", digest, len(CONTENT) + 1)

    with pytest.raises(BlobMissing):
        store.size_bytes(digest)
    assert store.staged_bytes("u1", digest) is None


def test_a_removed_blob_is_missing(store: BlobStore) -> None:
    digest = put(store, CONTENT)

    store.remove(digest)
    store.remove(digest)

    with pytest.raises(BlobMissing):
        store.size_bytes(digest)


def test_discarding_what_is_not_there_is_no_fault(store: BlobStore) -> None:
    store.discard("u9")

    assert list(store.blobs()) == []


def test_blobs_are_listed_with_size_and_age(store: BlobStore) -> None:
    digests = {put(store, content) for content in (b"one", b"three")}
    listed = {stored.sha256: stored for stored in store.blobs()}

    assert set(listed) == digests
    assert listed[sha256(b"three")].size_bytes == 5
    assert abs(listed[sha256(b"one")].modified_at - datetime.now(UTC)) < timedelta(minutes=1)


def test_only_old_uploads_are_stale(store: BlobStore) -> None:
    store.stage("u1", sha256(CONTENT), [CONTENT], len(CONTENT))

    assert list(store.stale_uploads(datetime.now(UTC) - timedelta(hours=1))) == []
    assert list(store.stale_uploads(datetime.now(UTC) + timedelta(hours=1))) == ["u1"]


def test_many_writers_of_one_blob_never_show_a_part_of_it(store: BlobStore) -> None:
    content = secrets.token_bytes(2 * CHUNK_BYTES)
    digest = sha256(content)
    seen: list[bytes] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            try:
                seen.append(b"".join(store.read(digest)))
            except BlobMissing:
                continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: put(store, content, f"u{number}"), range(4)))
    stop.set()
    watcher.join()

    assert set(seen) <= {content}
    assert b"".join(store.read(digest)) == content


LARGE = secrets.token_bytes(5 * MIB) * 2 + b"end"
"""two parts as small as S3 takes them, and a rest"""


def stage_parts(store: BlobStore, content: bytes = LARGE, upload: str = "u1") -> str:
    digest = sha256(LARGE)
    for number, start in enumerate(range(0, len(content), 5 * MIB), 1):
        part = content[start : start + 5 * MIB]
        store.stage_part(upload, digest, number, [part], len(part))
    return digest


@pytest.mark.parametrize(
    ("size_bytes", "count", "last"),
    [
        pytest.param(0, 0, None, id="nothing"),
        pytest.param(2 * PART_BYTES, 0, None, id="whole"),
        pytest.param(2 * PART_BYTES + 1, 3, 1, id="one byte more"),
        pytest.param(64 * MIB, 4, PART_BYTES, id="even"),
        pytest.param(100 * 1024**3, 1600, 4 * PART_BYTES, id="huge"),
    ],
)
def test_parts_follow_from_the_size(size_bytes: int, count: int, last: int | None) -> None:
    sizes = part_sizes(size_bytes)

    assert (len(sizes), sizes[-1] if sizes else None) == (count, last)
    assert sum(sizes) == (size_bytes if sizes else 0)
    assert all(size <= 64 * MIB for size in sizes)


def test_parts_become_one_blob(store: BlobStore) -> None:
    digest = stage_parts(store)
    seen: list[bytes] = []

    store.promote("u1", digest, len(LARGE), seen.append)

    assert b"".join(store.read(digest)) == LARGE == b"".join(seen)
    assert b"".join(store.read(digest, len(LARGE) - 5)) == LARGE[-5:]


def test_parts_may_come_in_any_order_and_twice(store: BlobStore) -> None:
    digest, step = sha256(LARGE), 5 * MIB
    for number, content in [(3, b"end"), (1, bytes(step)), (2, LARGE[:step]), (1, LARGE[:step])]:
        store.stage_part("u1", digest, number, [content], len(content))

    store.promote("u1", digest, len(LARGE))

    assert b"".join(store.read(digest)) == LARGE


def test_it_is_known_which_parts_are_there(store: BlobStore) -> None:
    digest = stage_parts(store)
    store.stage("u1", sha256(CONTENT), [CONTENT], len(CONTENT))

    assert store.staged_parts("u1", digest) == {1: 5 * MIB, 2: 5 * MIB, 3: 3}
    assert store.staged_parts("u2", digest) == {}
    assert store.staged("u1") == {digest: len(LARGE), sha256(CONTENT): len(CONTENT)}
    assert store.staged("u2") == {}
    assert store.staged_bytes("u1", digest) == len(LARGE)
    assert b"".join(store.read_staged("u1", digest)) == LARGE


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(LARGE[: 10 * MIB], id="the last part is missing"),
        pytest.param(LARGE + b"!", id="a byte too many"),
        pytest.param(bytes(len(LARGE)), id="other bytes"),
    ],
)
def test_parts_that_make_another_blob_are_refused_and_removed(
    store: BlobStore, sent: bytes
) -> None:
    digest = stage_parts(store, sent)

    with pytest.raises(BlobCorrupt):
        store.promote("u1", digest, len(LARGE))

    with pytest.raises(BlobMissing):
        store.size_bytes(digest)
    assert store.staged("u1") == {}
    assert store.sweep(datetime.now(UTC) + timedelta(hours=1)) == 0


@pytest.mark.parametrize("sent", [b"weight", b"weights!"])
def test_a_part_of_another_size_is_not_kept(store: BlobStore, sent: bytes) -> None:
    with pytest.raises(BlobCorrupt, match="a part has"):
        store.stage_part("u1", sha256(LARGE), 1, [sent], len(CONTENT))

    assert store.staged_parts("u1", sha256(LARGE)) == {}


def test_parts_that_are_missing_are_missing(store: BlobStore) -> None:
    with pytest.raises(BlobMissing):
        store.promote("u1", sha256(LARGE), len(LARGE))


def test_discarding_takes_parts_too(store: BlobStore) -> None:
    digest = stage_parts(store)
    store.promote("u1", digest, len(LARGE))

    store.discard("u1")

    assert store.staged("u1") == {}
    assert store.size_bytes(digest) == len(LARGE)


def test_parts_that_nobody_ended_are_stale(store: BlobStore) -> None:
    stage_parts(store)

    assert list(store.stale_uploads(datetime.now(UTC) - timedelta(hours=1))) == []
    assert list(store.stale_uploads(datetime.now(UTC) + timedelta(hours=1))) == ["u1"]


def test_two_may_promote_the_same_parts_at_once(store: BlobStore) -> None:
    digest = stage_parts(store)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: store.promote("u1", digest, len(LARGE)), range(3)))

    assert b"".join(store.read(digest)) == LARGE


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(CONTENT, id="a few bytes"),
        pytest.param(MANY, id="more than is kept in memory"),
    ],
)
def test_what_passes_through_is_a_blob_at_once(store: BlobStore, content: bytes) -> None:
    pieces = [content[at : at + CHUNK_BYTES] for at in range(0, len(content), CHUNK_BYTES)]

    store.put(sha256(content), pieces, len(content))
    store.put(sha256(content), iter(pieces), len(content))

    assert b"".join(store.read(sha256(content))) == content
    assert store.staged("u1") == {}


@pytest.mark.parametrize(
    ("sent", "fault"),
    [
        pytest.param(MANY[:-1] + b"!", "they hash to", id="another last byte"),
        pytest.param(b"!" + MANY[1:], "they hash to", id="another first byte"),
        pytest.param(MANY[:-1], f"there are {len(MANY) - 1} bytes", id="a byte too few"),
        pytest.param(MANY + b"!", f"more than {len(MANY)}", id="a byte too many"),
        pytest.param(b"", "there are 0 bytes", id="nothing"),
    ],
)
def test_of_many_bytes_that_are_wrong_nothing_is_kept(
    store: BlobStore, sent: bytes, fault: str
) -> None:
    pieces = [sent[at : at + CHUNK_BYTES] for at in range(0, len(sent), CHUNK_BYTES)]

    with pytest.raises(BlobCorrupt, match=fault):
        store.put(sha256(MANY), pieces, len(MANY))
    kept = list(store.blobs())
    store.put(sha256(MANY), [MANY], len(MANY))

    assert kept == []
    assert store.size_bytes(sha256(MANY)) == len(MANY)


def test_a_sender_that_breaks_off_is_the_senders_fault(store: BlobStore) -> None:
    def broken() -> Iterator[bytes]:
        yield MANY[: 2 * CHUNK_BYTES]
        raise ConnectionResetError("the sender is gone")

    with pytest.raises(ConnectionResetError, match="the sender is gone"):
        store.put(sha256(MANY), broken(), len(MANY))

    assert list(store.blobs()) == []


@pytest.mark.parametrize(("sent", "size_bytes"), [(b"weightz", 7), (b"weights", 6), (b"w", 7)])
def test_what_passes_through_is_hashed(store: BlobStore, sent: bytes, size_bytes: int) -> None:
    with pytest.raises(BlobCorrupt):
        store.put(sha256(CONTENT), [sent], size_bytes)

    assert list(store.blobs()) == []


def test_s3_takes_parts_at_presigned_addresses(s3: BlobStore) -> None:
    digest, step = sha256(LARGE), 5 * MIB
    for number, start in enumerate(range(0, len(LARGE), step), 1):
        part = LARGE[start : start + step]
        target = s3.part_target("u1", digest, number, len(part), timedelta(minutes=5))
        assert target is not None
        assert httpx2.put(target.url, content=part, headers=target.headers).status_code == 200
    longer = httpx2.put(target.url, content=b"end!", headers={"Content-Length": "4"})

    s3.promote("u1", digest, len(LARGE))

    assert longer.status_code == 403
    assert b"".join(s3.read(digest)) == LARGE


def test_s3_forgets_what_was_never_put_together(s3: BlobStore) -> None:
    s3._call("create_multipart_upload", ABSENT, Key=s3._key(ABSENT))  # noqa: SLF001  # as one that was killed

    assert s3.sweep(datetime.now(UTC) - timedelta(hours=1)) == 0
    assert s3.sweep(datetime.now(UTC) + timedelta(hours=1)) == 1
    assert s3.sweep(datetime.now(UTC) + timedelta(hours=1)) == 0


def test_the_folder_forgets_half_files(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    half = tmp_path / "blobs" / "sha256" / "aa" / f".{ABSENT}.cafe.part"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"half")

    assert store.sweep(datetime.now(UTC) - timedelta(hours=1)) == 0
    assert half.exists()
    assert store.sweep(datetime.now(UTC) + timedelta(hours=1)) == 1
    assert not half.exists()


def test_the_folder_holds_no_half_files_after_a_refusal(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)

    with pytest.raises(BlobCorrupt):
        store.stage("u1", ABSENT, [CONTENT], len(CONTENT))

    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_folder_notices_staged_bytes_that_were_changed(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    digest = sha256(CONTENT)
    store.stage("u1", digest, [CONTENT], len(CONTENT))
    (tmp_path / "staging" / "u1" / digest).write_bytes(b"weightz")

    with pytest.raises(BlobCorrupt):
        store.promote("u1", digest, len(CONTENT))

    assert list(store.blobs()) == []


def test_s3_takes_the_right_bytes_at_its_presigned_address(s3: BlobStore) -> None:
    target = s3.upload_target("u1", sha256(CONTENT), len(CONTENT), timedelta(minutes=5))
    assert target is not None

    answer = httpx2.put(target.url, content=CONTENT, headers=target.headers)
    s3.promote("u1", sha256(CONTENT), len(CONTENT))

    assert answer.status_code == 200
    assert b"".join(s3.read(sha256(CONTENT))) == CONTENT


@pytest.mark.parametrize(
    ("sent", "headers"),
    [
        pytest.param(b"weightz", {}, id="other bytes"),
        pytest.param(b"weights!", {"Content-Length": "8"}, id="another size"),
        pytest.param(b"weightz", {"x-amz-checksum-sha256": "A" * 43 + "="}, id="another checksum"),
    ],
)
def test_s3_refuses_other_bytes_at_its_presigned_address(
    s3: BlobStore, sent: bytes, headers: dict[str, str]
) -> None:
    target = s3.upload_target("u1", sha256(CONTENT), len(CONTENT), timedelta(minutes=5))
    assert target is not None

    answer = httpx2.put(target.url, content=sent, headers={**target.headers, **headers})

    assert 400 <= answer.status_code < 500
    assert s3.staged_bytes("u1", sha256(CONTENT)) is None


def test_s3_sends_a_part_at_its_presigned_address(s3: BlobStore) -> None:
    url = s3.download_url(put(s3, CONTENT), timedelta(minutes=5))
    assert url is not None

    answer = httpx2.get(url, headers={"Range": "bytes=2-4"})

    assert (answer.status_code, answer.content) == (206, b"igh")


def test_s3_that_does_not_answer_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "none")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "none")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    store = open_store("s3://nowhere")

    with pytest.raises(StoreUnreachable):
        store.size_bytes(ABSENT)


@pytest.mark.parametrize("address", ["", "folder:", "ftp://there", "s3:bucket"])
def test_an_address_of_no_store_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="is not"):
        open_store(address)
