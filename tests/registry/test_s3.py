"""Publish and pull where clients exchange bytes with a real S3 server."""

import os
import secrets
from collections.abc import Iterator

import httpx2
import pytest
from tests.factories import make_files, make_manifest, sha256
from tests.registry.conftest import Hub, ok, problem

from adapterhub_client import wire
from adapterhub_registry.storage import BlobStore, open_store

FILES = make_files()


@pytest.fixture
def store() -> Iterator[BlobStore]:
    if "AWS_ENDPOINT_URL_S3" not in os.environ:
        pytest.skip("no S3: AWS_ENDPOINT_URL_S3 names none")
    bucket = os.environ.get("S3_BUCKET", "adapterhub")
    opened = open_store(f"s3://{bucket}/tests/{secrets.token_hex(8)}")
    yield opened
    for stored in opened.blobs():
        opened.remove(stored.sha256)


LARGE = secrets.token_bytes(1024 * 1024) * 33
MIDDLING = secrets.token_bytes(2 * 1024 * 1024)


def test_bytes_go_to_the_store_and_come_from_it(hub: Hub, store: BlobStore) -> None:
    token, files = hub.token("ukp"), {**FILES, "middling.txt": MIDDLING}
    contents = {sha256(content): content for content in files.values()}

    upload = hub.begin(token, make_manifest(files=files))
    for target in upload.missing:
        content = contents[target.sha256]
        if target.url.startswith("/"):
            path = target.url.removeprefix("/api/v1")
            assert hub.call("PUT", path, token, data=content).status_code == 204
        else:
            put = httpx2.put(target.url, content=content, headers=target.headers)
            assert put.status_code == 200
    version = ok(hub.call("POST", f"/uploads/{upload.id}/commit", token), wire.Version)
    sent = hub.get(f"/blobs/{sha256(FILES['README.md'])}?version={version.digest}")
    links = ok(hub.get(f"/manifests/{version.digest}/links?count=1"), wire.Links).urls

    presigned = {target.sha256 for target in upload.missing if target.url.startswith("http")}
    assert presigned == {sha256(MIDDLING)}
    assert sent.status_code == 302
    assert httpx2.get(sent.headers["Location"]).content == FILES["README.md"]
    assert sent.headers["Cache-Control"] == "no-store"
    assert {sha256: httpx2.get(url).content for sha256, url in links.items()} == contents
    assert store.staged(upload.id) == {}


def test_parts_go_to_the_store(hub: Hub, store: BlobStore) -> None:
    token, files = hub.token("ukp"), {**FILES, "large.txt": LARGE}
    hub.publish(token, make_manifest(files=FILES), FILES)
    upload = hub.begin(token, make_manifest(files=files))
    (target,) = upload.missing
    parts = ok(hub.get(target.url.removeprefix("/api/v1"), token), wire.Parts)

    for part in parts.missing:
        content = LARGE[part.start : part.start + part.size_bytes]
        assert httpx2.put(part.url, content=content, headers=part.headers).status_code == 200
    committed = hub.call("POST", f"/uploads/{upload.id}/commit", token)
    again = httpx2.put(part.url, content=content, headers=part.headers)

    assert all(part.url.startswith("http") for part in parts.missing)
    assert committed.status_code == 201
    assert b"".join(store.read(sha256(LARGE))) == LARGE
    # what is put at an old address is garbage of an upload that has ended, and nobody's blob
    assert (again.status_code, store.size_bytes(sha256(LARGE))) == (200, len(LARGE))
    store.discard(upload.id)


def test_the_registry_takes_bytes_for_the_store_too(hub: Hub) -> None:
    token, manifest = hub.token("ukp"), make_manifest(files=FILES)
    upload = hub.begin(token, manifest)
    for content in FILES.values():
        path = f"/uploads/{upload.id}/blobs/{sha256(content)}"
        assert hub.call("PUT", path, token, data=content).status_code == 204

    assert hub.begin(token, manifest).missing == []
    assert hub.call("POST", f"/uploads/{upload.id}/commit", token).status_code == 201


def test_a_commit_hashes_what_the_store_was_given(hub: Hub, store: BlobStore) -> None:
    """A store that believes a wrong checksum does not make the registry believe it."""
    token, manifest = hub.token("ukp"), make_manifest(files=FILES)
    upload = hub.begin(token, manifest)
    for content in FILES.values():
        forged = bytes(len(content))
        store._client.put_object(  # noqa: SLF001  # as a store would that checks nothing
            Bucket=store.bucket,
            Key=store._staged_key(upload.id, sha256(content)),  # noqa: SLF001
            Body=forged,
        )

    refused = problem(hub.call("POST", f"/uploads/{upload.id}/commit", token))

    assert refused.code == "content_refused"
    assert len(refused.reasons) == 3
    assert hub.get("/adapters").json["total"] == 0
    assert len(hub.begin(token, manifest).missing) == 3
