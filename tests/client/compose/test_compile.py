"""`torch.compile` takes a composition whole, without a break in the graph."""

import pytest
import torch

from .conftest import fused, hidden, make_adapted

METHODS = [
    "seq_bn[reduction_factor=2]",
    "seq_bn[reduction_factor=4, non_linearity='gelu']",
    "double_seq_bn[reduction_factor=2]",
]


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()  # noqa: SLF001


@pytest.fixture
def adapted():
    adapted = make_adapted("bert", METHODS)
    fused(adapted, "a", "b")
    adapted.add_head("top", labels=["no", "yes"])
    return adapted


def compiled(adapted):
    return torch.compile(adapted, fullgraph=True, backend="aot_eager")


@pytest.mark.parametrize(
    "expression", ["a", "c", "stack(a, b)", "stack(c, a)", "fuse(a, b)", "stack(c, fuse(a, b))"]
)
def test_a_compiled_composition_gives_the_same(adapted, inputs, expression):
    adapted.activate(expression)
    expected = hidden(adapted, inputs)

    torch.testing.assert_close(hidden(compiled(adapted), inputs), expected, atol=1e-5, rtol=0)


def test_a_compiled_model_follows_a_new_activation(adapted, inputs):
    base = hidden(adapted, inputs)
    adapted.activate("a")
    function = compiled(adapted)
    hidden(function, inputs)

    adapted.activate("c")
    other = hidden(function, inputs)
    adapted.deactivate()

    torch.testing.assert_close(hidden(function, inputs), base, atol=1e-5, rtol=0)
    adapted.activate("c")
    torch.testing.assert_close(hidden(adapted, inputs), other, atol=1e-5, rtol=0)


def test_compiled_training_gives_the_same_gradients(adapted, inputs):
    labels = torch.tensor([0, 1, 0])
    adapted.activate("fuse(a, b)", head="top")
    adapted.trainable("fuse(a, b)", heads=["top"])
    adapted(**inputs, labels=labels).loss.backward()
    expected = {n: p.grad.clone() for n, p in adapted.named_parameters() if p.requires_grad}
    adapted.zero_grad()

    compiled(adapted)(**inputs, labels=labels).loss.backward()

    for name, parameter in adapted.named_parameters():
        if name in expected:
            torch.testing.assert_close(parameter.grad, expected[name], atol=1e-5, rtol=1e-4)


def test_an_uncompiled_call_after_training_is_not_stale(adapted, inputs):
    adapted.activate("fuse(a, b)")
    before = hidden(compiled(adapted), inputs)
    with torch.no_grad():
        for layer in adapted.fusions["a,b"].layers():
            layer.value.weight.mul_(-1)

    assert (hidden(adapted, inputs) - before).abs().max() > 1e-2


def test_a_compiled_evaluation_between_training_steps_is_not_stale(adapted, inputs):
    adapted.activate("fuse(a, b)")
    adapted.trainable("fuse(a, b)")
    function = compiled(adapted)
    hidden(function, inputs)
    with torch.no_grad():
        for layer in adapted.fusions["a,b"].layers():
            layer.value.weight.mul_(-1)

    torch.testing.assert_close(hidden(function, inputs), hidden(adapted, inputs), atol=1e-5, rtol=0)


@pytest.mark.parametrize("turn", ["eval", "trainable", "load_state_dict"])
def test_what_was_kept_before_a_silent_change_is_not_traced(adapted, inputs, turn):
    adapted.activate("fuse(a, b)", head=False)
    adapted.trainable("fuse(a, b)")
    before = hidden(adapted, inputs)
    for layer in adapted.fusions["a,b"].layers():
        layer.value.weight.data.mul_(-1)
    adapted.requires_grad_(requires_grad=False)

    {
        "eval": adapted.eval,
        "trainable": adapted.trainable,
        "load_state_dict": lambda: adapted.load_state_dict(adapted.state_dict()),
    }[turn]()

    after = hidden(compiled(adapted), inputs)
    assert (after - before).abs().max() > 1e-2
    torch.testing.assert_close(after, hidden(adapted, inputs), atol=1e-5, rtol=0)
