"""Files of torch become safetensors, bit for bit, and nothing else happens."""

import os
import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.registry.importing.reference import saved

from adapterhub_registry.importing.conversion import ConversionRefused, to_safetensors

BASE = torch.arange(24, dtype=torch.float32).reshape(6, 4)
CONTENT = OrderedDict(
    whole=BASE,
    rows=BASE[2:4],
    turned=BASE.t(),
    column=torch.randn(3, 5)[:, 1:2],
    half=torch.randn(3).half(),
    brain=torch.randn(2).bfloat16(),
    long=torch.tensor(3),
    truth=torch.tensor([True, False]),
    empty=torch.zeros(0, 3),
    trained=torch.nn.Parameter(torch.randn(2, 2)),
)


class Call:
    """Runs a program when it is read without care."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return (os.system, (f"touch {self.marker}",))


@pytest.mark.parametrize("old", [True, False], ids=["before torch 1.6", "since torch 1.6"])
def test_every_kind_of_tensor_comes_out_as_it_went_in(tmp_path: Path, *, old: bool) -> None:
    (tmp_path / "weights.bin").write_bytes(saved(CONTENT, old=old))

    to_safetensors(tmp_path / "weights.bin", tmp_path / "weights.safetensors")

    found = load_file(tmp_path / "weights.safetensors")
    assert set(found) == set(CONTENT)
    for name, tensor in CONTENT.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor.detach()), name


def test_the_same_tensors_are_the_same_bytes(tmp_path: Path) -> None:
    for old in (True, False):
        (tmp_path / f"{old}.bin").write_bytes(saved(CONTENT, old=old))
        to_safetensors(tmp_path / f"{old}.bin", tmp_path / f"{old}.safetensors")

    written = [(tmp_path / f"{old}.safetensors").read_bytes() for old in (True, False)]

    assert written[0] == written[1]


@pytest.mark.parametrize("old", [True, False], ids=["before torch 1.6", "since torch 1.6"])
def test_a_program_in_a_pickle_does_not_run(tmp_path: Path, *, old: bool) -> None:
    marker = tmp_path / "ran"
    (tmp_path / "weights.bin").write_bytes(saved({"a": Call(marker)}, old=old))

    with pytest.raises(ConversionRefused, match=r"asks for (posix|nt)\.system"):
        to_safetensors(tmp_path / "weights.bin", tmp_path / "weights.safetensors")

    assert not marker.exists()
    assert not (tmp_path / "weights.safetensors").exists()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        pytest.param(saved({"a": 1}), "'a' in it is no tensor", id="a number"),
        pytest.param(saved([torch.ones(1)]), "it is no dictionary", id="a list"),
        pytest.param(saved({}), "it has no tensor", id="nothing"),
        pytest.param(b"hello" * 50, "it ", id="another file"),
        pytest.param(b"", "it cannot be read", id="an empty file"),
        pytest.param(saved(CONTENT)[:-40], "the storage", id="a part"),
        pytest.param(pickle.dumps({"a": 1}), "it ", id="a pickle"),
        pytest.param(
            saved({"a": torch.ones(1).to_sparse()}), "is no part of a tensor", id="a sparse tensor"
        ),
    ],
)
def test_what_is_no_dictionary_of_tensors_is_refused(
    tmp_path: Path, content: bytes, sentence: str
) -> None:
    (tmp_path / "weights.bin").write_bytes(content)

    with pytest.raises(ConversionRefused, match=sentence):
        to_safetensors(tmp_path / "weights.bin", tmp_path / "weights.safetensors")

    assert not (tmp_path / "weights.safetensors").exists()


def test_a_pickle_that_asks_for_all_memory_is_refused(tmp_path: Path) -> None:
    # BINBYTES8 of 64 TiB, then what would follow
    bomb = b"\x80\x04\x8e" + (2**46).to_bytes(8, "little") + b"."
    (tmp_path / "weights.bin").write_bytes(bomb)

    with pytest.raises(ConversionRefused):
        to_safetensors(tmp_path / "weights.bin", tmp_path / "weights.safetensors")
