"""Files of tensors are read whole and checked, or refused with what is wrong with them."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from adapterhub_client.compose.files import tensorfile
from adapterhub_client.errors import Corrupt

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.bool]


def write(path, entries, data=b""):
    header = json.dumps(entries).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    return path


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_file_gives_what_the_safetensors_library_reads(dtype, tmp_path):
    tensors = {
        "b": torch.arange(6).reshape(2, 3).to(dtype),
        "a": torch.ones(4, dtype=dtype),
        "scalar": torch.zeros((), dtype=dtype),
        "empty": torch.zeros(0, 3, dtype=dtype),
        "odd": torch.ones(3, dtype=torch.int8),
    }
    save_file(tensors, tmp_path / "x", metadata={"format": "pt"})

    read = tensorfile.read(tmp_path / "x")

    expected = load_file(tmp_path / "x")
    assert read.keys() == expected.keys()
    for name, tensor in expected.items():
        assert (read[name].dtype, read[name].shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(read[name], tensor)


def test_what_was_read_stays_when_the_file_is_written_over(tmp_path):
    save_file({"a": torch.ones(4)}, tmp_path / "x")
    read = tensorfile.read(tmp_path / "x")

    with (tmp_path / "x").open("r+b") as file:
        file.seek(-16, 2)
        file.write(bytes(16))

    assert torch.equal(read["a"], torch.ones(4))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_that_are_no_numbers_are_seen(bad, tmp_path):
    save_file({"a": torch.ones(2)}, tmp_path / "good")
    save_file({"a": torch.ones(2), "b": torch.tensor([bad])}, tmp_path / "bad")

    assert tensorfile.read(tmp_path / "good").is_finite
    assert not tensorfile.read(tmp_path / "bad").is_finite


@pytest.mark.parametrize(
    ("entries", "data", "fact"),
    [
        pytest.param({"a": entry()}, bytes(4), "has 4 bytes of tensors, not 8", id="cut short"),
        pytest.param({"a": entry()}, bytes(12), "has 12 bytes of tensors, not 8", id="too long"),
        pytest.param({"a": entry(offsets=(4, 12))}, bytes(12), "'a' of shape", id="a hole"),
        pytest.param({"a": entry(shape=(3,))}, bytes(8), "'a' of shape", id="another shape"),
        pytest.param({"a": entry(shape=(-2, -1))}, bytes(8), "'a' of shape", id="negative shape"),
        pytest.param({"a": entry(), "b": entry()}, bytes(8), "does not lie at", id="overlap"),
        pytest.param({"a": entry(dtype="F4")}, bytes(8), "'F4'", id="unknown type"),
        pytest.param({"a": 7}, b"", "object", id="no entry"),
        pytest.param([1], b"", "object", id="a list"),
    ],
)
def test_a_header_that_does_not_describe_its_file_is_corrupt(entries, data, fact, tmp_path):
    path = write(tmp_path / "x", entries, data)

    with pytest.raises(Corrupt, match=fact):
        tensorfile.read(path)


@pytest.mark.parametrize(
    "content", [b"", b"\x01", b"\xff" * 8, (0).to_bytes(8, "little"), b"\x02" + bytes(7) + b"{"]
)
def test_a_file_without_a_header_is_corrupt(content, tmp_path):
    (tmp_path / "x").write_bytes(content)

    with pytest.raises(Corrupt, match="cannot be read"):
        tensorfile.read(tmp_path / "x")
