"""What the `adapters` library computed, computed here: all of its golden cases at 1e-4, each kind named in the id."""

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file

from adapterhub_client import compose

from .conftest import shared_folder

TOLERANCE = 1e-4
# The library divides a weighted sum by the number of its parts once more: the one reading asked for by name.
AS_REFERENCE = ("comp:average", "comp:average_nonorm", "comp:average_lora")
OPTIONS = ("splits", "batch_sizes", "weights")
GOLDEN = shared_folder() / "golden"


def manifest():
    path = GOLDEN / "manifest.json"
    return json.loads(path.read_text())["cases"] if path.is_file() else []


def cases():
    found = [pytest.param(case, id=f"{case['kind']}/{case['arch']}") for case in manifest()]
    missing = pytest.mark.skip(reason="there are no golden cases")
    return found or [pytest.param(None, marks=missing)]


def expression(tree):
    if tree["type"] == "single":
        return tree["children"][0]
    given = tree.get("kwargs") or {}
    options = "".join(f"; {key}={given[key]}" for key in OPTIONS if key in given)
    return f"{tree['type'].lower()}({', '.join(map(expression, tree['children']))}{options})"


def model_of(case):
    options = {"attn_implementation": case.get("attn_implementation", "sdpa")}
    if case["kind"] != "static_head":
        return transformers.AutoModel.from_pretrained(GOLDEN / case["base"], **options)
    config = json.loads((GOLDEN / case["heads"][0]["path"] / "head_config.json").read_text())
    model_class = getattr(transformers, case["model_class"])
    options["num_labels"] = config.get("num_labels", 2)
    return model_class.from_pretrained(GOLDEN / case["base"], **options)


def heads_of(case):
    """One head's name, or those of the children in their order."""
    head = case.get("active_head")
    return [child["children"][0] for child in head["children"]] if isinstance(head, dict) else head


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
        adapted.activate(expression(case["setup"]), head=heads_of(case), compat=compat)
    return adapted


def answer(output, name):
    if name.startswith("hidden_states."):
        return output.hidden_states[int(name.split(".")[1])]
    if name.startswith("head"):
        number, field = name.removeprefix("head").split(".")
        return getattr(output.heads[int(number)], field)
    return getattr(output, name)


@pytest.mark.parametrize("case", cases())
def test_our_output_is_that_of_the_reference_library(case):
    adapted = activated(case, model_of(case))
    tensors = load_file(GOLDEN / case["tensors"])
    inputs = {name[3:]: value for name, value in tensors.items() if name.startswith("in.")}
    expected = {name[4:]: value for name, value in tensors.items() if name.startswith("out.")}
    wants_layers = any(name.startswith("hidden_states.") for name in expected)
    options = {"output_hidden_states": True} if wants_layers else {}

    with torch.no_grad():
        output = adapted(**inputs, **options)

    assert expected
    for name, value in expected.items():
        torch.testing.assert_close(answer(output, name), value, atol=TOLERANCE, rtol=0)
