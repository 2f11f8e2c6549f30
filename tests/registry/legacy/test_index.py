"""Clients of old find and load what is here by the files of the reference hub."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save
from tests.factories import make_manifest
from tests.registry.conftest import Hub, problem
from tests.registry.importing.conftest import reference, snapshot, web  # noqa: F401 - fixtures
from tests.registry.importing.reference import HOULSBY, PFEIFFER, Reference, adapter_zip, tensors
from tests.registry.legacy.reader import NotFound, OldClient

from adapterhub_client import wire
from adapterhub_registry.importing import importer

ENTRY = "ukp/bert-base-uncased_nli_multinli_pfeiffer"
MODEL = "bert-base-uncased"


def take(hub: Hub, folder: Path, **options: bool) -> None:
    importer.run(hub.runtime, folder, lambda _: None, **options)


def test_a_mirrored_version_is_loaded_bit_for_bit(hub: Hub, reference: Reference) -> None:  # noqa: F811
    reference.add(ENTRY, {"nd": adapter_zip(1), "wd": adapter_zip(2)})
    take(hub, reference.folder)
    client = OldClient(hub.client.get)

    for version, seed in ((None, 1), ("nd", 1), ("wd", 2)):
        loaded = client.load(client.find("nli/multinli@ukp", MODEL, version=version))
        weights = loaded["pytorch_adapter.bin"]
        assert list(weights) == sorted(tensors("a"))
        assert all(torch.equal(weights[name], value) for name, value in tensors("a", seed).items())
        assert torch.equal(
            loaded["pytorch_model_head.bin"]["heads.a.1.weight"], torch.ones(2, 8) * (seed + 1)
        )
        assert loaded["adapter_config.json"]["config"] == PFEIFFER


def test_the_same_zip_is_made_every_time(hub: Hub, reference: Reference) -> None:  # noqa: F811
    reference.add(ENTRY, {"1": adapter_zip()})
    take(hub, reference.folder)
    address = OldClient(hub.client.get).find("nli/multinli@ukp", MODEL)["url"]
    path = address.removeprefix("http://localhost")

    first, second = hub.client.get(path), hub.client.get(path)
    head = hub.client.head(path)
    unchanged = hub.client.get(path, headers={"If-None-Match": first.headers["ETag"]})
    part = hub.client.get(path, headers={"Range": "bytes=2-5"})

    assert first.data == second.data
    assert (head.status_code, head.data, head.content_length) == (200, b"", len(first.data))
    assert head.headers["ETag"] == first.headers["ETag"]
    assert (unchanged.status_code, part.status_code, part.data) == (304, 206, first.data[2:6])


def test_a_config_chooses_and_an_unknown_organization_finds_nothing(
    hub: Hub,
    reference: Reference,  # noqa: F811
) -> None:
    reference.add(ENTRY, {"1": adapter_zip(1)})
    reference.add("ukp/houlsby", {"1": adapter_zip(2, config=HOULSBY)}, config={"using": "houlsby"})
    take(hub, reference.folder)
    client = OldClient(hub.client.get)

    for config in (PFEIFFER, HOULSBY):
        loaded = client.load(client.find("nli/multinli@ukp", MODEL, config=config))
        assert loaded["adapter_config.json"]["config"] == config
    with pytest.raises(NotFound):
        client.find("nli/multinli@other", MODEL, config=PFEIFFER)
    with pytest.raises(NotFound):
        client.find("nli/multinli@ukp", "roberta-base")
    assert client.find("@ukp/houlsby", MODEL) == client.find(
        "nli/multinli@ukp", MODEL, config=HOULSBY
    )


def test_what_is_only_recorded_is_where_it_was(hub: Hub, reference: Reference) -> None:  # noqa: F811
    reference.add(ENTRY, {"1": adapter_zip()}, score=80.0)
    take(hub, reference.folder, metadata_only=True)

    found = OldClient(hub.client.get).find("nli/multinli@ukp", MODEL)

    written = yaml.safe_load((reference.folder / f"adapters/{ENTRY}.yaml").read_text())
    assert found == {key: value for key, value in written["files"][0].items() if key != "version"}


def publish(hub: Hub, *, private: bool = False) -> wire.Version:
    files = {
        "adapter_config.json": json.dumps({"config": PFEIFFER, "name": "a"}).encode(),
        "adapter.safetensors": save(tensors("a", 7)),
    }
    manifest = make_manifest("nli/cb@ada", files, method={"config": PFEIFFER})
    return hub.publish(hub.token("ada"), manifest, files, private=private)


def test_what_was_published_here_is_in_the_index(hub: Hub) -> None:
    publish(hub)
    client = OldClient(hub.client.get)

    loaded = client.load(client.find("nli/cb@ada", MODEL, config=PFEIFFER))

    weights = loaded["pytorch_adapter.bin"]
    assert all(torch.equal(weights[name], value) for name, value in tensors("a", 7).items())
    (info,) = client.json("all.json")
    assert (info["task"], info["subtask"], info["username"]) == ("nli", "cb", "ada")
    assert (
        client.find(info["adapter_id"], MODEL)["sha1"]
        == client.json("all.json")[0]["sha1_checksum"]
    )


def test_what_is_private_or_withdrawn_is_not_there(hub: Hub) -> None:
    version = publish(hub, private=True)
    name = f"nli.cb-{version.variant}"
    paths = [
        f"/dist/v2/index/{MODEL}.json",
        f"/dist/index_text_task/{MODEL}.json",
        f"/dist/v2/adapters/ada/{name}.json",
        f"/dist/adapters/ada/{name}.json",
        f"/dist/v2/files/{version.digest.removeprefix('sha256:')}.zip",
    ]

    for path in paths:
        assert problem(hub.client.get(path)).status == 404
        bearer = {"Authorization": f"Bearer {hub.token('ada')}"}
        assert hub.client.get(path, headers=bearer).status_code == 200
    assert hub.client.get("/dist/v2/all.json").get_json() == []


@pytest.mark.parametrize(
    "path",
    [
        "/dist/v2/adapters/ukp/none.json",
        "/dist/v2/adapters/ukp/nli.cb-999.json",
        "/dist/v2/index/none.json",
        "/dist/v2/files/abc.zip",
        "/dist/index_other/none.json",
    ],
)
def test_what_is_not_there_is_a_problem(hub: Hub, path: str) -> None:
    assert problem(hub.client.get(path)).status == 404


def generated(folder: Path, edition: int) -> dict[str, Any]:
    """The index of the reference hub, as its generator makes it from the YAML, in the order of paths."""
    index: dict[str, Any] = defaultdict(lambda: defaultdict(lambda: defaultdict(dict)))
    named = {
        row["name"]: row.get(f"config_v{edition}", row["config"])
        for row in map(yaml.safe_load, map(Path.read_text, folder.glob("architectures/*")))
    }
    for path in sorted(folder.glob("adapters/*/*")):
        entry = yaml.safe_load(path.read_text())
        own = dict(entry["config"])
        using = own.pop("using")
        key = OldClient.hashed({**named[using], **own})
        org, place = path.parent.name, f"adapters/{path.parent.name}/{path.stem}.json"
        subtask = index[entry["model_name"]][entry["task"]][entry["subtask"]]
        subtask.setdefault(key, {"versions": {}})["versions"][org] = place
        if "default" not in subtask or using == "pfeiffer":
            subtask["default"] = place
    return index


def test_the_index_is_that_of_the_reference_hub(hub: Hub, snapshot: Path) -> None:  # noqa: F811
    take(hub, snapshot, metadata_only=True)
    client = OldClient(hub.client.get)

    for model, expected in generated(snapshot, 2).items():
        assert client.json(f"index/{model}.json") == expected
    first = generated(snapshot, 1)
    for model, expected in first.items():
        merged: dict[str, Any] = {}
        for kind in ("text_task", "text_lang"):
            response = hub.client.get(f"/dist/index_{kind}/{model}.json")
            merged |= response.get_json() if response.status_code == 200 else {}
        assert merged == expected
    everything = client.json("all.json")
    assert len(everything) == len({each["adapter_id"] for each in everything}) == 291
    assert set(client.json("architectures.json")) == {
        "houlsby",
        "houlsby+inv",
        "lohfink-rossi-leaveout",
        "pfeiffer",
        "pfeiffer+inv",
    }
