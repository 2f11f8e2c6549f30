"""Blobs first, manifest last: what a publish promises."""

from concurrent.futures import ThreadPoolExecutor

import msgspec

from adapterhub_client import wire
from tests.factories import make_files, make_manifest, make_weights, sha256
from tests.registry.conftest import Hub, ok, problem


def test_what_is_published_comes_back(hub: Hub) -> None:
    token, files = hub.token("ukp"), make_files()

    version = hub.publish(token, make_manifest(files=files), files)

    assert (version.reference, version.number) == ("nli/multinli@ukp", 1)
    assert version.digest == wire.digest(make_manifest(files=files))
    assert hub.get(f"/blobs/{sha256(files['README.md'])}").data == files["README.md"]
