"""Methods under what training and serving do to a model: compilers, checkpoints, half precision."""

import pytest
import torch

from .conftest import hidden, make_adapted

PREFIX = "prefix_tuning[prefix_length=3, bottleneck_size=4]"
CASES = [
    pytest.param(["seq_bn_inv[reduction_factor=4]"], "a", id="nice"),
    pytest.param(["seq_bn_inv[reduction_factor=4, inv_adapter='glow']"], "a", id="glow"),
    pytest.param(["compacter[reduction_factor=4]"], "a", id="compacter"),
    pytest.param(["loreft[r=2, suffix_positions=2, dropout=0.0]"], "a", id="loreft"),
    pytest.param(["prompt_tuning[prompt_length=3]"], "a", id="prompt"),
    pytest.param([PREFIX], "a", id="prefix"),
    pytest.param([f"{PREFIX[:-1]}, use_gating=True]"], "a", id="gated prefix"),
    pytest.param(["seq_bn_inv[reduction_factor=4]"] * 2, "parallel(a, b)", id="parallel nice"),
    pytest.param(["noreft[dropout=0.0]"] * 2, "parallel(a, b)", id="parallel reft"),
    pytest.param(
        ["noreft[dropout=0.0]"] * 2, "batchsplit(a, b; batch_sizes=[1, 2])", id="split reft"
    ),
    pytest.param([PREFIX] * 2, "parallel(a, b)", id="parallel prefix"),
    pytest.param(
        [PREFIX, "prefix_tuning_flat[prefix_length=5]"],
        "batchsplit(a, b; batch_sizes=[1, 2])",
        id="split prefixes",
    ),
]
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def gradients(adapted, inputs, run=None):
    adapted.zero_grad()
    (adapted if run is None else run)(**inputs).last_hidden_state.square().mean().backward()
    return {n: p.grad.clone() for n, p in adapted.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("methods", "composition"), CASES)
def test_it_compiles_whole_for_use_and_for_training(methods, composition, inputs):
    torch._dynamo.reset()  # noqa: SLF001 - torch's own way
    adapted = make_adapted("bert", methods, **STILL)
    adapted.activate(composition)
    expected = hidden(adapted, inputs)
    compiled = torch.compile(adapted, fullgraph=True, backend="aot_eager")

    with torch.no_grad():
        used = compiled(**inputs).last_hidden_state
    adapted.trainable(*"ab"[: len(methods)])
    own = gradients(adapted, inputs)
    of_compiled = gradients(adapted, inputs, compiled)

    torch.testing.assert_close(used, expected, atol=1e-5, rtol=0)
    assert own
    torch.testing.assert_close(of_compiled, own, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("methods", "composition"), CASES)
def test_gradient_checkpoints_change_no_gradient(methods, composition, inputs):
    adapted = make_adapted("bert", methods, **STILL)
    adapted.activate(composition)
    adapted.trainable(*"ab"[: len(methods)])
    adapted.train()
    expected = gradients(adapted, inputs)

    model = adapted.model
    # Newer versions of transformers have another name for it.
    name = "activation_checkpointing_enable"
    getattr(model, name if hasattr(model, name) else "gradient_checkpointing_enable")()

    assert expected
    torch.testing.assert_close(gradients(adapted, inputs), expected)


@pytest.mark.parametrize(("methods", "composition"), CASES)
def test_half_precision_is_near_to_whole(methods, composition, inputs):
    adapted = make_adapted("bert", methods)
    adapted.activate(composition)
    expected = hidden(adapted, inputs)

    with torch.autocast("cpu", torch.bfloat16):
        cast = hidden(adapted, inputs)
    half = make_adapted("bert", methods).to(torch.bfloat16)
    half.activate(composition)
    halved = hidden(half, inputs)

    assert halved.dtype == torch.bfloat16
    for near in (cast, halved):
        assert (near.float() - expected).abs().mean() < 0.02
