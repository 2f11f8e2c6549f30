"""A hostile hub: its manifests decide where files are written, so they are checked before anything is."""

import msgspec
import pytest

from adapterhub_client import admission, wire
from adapterhub_client.errors import Corrupt


def canonical(**changes):
    file = {"path": "adapter.safetensors", "sha256": "a" * 64, "size_bytes": 4} | changes.pop(
        "file", {}
    )
    name = {"task": "nli", "name": "cb", "org": "me"} | changes.pop("reference", {})
    return wire.canonical(
        wire.Manifest(
            reference=wire.Name(**name),
            base=wire.Base(name="bert", architecture="bert"),
            method=wire.Method(name="seq_bn", config_id="9076f36a74755ac4"),
            files=[wire.File(**file)],
        )
    )


def test_an_honest_manifest_is_admitted():
    assert admission.manifest(canonical()).files[0].path == "adapter.safetensors"


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(
            {"file": {"sha256": "/home/someone/.ssh/authorized_keys"}}, id="digest that is a path"
        ),
        pytest.param({"file": {"sha256": "../" * 20 + "x"}}, id="digest that climbs"),
        pytest.param({"file": {"sha256": "A" * 64}}, id="digest in capitals"),
        pytest.param({"file": {"size_bytes": -1}}, id="negative size"),
        pytest.param({"file": {"path": "../../x"}}, id="path that climbs"),
        pytest.param({"file": {"path": "/etc/passwd"}}, id="absolute path"),
        pytest.param({"file": {"path": "manifest.json"}}, id="the manifest itself"),
        pytest.param({"file": {"path": "Manifest.JSON"}}, id="the manifest on other file systems"),
        pytest.param({"reference": {"org": "/home/someone"}}, id="org that is a path"),
        pytest.param({"reference": {"name": "../.."}}, id="name that climbs"),
    ],
)
def test_a_manifest_that_points_elsewhere_is_refused(changes):
    with pytest.raises(Corrupt):
        admission.manifest(canonical(**changes))


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b"\xff", msgspec.json.encode({"files": 3})], ids=repr
)
def test_what_is_no_manifest_is_refused(content):
    with pytest.raises(Corrupt, match="damaged"):
        admission.manifest(content)
