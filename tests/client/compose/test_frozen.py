"""What is kept of frozen parameters is never older than the parameters, whatever changes them."""

import pytest
import torch

from .conftest import fused, hidden, make_adapted


def write_through_data(parameters):
    for parameter in parameters:
        parameter.data.copy_(-parameter)


def replace_data(parameters):
    for parameter in parameters:
        parameter.data = -parameter.data


def step_fused(parameters):
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    torch.optim.AdamW(parameters, lr=0.1, fused=True).step()


def expected_after(adapted, inputs):
    """What a fresh activation gives."""
    adapted.activate("fuse(a, b)")
    return hidden(adapted, inputs)


@pytest.mark.parametrize("change", [write_through_data, replace_data, step_fused])
@pytest.mark.parametrize("trained", ["a,b", "a"])
def test_evaluating_after_a_change_without_a_version_is_not_stale(inputs, change, trained):
    adapted = make_adapted("bert", ["seq_bn", "seq_bn"])
    fused(adapted, "a", "b")
    adapted.activate("fuse(a, b)")
    before = hidden(adapted, inputs)
    adapted.trainable(trained)
    adapted.train()
    change([p for p in adapted.parameters() if p.requires_grad])

    adapted.eval()

    after = hidden(adapted, inputs)
    assert (after - before).abs().max() > 1e-3
    assert torch.equal(after, expected_after(adapted, inputs))


def test_data_that_was_replaced_compiles_anew_without_a_word(inputs):
    adapted = make_adapted("bert", ["seq_bn", "seq_bn"])
    fused(adapted, "a", "b")
    adapted.activate("fuse(a, b)")
    hidden(adapted, inputs)

    replace_data(adapted.fusions["a,b"].parameters())

    after = hidden(adapted, inputs)
    assert torch.equal(after, expected_after(adapted, inputs))


def test_a_fused_step_after_a_call_with_gradients_is_seen_in_the_same_mode(inputs):
    adapted = make_adapted("bert", ["seq_bn", "seq_bn"])
    fused(adapted, "a", "b")
    adapted.activate("fuse(a, b)")
    adapted.trainable("a,b")
    hidden(adapted, inputs)
    adapted(**inputs).last_hidden_state[..., 0].sum().backward()

    step_fused([p for p in adapted.parameters() if p.requires_grad])

    after = hidden(adapted, inputs)
    assert torch.equal(after, expected_after(adapted, inputs))


def test_freezing_what_was_trained_is_not_stale(inputs):
    adapted = make_adapted("bert", ["seq_bn", "seq_bn"])
    fused(adapted, "a", "b")
    adapted.activate("fuse(a, b)")
    hidden(adapted, inputs)
    write_through_data(list(adapted.fusions["a,b"].parameters()))

    adapted.trainable()

    after = hidden(adapted, inputs)
    assert torch.equal(after, expected_after(adapted, inputs))
