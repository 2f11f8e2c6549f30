"""Our adapters of linear layers in the real `adapters` library, in an environment of its own (ADAPTERS_PEER_PYTHON)."""

import json
import os
import subprocess

import pytest
import torch
from safetensors.torch import load_file, save_file

from .conftest import hidden, make_adapted
from .test_linear_layers import on_gpt2

PEER = os.environ.get("ADAPTERS_PEER_PYTHON")
TOLERANCE = 1e-4
EVERYWHERE = "attn_matrices=['q','k','v'], intermediate_lora=True, output_lora=True"

# Loads our folders with the library, writes what did not fit and what it computes, and saves them again.
SCRIPT = """
import json, sys
from pathlib import Path
import torch, adapters, adapters.composition as blocks
from safetensors.torch import load_file, save_file
from transformers import AutoModel

for job in Path(sys.argv[1]).glob("*/job.json"):
    root = job.parent
    model = AutoModel.from_pretrained(root / "base").eval()
    adapters.init(model)
    names, setup = json.loads(job.read_text())
    bad = []
    (root / "theirs").mkdir()
    for name in names:
        info = {}
        model.load_adapter(str(root / name), use_safetensors=True, loading_info=info)
        bad += info.get("missing_keys", []) + info.get("unexpected_keys", [])
        model.save_adapter(str(root / "theirs" / name), name, use_safetensors=True)
    model.set_active_adapters(eval(setup, {**vars(blocks)}))
    with torch.no_grad():
        output = model(**load_file(root / "inputs.safetensors"))[0]
    save_file({"output": output.contiguous()}, root / "theirs.safetensors")
    (root / "bad.json").write_text(json.dumps(bad))
"""

CASES = {
    "lora": (["lora[r=4, alpha=12]"], "a", "'a'"),
    "lora everywhere": ([f"lora[{EVERYWHERE}]"], "a", "'a'"),
    "gated lora": ([f"lora[use_gating=True, alpha=3, {EVERYWHERE}]"], "a", "'a'"),
    "ia3": (["ia3[alpha=2]"], "a", "'a'"),
    "gated ia3": (["ia3[use_gating=True, alpha=2]"], "a", "'a'"),
    "dora": (["dora[alpha=16]"], "a", "'a'"),
    "vera": (["vera"], "a", "'a'"),
    "dvora": (["dvora[alpha=16]"], "a", "'a'"),
    "mtl_lora": (["mtl_lora[n_up_projection=3]"], "a", "'a'"),
    "stack": (["lora", "lora[r=4]"], "stack(a, b)", "Stack('a', 'b')"),
    "stack of ia3": (["ia3[intermediate_lora=False]"] * 2, "stack(a, b)", "Stack('a', 'b')"),
    "average": (["lora", "lora[r=4]"], "average(a, b)", "Average('a', 'b')"),
    "average of ia3": (["ia3", "ia3"], "average(a, b)", "Average('a', 'b')"),
    "average of dora": (["dora", "dora"], "average(a, b)", "Average('a', 'b')"),
    "parallel": (["lora", "lora[r=4]"], "parallel(a, b)", "Parallel('a', 'b')"),
    "batchsplit": (
        ["lora", "lora[r=4]"],
        "batchsplit(a, b; batch_sizes=[1, 2])",
        "BatchSplit('a', 'b', batch_sizes=[1, 2])",
    ),
}  # fmt: skip
MERGED = {
    "lora": (["lora[r=4, alpha=12]"], "a", "'a'"),
    "lora everywhere": ([f"lora[{EVERYWHERE}]"], "a", "'a'"),
    "gated lora": (["lora[use_gating=True]"], "a", "'a'"),
    "ia3": (["ia3[alpha=2]"], "a", "'a'"),
    "gated ia3": (["ia3[use_gating=True]"], "a", "'a'"),
}

pytestmark = pytest.mark.skipif(not PEER, reason="ADAPTERS_PEER_PYTHON is not set")


def prepare(adapted, root, tree, setup, inputs):
    root.mkdir()
    adapted.model.save_pretrained(root / "base")
    for name in adapted.adapters:
        adapted.save(name, root / name)
    (root / "job.json").write_text(json.dumps([list(adapted.adapters), setup]))
    save_file(inputs, root / "inputs.safetensors")
    adapted.activate(tree, compat="adapters")
    save_file({"output": hidden(adapted, inputs)}, root / "ours.safetensors")


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Everything at once: the library takes seconds to import."""
    root = tmp_path_factory.mktemp("jobs")
    inputs = {"input_ids": torch.arange(5, 35).reshape(3, 10), "attention_mask": torch.ones(3, 10)}
    for name, (methods, tree, setup) in CASES.items():
        for architecture in ("bert", "distilbert"):
            adapted = make_adapted(architecture, methods)
            prepare(adapted, root / f"{architecture} {name}", tree, setup, inputs)
    for name, (methods, tree, setup) in MERGED.items():
        prepare(on_gpt2(*methods), root / f"gpt2 {name}", tree, setup, inputs)
    done = subprocess.run([PEER, "-c", SCRIPT, root], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return root


@pytest.mark.parametrize(
    "case",
    [f"{architecture} {name}" for architecture in ("bert", "distilbert") for name in CASES]
    + [f"gpt2 {name}" for name in MERGED],
)
def test_the_library_loads_our_folders_and_computes_the_same(case, answers):
    folder = answers / case

    assert json.loads((folder / "bad.json").read_text()) == []
    ours, theirs = (load_file(folder / f"{whose}.safetensors") for whose in ("ours", "theirs"))
    torch.testing.assert_close(ours["output"], theirs["output"], atol=TOLERANCE, rtol=0)


# A bare model of the library saves VeRA without its shared maps, which nothing can load.
@pytest.mark.parametrize("name", ["lora", "gated lora", "ia3", "dora", "mtl_lora"])
def test_what_the_library_saves_is_what_we_saved(name, answers):
    folder = answers / f"bert {name}"
    adapted = make_adapted("bert", [])

    adapted.load(folder / "theirs" / "a", name="a")

    ours = load_file(folder / "a" / "adapter.safetensors")
    ours = {key.removeprefix("bert."): tensor for key, tensor in ours.items()}
    theirs = load_file(folder / "theirs" / "a" / "adapter.safetensors")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
