"""Tensors are held against one another, the config, the labels and the base by their shapes."""

import pytest
from tests.factories import make_manifest

from adapterhub_client import wire
from adapterhub_registry.service.shapes import faults

BASE = {"layer.0.query.weight": (32, 16), "layer.0.norm.weight": (16,)}
DOWN, UP = "l.adapters.a.adapter_down.0.weight", "l.adapters.a.adapter_up.weight"
GOOD = {DOWN: (4, 16), "l.adapters.a.adapter_down.0.bias": (4,), UP: (16, 4)}
A, B = "l.loras.a.lora_A", "l.loras.a.lora_B"
QUERY = "base_model.model.bert.layer.0.query"
PEFT = {"format": "peft", "config": {"peft_type": "LORA", "r": 4}}
LABELS = [wire.Head(name="a", type="classification", labels=["no", "yes"])]


def found(shapes, *, config=None, method=None, hidden_size=16, heads=(), path="a.safetensors"):
    manifest = make_manifest(
        base={"hidden_size": hidden_size},
        method=method or {"config": config or {}},
        heads=list(heads),
    )
    return faults(manifest, {path: shapes}, BASE)


@pytest.mark.parametrize(
    ("shapes", "more"),
    [
        pytest.param(GOOD, {"config": {"reduction_factor": 4}}, id="bottleneck"),
        pytest.param(GOOD, {"config": {"reduction_factor": {"1": 2}}}, id="factors by layer"),
        pytest.param({DOWN: (1, 16), UP: (16, 1)}, {"config": {"reduction_factor": 99}}, id="one"),
        pytest.param(GOOD, {"hidden_size": None}, id="unknown base"),
        pytest.param({A: (4, 16), B: (16, 4)}, {"config": {"r": 4}}, id="pair"),
        pytest.param({A: (8, 16), B: (32, 4)}, {"config": {"r": 4}}, id="pairs of a joint layer"),
        pytest.param({A: (4, 16), B: (1, 16, 4)}, {"config": {"r": 4}}, id="tasks"),
        pytest.param({B: (16, 1)}, {"config": {"r": 1}}, id="vectors"),
        pytest.param(
            {f"{QUERY}.lora_A.weight": (4, 16), f"{QUERY}.lora_B.weight": (32, 4)},
            {"method": PEFT},
            id="peft",
        ),
        pytest.param(
            {f"{QUERY}.lora_A.weight": (2, 16), f"{QUERY}.lora_B.weight": (32, 2)},
            {"method": {**PEFT, "config": {**PEFT["config"], "rank_pattern": {"query": 2}}}},
            id="ranks by layer",
        ),
        pytest.param(
            {"heads.a.1.weight": (16, 16), "heads.a.4.weight": (2, 16)},
            {"heads": LABELS},
            id="head",
        ),
        pytest.param(
            {"x.prompt_embedding.weight": (3, 16)}, {"config": {"prompt_length": 3}}, id="p"
        ),
    ],
)
def test_what_fits_passes(shapes, more):
    assert found(shapes, **more) == []


@pytest.mark.parametrize(
    ("shapes", "more", "fault"),
    [
        pytest.param({DOWN: (4, 16)}, {}, "no adapter_up", id="half a bottleneck"),
        pytest.param(
            {DOWN: (4, 16), UP: (16, 5)}, {}, "adapter_up has the shape 16x5", id="widths"
        ),
        pytest.param({DOWN: (4, 12), UP: (12, 4)}, {}, "the base has 16", id="another base"),
        pytest.param(
            {**GOOD, "l.adapters.a.adapter_down.0.bias": (3,)}, {}, "the bias of", id="bias"
        ),
        pytest.param(GOOD, {"config": {"reduction_factor": 8}}, "makes 2", id="reduction factor"),
        pytest.param({A: (4, 16)}, {}, "not both", id="A alone"),
        pytest.param({B: (16, 4)}, {}, "not both", id="B alone"),
        pytest.param({A: (4, 16), B: (16, 3)}, {}, "its B the rank 3", id="ranks"),
        pytest.param(
            {A: (4, 16), B: (16, 4)}, {"config": {"r": 8}}, "the config says 8", id="rank"
        ),
        pytest.param({A: (4,), B: (16, 4)}, {}, "no matrices", id="a vector"),
        pytest.param(
            {f"{QUERY}.lora_A.weight": (4, 12), f"{QUERY}.lora_B.weight": (32, 4)},
            {"method": PEFT},
            "the base's layer has the shape 32x16",
            id="another layer",
        ),
        pytest.param(
            {f"f.{kind}.weight": (16, 16) for kind in ("query", "key")}
            | {"f.value.weight": (8, 16)},
            {"path": "model_adapter_fusion.safetensors"},
            "not square and alike: 16x16, 8x16",
            id="fusion",
        ),
        pytest.param({"heads.a.4.weight": (3, 16)}, {"heads": LABELS}, "has 2 labels", id="labels"),
        pytest.param(
            {"x.prompt_embedding.weight": (4, 16)},
            {"config": {"prompt_length": 3}},
            "says 3",
            id="p",
        ),
        pytest.param(
            {"prompt_embeddings": (7, 16)},
            {
                "method": {
                    "format": "peft",
                    "config": {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 3},
                }
            },
            "says 3 tokens",
            id="virtual tokens",
        ),
    ],
)
def test_what_does_not_fit_is_said(shapes, more, fault):
    (said,) = found(shapes, **more)

    assert fault in said


def test_all_that_does_not_fit_is_said_at_once():
    said = found({DOWN: (4, 12), UP: (12, 3), A: (4, 16)}, config={"reduction_factor": 2})

    assert len(said) == 4
