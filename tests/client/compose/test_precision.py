"""How far results in each precision may be from those in float64, on a model whose states are of the size one.

    float32   1e-5      bfloat16  0.08 (mean 0.02)      float16  0.01 (mean 0.002)

bfloat16 is meant for autocast and for models that are bfloat16 themselves. The bare model is held to the same bounds.
"""

import pytest
import torch

from .conftest import fused, hidden
from .small_models import adapted_of, batch_of

# The largest and the mean difference.
TOLERANCES = {
    torch.float32: (1e-5, 1e-6),
    torch.bfloat16: (0.08, 0.02),
    torch.float16: (0.01, 0.002),
}
METHODS = ["seq_bn", "double_seq_bn", "seq_bn", "lora", "dora", "prefix", "loreft", "compacter"]
COMPOSITIONS = [
    pytest.param(None, id="the bare model"),
    "a",
    "stack(b, a)",
    "fuse(a, b, c)",
    "parallel(a, c)",
    "average(a, b)",
    "parallel(d, d)",
    "e",
    "f",
    "g",
    "h",
]


def prepared(dtype):
    adapted = adapted_of("bert", METHODS)
    for parameter in adapted.parameters():
        parameter.data.mul_(0.5)  # so that states stay of the size one
    fused(adapted, "a", "b", "c")
    adapted.trainable()
    return adapted.to(dtype)


def assert_within(found, exact, dtype):
    largest, mean = TOLERANCES[dtype]
    difference = (found.double() - exact).abs()
    assert difference.max() < largest
    assert difference.mean() < mean


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("expression", COMPOSITIONS)
def test_models_of_a_precision_are_close_to_the_exact(expression, dtype):
    exact, rounded = prepared(torch.float64), prepared(dtype)
    if expression:
        exact.activate(expression)
        rounded.activate(expression)

    found = hidden(rounded, batch_of())

    assert found.dtype == dtype
    assert_within(found, hidden(exact, batch_of()), dtype)


@pytest.mark.parametrize("expression", COMPOSITIONS)
def test_autocast_is_close_to_the_exact(expression):
    exact, model = prepared(torch.float64), prepared(torch.float32)
    if expression:
        exact.activate(expression)
        model.activate(expression)

    with torch.autocast("cpu", torch.bfloat16):
        found = hidden(model, batch_of())

    assert_within(found, hidden(exact, batch_of()), torch.bfloat16)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
def test_a_compiled_fusion_gives_what_the_formula_gives(dtype, tolerance):
    adapted = prepared(dtype)
    layer = adapted.fusions["a,b,c"].places["0 output_adapter"]
    members = [adapted.adapters[name].places["0 output_adapter"] for name in "abc"]
    adapted.activate("fuse(a, b, c)")
    mixture = next(mixture for place, bound in adapted.activation._bound  # noqa: SLF001
                   if str(place) == "0 output_adapter" for _, mixture in bound.mixtures)  # fmt: skip
    states = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(1), dtype=dtype)

    with torch.no_grad():
        found = mixture.mix(states, states, [])
        outputs = torch.stack([member.up(member.encode(states)) for member in members], dim=-2)
        scores = (layer.key(outputs) * layer.query(states).unsqueeze(-2)).sum(-1)
        expected = (layer.value(outputs) * scores.softmax(-1).unsqueeze(-1)).sum(-2)

    torch.testing.assert_close(found, expected, atol=tolerance, rtol=0)
