"""Setups in the real `adapters` library, both ways, in an environment of its own (ADAPTERS_PEER_PYTHON)."""

import os
import subprocess

import pytest
import torch
from safetensors.torch import load_file, save_file

from adapterhub_client import compose

from .conftest import fused, make_adapted, make_model, randomise

PEER = os.environ.get("ADAPTERS_PEER_PYTHON")
TOLERANCE = 1e-5

# Reads each setup of ours, says what it computes, and writes the same one itself, and a model with all in it.
SCRIPT = """
import sys
from pathlib import Path
import torch
from adapters import AutoAdapterModel
from safetensors.torch import load_file, save_file

root = Path(sys.argv[1])
inputs = load_file(root / "inputs.safetensors")
for job in sorted(root.glob("*/ours/adapter_setup.json")):
    place = job.parent.parent
    model = AutoAdapterModel.from_pretrained(root / "base").eval()
    tree, heads = model.load_adapter_setup(str(place / "ours"), use_safetensors=True)
    model.set_active_adapters(tree)
    model.active_head = heads
    with torch.no_grad():
        output = model(**inputs)
    parts = getattr(output, "head_outputs", [output])
    save_file({str(n): part.logits.contiguous() for n, part in enumerate(parts)}, place / "answer")
    model.save_adapter_setup(str(place / "theirs"), tree, head_setup=heads)
    model.save_pretrained(str(place / "model"))
"""
CASES = {
    "one": ("a", ["a"]),
    "stack": ("stack(c, a)", ["a"]),
    "average": ("average(a, b; weights=[0.3, 0.7])", ["a"]),
    "average of any weights": ("average(a, b; weights=[2, -1.5])", ["a"]),
    "fuse": ("fuse(a, b)", ["b"]),
    "fuse by a name": ("fuse(a, b; name=mine)", ["b"]),
    "fuse in a stack": ("stack(c, fuse(a, b))", ["b"]),
    "parallel": ("parallel(a, b)", ["a", "b"]),
    "stack in parallel": ("parallel(stack(c, a), b)", ["a", "b"]),
    "batchsplit": ("batchsplit(a, b; batch_sizes=[1, 2])", ["a", "b"]),
    "split": ("split(a, b; splits=[4, 6])", ["a"]),
}

pytestmark = pytest.mark.skipif(not PEER, reason="ADAPTERS_PEER_PYTHON is not set")


def parts():
    adapted = make_adapted("bert", ["seq_bn[reduction_factor=4]"] * 3)
    fused(adapted, "a", "b")
    adapted.add_fusion("a", "b", name="mine")
    randomise(adapted.fusions["mine"], seed=98, std=0.08)
    for name, labels in (("a", ["x", "y", "z"]), ("b", ["no", "yes"])):
        adapted.add_head(name, labels=labels)
        randomise(adapted.heads[name], seed=len(labels))
    return adapted


@torch.no_grad()
def answer(adapted, inputs):
    output = adapted(**inputs)
    return [part.logits for part in getattr(output, "heads", None) or [output]]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Everything at once: the library takes seconds to import."""
    root = tmp_path_factory.mktemp("setups")
    make_model().save_pretrained(root / "base")
    ids = torch.arange(5, 35).reshape(3, 10)
    save_file(
        {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, root / "inputs.safetensors"
    )
    for name, (text, heads) in CASES.items():
        adapted = parts()
        adapted.activate(text, head=heads)
        adapted.save_setup(root / name / "ours")
    done = subprocess.run([PEER, "-c", SCRIPT, root], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return root


# The library cannot read back weights of its own that do not sum to one.
@pytest.mark.parametrize(
    ("case", "whose"),
    [
        *((case, "ours") for case in CASES),
        *((case, "theirs") for case in CASES if "any" not in case),
    ],
)
def test_the_library_computes_a_setup_as_we_do(case, whose, root):
    """Ours is read by the library; theirs is what it wrote of it, read by us."""
    adapted = compose.attach(make_model())

    setup = adapted.load_setup(root / case / whose)

    adapted.activate(setup.expression, setup.heads, compat="adapters")
    expected = [tensor for _, tensor in sorted(load_file(root / case / "answer").items())]
    found = answer(adapted, load_file(root / "inputs.safetensors"))
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=TOLERANCE, rtol=0)


def test_what_the_library_wrote_says_how_it_computes(root):
    adapted = compose.attach(make_model())

    found = {case: adapted.load_setup(root / case / "theirs").compat for case in CASES}

    assert found["stack"] is None
    assert found["average"] == found["stack in parallel"] == "adapters"


def test_a_model_saved_with_its_adapters_is_loaded_whole(root):
    adapted = compose.attach(make_model())

    found = adapted.load_all(root / "fuse" / "model")

    assert set(found.adapters) == {"a", "b"}
    assert found.fusions == ("a,b",)
    adapted.activate("fuse(a, b)", head="b")
    expected = load_file(root / "fuse" / "answer")["0"]
    (ours,) = answer(adapted, load_file(root / "inputs.safetensors"))
    torch.testing.assert_close(ours, expected, atol=TOLERANCE, rtol=0)
