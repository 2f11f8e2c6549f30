"""Bytes out: ranges, caching, visibility and counting."""

import pytest
from tests.factories import make_files, make_manifest, sha256
from tests.registry.conftest import Hub, ok, problem

from adapterhub_client import wire
from adapterhub_registry.models import DownloadDay

FILES = make_files()
WEIGHTS = FILES["adapter.safetensors"]
README = FILES["README.md"]


@pytest.fixture
def version(hub: Hub) -> wire.Version:
    return hub.publish(hub.token("ukp"), make_manifest(files=FILES), FILES)


@pytest.fixture
def address(version: wire.Version) -> str:
    return f"/blobs/{sha256(README)}"


def test_a_blob_comes_with_what_caches_need(hub: Hub, address: str) -> None:
    answer = hub.get(address)

    assert (answer.status_code, answer.data) == (200, README)
    assert answer.headers["ETag"] == f'"{sha256(README)}"'
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["Content-Length"] == str(len(README))
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Cache-Control"] == "private, max-age=31536000, immutable"


def test_head_says_the_same_without_the_bytes(hub: Hub, address: str) -> None:
    got, head = hub.get(address), hub.call("HEAD", address)

    ours, theirs = dict(head.headers), dict(got.headers)
    assert ours.pop("X-Request-Id") != theirs.pop("X-Request-Id")
    assert ours.pop("RateLimit") != theirs.pop("RateLimit")
    assert (head.data, ours) == (b"", theirs)


def test_what_is_cached_is_not_sent_again(hub: Hub, address: str) -> None:
    answer = hub.get(address, headers={"If-None-Match": f'"{sha256(README)}"'})

    assert (answer.status_code, answer.data) == (304, b"")
    assert answer.headers["ETag"] == f'"{sha256(README)}"'


@pytest.mark.parametrize(
    ("asked", "status", "expected", "content_range"),
    [
        pytest.param("bytes=0-1", 206, README[:2], "bytes 0-1/12", id="the start"),
        pytest.param("bytes=2-", 206, README[2:], "bytes 2-11/12", id="from the middle on"),
        pytest.param("bytes=-3", 206, README[-3:], "bytes 9-11/12", id="the end"),
        pytest.param("bytes=-99", 206, README, "bytes 0-11/12", id="a longer end"),
        pytest.param("bytes=5-99", 206, README[5:], "bytes 5-11/12", id="past the end"),
        pytest.param("bytes=11-11", 206, README[11:], "bytes 11-11/12", id="the last byte"),
        pytest.param("bytes=3-2", 200, README, None, id="reversed"),
        pytest.param("bytes=0-1,3-4", 200, README, None, id="several"),
        pytest.param("lines=0-1", 200, README, None, id="another unit"),
        pytest.param("bytes=-", 200, README, None, id="nothing"),
        pytest.param("bytes=1-1" + "9" * 30, 200, README, None, id="beyond all numbers"),
    ],
)
def test_one_range_at_a_time(
    hub: Hub, address: str, asked: str, status: int, expected: bytes, content_range: str | None
) -> None:
    answer = hub.get(address, headers={"Range": asked})

    assert (answer.status_code, answer.data) == (status, expected)
    assert answer.headers.get("Content-Range") == content_range
    assert answer.headers["Content-Length"] == str(len(expected))


@pytest.mark.parametrize("asked", ["bytes=12-", "bytes=99-100", "bytes=-0"])
def test_a_range_outside_is_refused(hub: Hub, address: str, asked: str) -> None:
    answer = hub.get(address, headers={"Range": asked})

    assert problem(answer).code == "range_not_satisfiable"
    assert answer.headers["Content-Range"] == "bytes */12"


@pytest.mark.parametrize(
    ("etag", "status"),
    [
        pytest.param(f'"{sha256(README)}"', 206, id="still the same"),
        pytest.param('"other"', 200, id="changed"),
    ],
)
def test_a_download_resumes_only_the_same_bytes(
    hub: Hub, address: str, etag: str, status: int
) -> None:
    answer = hub.get(address, headers={"Range": "bytes=2-", "If-Range": etag})

    assert answer.status_code == status


