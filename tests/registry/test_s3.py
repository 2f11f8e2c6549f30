"""Publish and pull where clients exchange bytes with a real S3 server."""

import os
import secrets
from collections.abc import Iterator

import httpx2
import msgspec
import numpy as np
import pytest
from safetensors.numpy import save
from tests.factories import make_files, make_manifest, sha256
from tests.registry.conftest import Clock, Hub, ok, problem

from adapterhub_client import wire
from adapterhub_registry.app import create_app
from adapterhub_registry.settings import MIB, Settings
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


def test_what_is_not_large_passes_through_and_is_hashed_on_its_way(
    settings: Settings, store: BlobStore, request: pytest.FixtureRequest
) -> None:
    by_default = msgspec.structs.replace(settings, direct_bytes=128 * MIB)
    app = create_app(by_default, store=store)
    hub = Hub(app, Clock())
    request.addfinalizer(hub.runtime.database.close)
    weights = save({"adapter.down.weight": np.ones((3, MIB), np.float32)})
    files = {**FILES, "adapter.safetensors": weights}
    token = hub.token("ukp")

    upload = hub.begin(token, make_manifest(files=files))
    path = f"/uploads/{upload.id}/blobs/{sha256(weights)}"
    refused = hub.call("PUT", path, token, data=weights[:-1] + b"!")
    kept = list(store.blobs())
    for target in upload.missing:
        content = next(each for each in files.values() if sha256(each) == target.sha256)
        where = target.url.removeprefix("/api/v1")
        assert hub.call("PUT", where, token, data=content).status_code == 204
    read = store.read
    asked: list[str] = []
    store.read = lambda each, *rest: asked.append(each) or read(each, *rest)  # type: ignore[method-assign]
    committed = hub.call("POST", f"/uploads/{upload.id}/commit", token)
    store.read = read  # type: ignore[method-assign]

    assert (problem(refused).code, kept) == ("content_refused", [])
    assert committed.status_code == 201
    assert asked == []  # what is in the weights was seen while they came
    assert b"".join(store.read(sha256(weights))) == weights


def test_weights_with_faults_are_refused_though_nothing_is_read_again(hub: Hub) -> None:
    weights = save({"adapter.down.weight": np.full((2, 64), np.nan, np.float32)})
    files = {**FILES, "adapter.safetensors": weights}
    token = hub.token("ukp")
    upload = hub.begin(token, make_manifest(files=files))
    for content in files.values():
        hub.call("PUT", f"/uploads/{upload.id}/blobs/{sha256(content)}", token, data=content)

    refused = [problem(hub.call("POST", f"/uploads/{upload.id}/commit", token)) for _ in range(2)]

    fault = "adapter.safetensors: the tensor 'adapter.down.weight' has values that are not finite"
    assert [each.reasons for each in refused] == [[fault]] * 2


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
    token, manifest = hub.token("ukp"), make_manifest(files={**FILES, "middling.txt": MIDDLING})
    upload = hub.begin(token, manifest)
    for content in FILES.values():
        hub.call("PUT", f"/uploads/{upload.id}/blobs/{sha256(content)}", token, data=content)
    store._client.put_object(  # noqa: SLF001  # as a store would that checks nothing
        Bucket=store.bucket,
        Key=store._staged_key(upload.id, sha256(MIDDLING)),  # noqa: SLF001
        Body=bytes(len(MIDDLING)),
    )

    refused = problem(hub.call("POST", f"/uploads/{upload.id}/commit", token))

    assert refused.code == "content_refused"
    assert [reason.partition(":")[0] for reason in refused.reasons] == [sha256(MIDDLING)]
    assert hub.get("/adapters").json["total"] == 0
    missing = hub.begin(token, manifest).missing
    assert [target.sha256 for target in missing] == [sha256(MIDDLING)]
