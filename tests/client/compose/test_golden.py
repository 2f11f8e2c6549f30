"""What the `adapters` library computed, computed here: 1e-4 over its own folders and outputs."""

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file

from adapterhub_client import compose

from .conftest import shared_folder

TOLERANCE = 1e-4
ARCHITECTURES = ("bert", "roberta", "xlmr", "distilbert")
KINDS = (
    "base",
    "method:seq_bn",
    "method:seq_bn_default_nl",
    "method:seq_bn_gating",
    "method:seq_bn_layermap",
    "method:double_seq_bn",
    "method:par_bn",
    "method:scaled_par_bn",
    "method:bn_custom_ln",
    "comp:stack2",
    "comp:stack2_houlsby",
    "comp:fuse3",
    "comp:fuse3_static",
    "comp:fuse2_houlsby",
    "head:classification",
    "head:classification_1layer_pooler",
    "head:regression",
    "head:fuse3_classification",
    "legacy:task_relu",
    "legacy:task_gelu",
    "legacy:task_gelu_orig",
    "static_head",
)
# These act at linear layers, and pass on every architecture.
LINEAR_KINDS = (
    "method:lora",
    "method:lora_ffn",
    "method:ia3",
    "method:dora",
    "comp:stack2_lora",
    "comp:stack_mixed",
    "comp:batchsplit_lora",
    "comp:parallel2_lora",
    "comp:average_lora",
    "head:lora_classification",
)
# The library divides a weighted sum by the number of adapters once more.
AS_REFERENCE = ("comp:average_lora",)
GOLDEN = shared_folder() / "golden"


def cases():
    if not GOLDEN.is_dir():
        return [pytest.param(None, marks=pytest.mark.skip(reason=f"there is no {GOLDEN}"))]
    manifest = json.loads((GOLDEN / "manifest.json").read_text())
    return [
        pytest.param(case, id=case["id"])
        for case in manifest["cases"]
        if case["kind"] in LINEAR_KINDS or (case["arch"] in ARCHITECTURES and case["kind"] in KINDS)
    ]


def expression(tree):
    if tree["type"] == "single":
        return tree["children"][0]
    given = tree.get("kwargs") or {}
    options = "".join(f"; {key}={given[key]}" for key in ("batch_sizes", "weights") if key in given)
    return f"{tree['type'].lower()}({', '.join(map(expression, tree['children']))}{options})"


def model_of(case):
    options = {"attn_implementation": case.get("attn_implementation", "sdpa")}
    if case["kind"] != "static_head":
        return transformers.AutoModel.from_pretrained(GOLDEN / case["base"], **options)
    config = json.loads((GOLDEN / case["heads"][0]["path"] / "head_config.json").read_text())
    model_class = getattr(transformers, case["model_class"])
    options["num_labels"] = config["num_labels"]
    return model_class.from_pretrained(GOLDEN / case["base"], **options)


def activated(case, model):
    adapted = compose.attach(model.eval())
    for adapter in case["adapters"]:
        adapted.load(GOLDEN / adapter["path"], name=adapter["name"])
    for fusion in case["fusions"]:
        adapted.load_fusion(GOLDEN / fusion["path"])
    for head in case["heads"]:
        adapted.load_head(GOLDEN / head["path"], name=head["name"])
    if case["setup"]:
        compat = "adapters" if case["kind"] in AS_REFERENCE else None
        adapted.activate(expression(case["setup"]), head=case.get("active_head"), compat=compat)
    return adapted


def answer(output, name):
    if name.startswith("hidden_states."):
        return output.hidden_states[int(name.split(".")[1])]
    return getattr(output, name)


@pytest.mark.parametrize("case", cases())
def test_our_output_is_that_of_the_reference_library(case):
    adapted = activated(case, model_of(case))
    tensors = load_file(GOLDEN / case["tensors"])
    inputs = {name[3:]: value for name, value in tensors.items() if name.startswith("in.")}
    expected = {name[4:]: value for name, value in tensors.items() if name.startswith("out.")}

    with torch.no_grad():
        wants_layers = any(name.startswith("hidden_states.") for name in expected)
        output = adapted(**inputs, output_hidden_states=wants_layers)

    for name, value in expected.items():
        torch.testing.assert_close(answer(output, name), value, atol=TOLERANCE, rtol=0)
