"""The pickles that one old library asks for: made from safetensors, holding tensors and nothing else."""

import io
import json
import pickletools
import zipfile

import numpy as np
import pytest
from safetensors.numpy import save
from tests.factories import make_files, make_manifest

AGENT = {"User-Agent": "adapters/1.3.0; hf_hub/0.36.2; python/3.11"}
REPO = "ukp/nli.multinli"
TENSORS = {
    "matrix": np.arange(6, dtype=np.float32).reshape(2, 3),
    "half": np.ones(3, dtype=np.float16),
    "number": np.array(7, dtype=np.int64),
    "empty": np.zeros((0, 4), dtype=np.float32),
}


@pytest.fixture
def published(hub, ukp):
    files = make_files() | {"adapter.safetensors": save(TENSORS)}
    hub.publish(ukp.token, make_manifest(files=files), files)


def twin(client, **headers):
    path = f"/{REPO}/resolve/main/pytorch_adapter.bin"
    return client.get(path, headers=AGENT | headers)


def test_only_the_library_that_asks_for_pickles_sees_them(anyone, published):
    seen = anyone.get(f"/api/models/{REPO}", headers=AGENT).get_json()

    names = {each["rfilename"] for each in seen["siblings"]}
    assert names == {*make_files(), "pytorch_adapter.bin"}
    assert "pytorch_adapter.bin" not in {
        each["rfilename"] for each in anyone.info(REPO)["siblings"]
    }
    assert anyone.file(REPO, "pytorch_adapter.bin").status_code == 404


def test_a_twin_has_the_tensors(anyone, published):
    head = anyone.call("HEAD", f"/{REPO}/resolve/main/pytorch_adapter.bin", headers=AGENT)
    found = twin(anyone)

    assert head.headers["Content-Length"] == str(len(found.data))
    with zipfile.ZipFile(io.BytesIO(found.data)) as archive:
        assert archive.testzip() is None
        for number, name in enumerate(sorted(TENSORS)):
            assert archive.read(f"archive/data/{number}") == TENSORS[name].tobytes()


def test_a_twin_can_do_nothing_but_rebuild_tensors(anyone, published):
    with zipfile.ZipFile(io.BytesIO(twin(anyone).data)) as archive:
        operations = list(pickletools.genops(archive.read("archive/data.pkl")))

    found = {argument for operation, argument, _ in operations if operation.name == "GLOBAL"}
    assert found == {
        "torch._utils _rebuild_tensor_v2",
        "torch FloatStorage",
        "torch HalfStorage",
        "torch LongStorage",
        "collections OrderedDict",
    }


def test_a_twin_is_the_same_each_time_and_has_ranges(anyone, published):
    whole = twin(anyone).data
    part = twin(anyone, Range="bytes=10-19")

    assert twin(anyone).data == whole
    assert (part.status_code, part.data) == (206, whole[10:20])


def test_what_torch_has_no_type_for_has_no_twin(hub, ukp, anyone):
    header = json.dumps({"a": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}}).encode()
    weights = len(header).to_bytes(8, "little") + header + b"\x01\x02"
    files = make_files() | {"adapter.safetensors": weights}
    hub.publish(ukp.token, make_manifest(files=files), files)

    assert anyone.get(f"/api/models/{REPO}", headers=AGENT).status_code == 200
    assert twin(anyone).status_code == 404