def test_an_unknown_blob_is_missing(hub: Hub) -> None:
    assert problem(hub.get(f"/blobs/{'0' * 64}")).code == "blob_not_found"
    assert problem(hub.get("/blobs/x")).code == "blob_not_found"


def test_private_bytes_are_for_members(hub: Hub) -> None:
    token = hub.token("ukp")
    hub.publish(token, make_manifest(files=FILES), FILES, private=True)
    address = f"/blobs/{sha256(README)}"

    assert problem(hub.get(address)).code == "blob_not_found"
    assert problem(hub.get(address, hub.token("stranger"))).code == "blob_not_found"
    assert hub.get(address, token).data == README


def test_a_blob_that_a_public_version_has_too_is_public(hub: Hub) -> None:
    token = hub.token("ukp")
    hub.publish(token, make_manifest(files=FILES), FILES, private=True)
    hub.publish(token, make_manifest("nli/public@ukp", FILES), FILES)

    assert hub.get(f"/blobs/{sha256(README)}").data == README


def test_lost_bytes_are_no_success(hub: Hub, address: str) -> None:
    hub.runtime.store.remove(sha256(README))

    answer = hub.get(address)

    assert (answer.status_code, problem(answer).code) == (503, "store_failed")
    assert answer.headers["Retry-After"] == "5"


def test_a_pull_counts_once_for_its_day(hub: Hub, version: wire.Version) -> None:
    for content in FILES.values():
        hub.get(f"/blobs/{sha256(content)}?version={version.digest}")
    hub.clock.move(days=1)
    hub.get(f"/blobs/{sha256(WEIGHTS)}?version={version.digest}")

    with hub.runtime.database.reading() as session:
        days = [(str(row.day), row.count) for row in session.query(DownloadDay)]
    assert sorted(days) == [("2026-11-20", 1), ("2026-11-21", 1)]
    assert ok(hub.get("/adapters"), wire.AdapterPage).items[0].downloads == 2


def test_addresses_of_all_files_count_the_pull(hub: Hub, version: wire.Version) -> None:
    looked = ok(hub.get(f"/manifests/{version.digest}/links"), wire.Links)
    pulled = ok(hub.get(f"/manifests/{version.digest}/links?count=1"), wire.Links)

    assert (looked, pulled) == (wire.Links(urls={}), wire.Links(urls={}, counted=True))
    assert ok(hub.get("/adapters"), wire.AdapterPage).items[0].downloads == 1
    assert problem(hub.get(f"/manifests/sha256:{'0' * 64}/links")).code == "manifest_not_found"


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Range": "bytes=5-"}, id="the rest of a download"),
        pytest.param({"If-None-Match": f'"{sha256(WEIGHTS)}"'}, id="what is cached"),
    ],
)
def test_only_the_start_of_a_download_counts(
    hub: Hub, version: wire.Version, headers: dict[str, str]
) -> None:
    hub.get(f"/blobs/{sha256(WEIGHTS)}?version={version.digest}", headers=headers)
    hub.call("HEAD", f"/blobs/{sha256(WEIGHTS)}?version={version.digest}")
    hub.get(f"/blobs/{sha256(WEIGHTS)}?version=sha256:{'0' * 64}")

    assert ok(hub.get("/adapters"), wire.AdapterPage).items[0].downloads == 0


def test_a_manifest_is_cached_for_ever(hub: Hub, version: wire.Version) -> None:
    answer = hub.get(f"/manifests/{version.digest}")
    again = hub.get(
        f"/manifests/{version.digest}", headers={"If-None-Match": answer.headers["ETag"]}
    )

    assert answer.headers["ETag"] == f'"{version.digest}"'
    assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert again.status_code == 304
