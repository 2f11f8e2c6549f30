"""Our folders in the real `adapters` library, in an environment of its own (ADAPTERS_PEER_PYTHON)."""

import json
import os
import subprocess

import pytest
import torch
from safetensors.torch import load_file, save_file

from .conftest import CONFIGS, fused, make_adapted, randomise

PEER = os.environ.get("ADAPTERS_PEER_PYTHON")
TOLERANCE = 1e-4

# Loads everything in each folder with the library, and writes which keys did not fit and what it then computes.
SCRIPT = """
import json, sys
from pathlib import Path
import torch, adapters.composition as blocks
from adapters import AutoAdapterModel
from safetensors.torch import load_file, save_file

OURS = ("adapters.", "adapter_fusion_layer.", "heads.")

def answer(root):
    job = json.loads((root / "job.json").read_text())
    model = AutoAdapterModel.from_pretrained(root / "base").eval()
    for name in job["adapters"]:
        model.load_adapter(str(root / name), with_head=False, use_safetensors=True)
    if job["fusion"]:
        model.load_adapter_fusion(str(root / "fusion"), use_safetensors=True)
    if job["head"]:
        model.load_head(str(root / "head"), use_safetensors=True)
    saved = {k: v for file in root.glob("*/*.safetensors") if file.parent.name != "base"
             for k, v in load_file(file).items()}
    state = {k: v for k, v in model.state_dict().items() if any(part in k for part in OURS)}
    bad = sorted(set(saved) ^ set(state))
    bad += [k for k in saved if k in state and not torch.equal(saved[k], state[k])]
    model.set_active_adapters(eval(job["setup"], {**vars(blocks)}))
    model.active_head = job["head"]
    with torch.no_grad():
        output = model(**load_file(root / "inputs.safetensors"))
    tensor = output.logits if job["head"] else output.last_hidden_state
    save_file({"output": tensor.contiguous()}, root / "theirs.safetensors")
    (root / "bad.json").write_text(json.dumps(bad))

for job in Path(sys.argv[1]).glob("*/job.json"):
    answer(job.parent)
"""

CASES = [
    pytest.param(["seq_bn"], None, "a", "'a'", id="seq_bn"),
    pytest.param(["double_seq_bn"], None, "a", "'a'", id="double_seq_bn"),
    pytest.param(["scaled_par_bn"], None, "a", "'a'", id="scaled_par_bn"),
    pytest.param(
        ["double_seq_bn[ln_before=True, ln_after=True, use_gating=True]"], None, "a", "'a'", id="all parts"
    ),
    pytest.param(["seq_bn[residual_before_ln='post_add']"], None, "a", "'a'", id="post_add"),
    pytest.param(
        ["double_seq_bn[ln_after=True, adapter_residual_before_ln=True]"], None, "a", "'a'",
        id="residual before norm",
    ),
    pytest.param(
        ["seq_bn[residual_before_ln=False, original_ln_after=False, scaling='channel']"],
        None, "a", "'a'", id="no norm after",
    ),
    pytest.param(["seq_bn", "double_seq_bn"], None, "stack(a, b)", "Stack('a', 'b')", id="stack"),
    pytest.param(
        ["seq_bn", "seq_bn", "seq_bn"], "bc", "stack(a, fuse(b, c))", "Stack('a', Fuse('b', 'c'))",
        id="fusion in a stack",
    ),
    pytest.param(
        ["double_seq_bn", "double_seq_bn"], "ab", "fuse(a, b)", "Fuse('a', 'b')", id="houlsby fusion"
    ),
    pytest.param(["par_bn", "par_bn"], "ab", "fuse(a, b)", "Fuse('a', 'b')", id="parallel fusion"),
    pytest.param(
        ["double_seq_bn", "double_seq_bn", "double_seq_bn"],
        "bc", "fuse(stack(a, b), c)", "Fuse(Stack('a', 'b'), 'c')", id="stack in a houlsby fusion",
    ),
    pytest.param(
        ["seq_bn", "seq_bn", "seq_bn"], "bc", "fuse(stack(a, b), c)", "Fuse(Stack('a', 'b'), 'c')",
        id="stack in a fusion, as the library reads it",
    ),
]  # fmt: skip
FUSIONS = [
    pytest.param({"query_before_ln": True}, id="query before the norm"),
    pytest.param({"residual_before": True}, id="residual before"),
    pytest.param({"value_before_softmax": False}, id="value afterwards"),
    pytest.param({"temperature": True}, id="temperature"),
    pytest.param({"query": False, "value": False}, id="key only"),
]

pytestmark = pytest.mark.skipif(not PEER, reason="ADAPTERS_PEER_PYTHON is not set")


def prepare(adapted, root, setup, inputs, head=None):
    """Save everything where the library will find it; what we compute."""
    root.mkdir()
    adapted.model.save_pretrained(root / "base")
    for name in adapted.adapters:
        adapted.save(name, root / name)
    for name in adapted.fusions:
        adapted.save_fusion(name, root / "fusion")
    if head:
        adapted.save_head(head, root / "head")
    job = {"adapters": list(adapted.adapters), "fusion": bool(adapted.fusions)}
    (root / "job.json").write_text(json.dumps(job | {"setup": setup, "head": head}))
    save_file(inputs, root / "inputs.safetensors")
    with torch.no_grad():
        output = adapted(**inputs)
    save_file({"output": output.logits if head else output[0]}, root / "ours.safetensors")


def prepare_all(root):
    inputs = {"input_ids": torch.arange(5, 35).reshape(3, 10), "attention_mask": torch.ones(3, 10)}
    inputs["attention_mask"][1, 7:] = 0
    for architecture in CONFIGS:
        for case in CASES:
            methods, members, expression, setup = case.values
            adapted = make_adapted(architecture, methods)
            if members:
                fused(adapted, *members)
            adapted.activate(expression, head=False, compat="adapters")
            prepare(adapted, root / f"{architecture} {case.id}", setup, inputs)
        adapted = make_adapted(architecture, ["seq_bn"])
        adapted.add_head("top", labels=["neg", "neu", "pos"])
        randomise(adapted.heads["top"])
        adapted.activate("a", head="top")
        prepare(adapted, root / f"{architecture} head", "'a'", inputs, head="top")
    for case in FUSIONS:
        adapted = make_adapted("bert", ["seq_bn", "seq_bn"])
        fused(adapted, "a", "b", config=case.values[0])
        adapted.activate("fuse(a, b)")
        prepare(adapted, root / f"bert {case.id}", "Fuse('a', 'b')", inputs)


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Everything at once: the library takes seconds to import."""
    root = tmp_path_factory.mktemp("jobs")
    prepare_all(root)
    done = subprocess.run([PEER, "-c", SCRIPT, root], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return root


def check(folder):
    assert json.loads((folder / "bad.json").read_text()) == []
    ours, theirs = (load_file(folder / f"{whose}.safetensors") for whose in ("ours", "theirs"))
    torch.testing.assert_close(ours["output"], theirs["output"], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("case", [case.id for case in CASES])
def test_the_library_loads_our_folders_and_computes_the_same(architecture, case, answers):
    check(answers / f"{architecture} {case}")


@pytest.mark.parametrize("case", [case.id for case in FUSIONS])
def test_the_library_reads_our_fusion_configs_as_we_do(case, answers):
    check(answers / f"bert {case}")


def test_the_library_loads_our_heads(architecture, answers):
    check(answers / f"{architecture} head")
