"""What must hold for every adapter, whatever its weights."""

import copy

import pytest
import torch

from adapterhub_client import compose

from .conftest import fused, hidden, make_adapted, make_model

METHODS = [
    pytest.param("seq_bn[reduction_factor=4, non_linearity='gelu']", id="seq_bn"),
    pytest.param("double_seq_bn[reduction_factor=4]", id="double_seq_bn"),
    pytest.param("par_bn[reduction_factor=4]", id="par_bn"),
    pytest.param("scaled_par_bn[reduction_factor=4]", id="scaled_par_bn"),
    pytest.param("seq_bn[use_gating=True]", id="gated"),
    pytest.param("seq_bn[scaling='channel', dropout=0.1]", id="a scale per feature"),
    pytest.param("double_seq_bn[ln_before=True, ln_after=True]", id="own norms"),
    pytest.param(
        "double_seq_bn[ln_after=True, adapter_residual_before_ln=True]", id="residual before norm"
    ),
    pytest.param("seq_bn[residual_before_ln='post_add']", id="residual after the sum"),
    pytest.param(
        "seq_bn[residual_before_ln=False, original_ln_after=False, scaling='channel']",
        id="no norm after",
    ),
]
TWO = ["seq_bn[reduction_factor=2, non_linearity='tanh']", "seq_bn[reduction_factor=4]"]
THREE = [*TWO, "seq_bn[reduction_factor=4, non_linearity='gelu']"]


@pytest.mark.parametrize("method", METHODS)
def test_an_active_adapter_moves_the_output(architecture, method, inputs):
    adapted = make_adapted(architecture, [method])
    before = hidden(adapted, inputs)

    adapted.activate("a")

    assert (hidden(adapted, inputs) - before).abs().max() > 0.1


@pytest.mark.parametrize("method", METHODS)
def test_detaching_gives_the_base_back_bit_for_bit(architecture, method, inputs):
    model = make_model(architecture)
    untouched = copy.deepcopy(model)
    with torch.no_grad():
        before = model(**inputs).last_hidden_state
    adapted = compose.attach(model)
    adapted.add("a", method)
    adapted.activate("a")
    adapted.trainable("a")
    hidden(adapted, inputs)

    adapted.detach()

    with torch.no_grad():
        assert torch.equal(model(**inputs).last_hidden_state, before)
    assert list(model.state_dict()) == list(untouched.state_dict())
    assert all(p.requires_grad for p in model.parameters())
    for module in model.modules():
        assert not module._forward_hooks  # noqa: SLF001
        assert not module._forward_pre_hooks  # noqa: SLF001


@pytest.mark.parametrize("method", METHODS)
def test_a_row_of_a_batch_is_that_row_alone(method, inputs):
    adapted = make_adapted("bert", [method])
    adapted.activate("a")

    together = hidden(adapted, inputs)
    alone = hidden(adapted, {name: value[1:2] for name, value in inputs.items()})

    torch.testing.assert_close(alone[0], together[1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_a_stack_of_one_is_the_one(method, inputs):
    adapted = make_adapted("bert", [method])
    adapted.activate("a")
    single = hidden(adapted, inputs)

    adapted.activate("stack(a)")

    assert torch.equal(hidden(adapted, inputs), single)


@pytest.mark.parametrize(
    "methods",
    [
        pytest.param(THREE, id="seq_bn"),
        pytest.param(["double_seq_bn", "seq_bn", "par_bn"], id="mixed"),
    ],
)
def test_stacking_is_associative(methods, inputs):
    adapted = make_adapted("bert", methods)
    adapted.activate("stack(stack(a, b), c)")
    left = hidden(adapted, inputs)
    adapted.activate("stack(a, stack(b, c))")
    right = hidden(adapted, inputs)

    adapted.activate("stack(a, b, c)")

    assert torch.equal(left, right)
    assert torch.equal(hidden(adapted, inputs), left)


def test_the_order_of_a_stack_matters(inputs):
    adapted = make_adapted("bert", TWO)
    adapted.activate("stack(a, b)")
    one_way = hidden(adapted, inputs)

    adapted.activate("stack(b, a)")

    assert (hidden(adapted, inputs) - one_way).abs().max() > 0.01


def test_a_fusion_of_equals_without_values_is_the_equal(inputs):
    adapted = make_adapted("bert", ["seq_bn"])
    adapted.add("b", "seq_bn")
    adapted.adapters["b"].load_state_dict(adapted.adapters["a"].state_dict())
    fused(adapted, "a", "b", config="static")
    adapted.activate("a")
    single = hidden(adapted, inputs)

    adapted.activate("fuse(a, b)")

    torch.testing.assert_close(hidden(adapted, inputs), single, atol=1e-5, rtol=0)


def test_an_adapter_that_leaves_all_layers_out_changes_nothing(inputs):
    adapted = make_adapted("bert", ["seq_bn[leave_out=[0, 1]]"])
    before = hidden(adapted, inputs)

    adapted.activate("a")

    assert torch.equal(hidden(adapted, inputs), before)


def test_a_fresh_parallel_adapter_is_the_identity(inputs):
    adapted = make_adapted("bert")
    before = hidden(adapted, inputs)
    adapted.add("a", "par_bn")

    adapted.activate("a")

    assert torch.equal(hidden(adapted, inputs), before)


def test_a_seed_gives_the_same_fresh_weights():
    adapted = make_adapted("bert")

    adapted.add("a", "seq_bn[init_weights_seed=5]")
    adapted.add("b", "seq_bn[init_weights_seed=5]")
    adapted.add("c", "seq_bn[init_weights_seed=6]")

    first, second, other = (list(adapted.adapters[name].parameters()) for name in "abc")
    assert all(torch.equal(x, y) for x, y in zip(first, second, strict=True))
    assert not torch.equal(first[0], other[0])
