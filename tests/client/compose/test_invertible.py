"""Invertible adapters: what they do to the embeddings, and that heads undo it."""

import pytest
import torch

from adapterhub_client import compose
from adapterhub_client.compose.methods.invertible import Coupling
from adapterhub_client.errors import CompositionError
from adapterhub_client.formats import method as formats

from .conftest import hidden, make_adapted, make_model, randomise

NICE = "seq_bn_inv[reduction_factor=4, non_linearity='gelu']"
GLOW = "seq_bn_inv[reduction_factor=4, non_linearity='tanh', inv_adapter='glow']"
BLOCKS = [pytest.param(NICE, id="nice"), pytest.param(GLOW, id="glow")]
PLAIN = "seq_bn[reduction_factor=4]"


def coupling(method, features=32):
    config = formats.parse(method)
    return randomise(Coupling(config, features, torch.device("cpu"), torch.float64), seed=3)


@pytest.mark.parametrize("method", BLOCKS)
@pytest.mark.parametrize("features", [32, 33])
def test_the_inverse_undoes_it(method, features):
    module = coupling(method, features)
    embeddings = torch.randn(2, 5, features, dtype=torch.float64)

    changed = module(embeddings)

    assert (changed - embeddings).abs().max() > 0.1
    torch.testing.assert_close(module(changed, reverse=True), embeddings, atol=1e-9, rtol=0)


@pytest.mark.parametrize("method", BLOCKS)
def test_its_gradients_are_those_of_finite_differences(method):
    module = coupling(method, 8)
    embeddings = torch.randn(1, 3, 8, dtype=torch.float64, requires_grad=True)

    assert torch.autograd.gradcheck(module, (embeddings,))
    assert torch.autograd.gradcheck(
        lambda *weights: module.change(embeddings.detach(), weights), module.weights()
    )


def test_glow_scales_and_shifts_as_in_the_paper():
    module = coupling(GLOW, 4)
    first, second = torch.randn(1, 1, 2, 2, dtype=torch.float64).unbind(-1)
    inner = module.get_submodule("s2")
    made = inner["2"](torch.tanh(inner["0"](second)))

    changed = module(torch.cat([first, second], dim=-1).unsqueeze(0))

    factor = torch.exp(5 * 0.636 * torch.atan(made[..., :2] / 5))
    expected = first * factor + made[..., 2:]
    torch.testing.assert_close(changed[0, ..., :2], expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("method", BLOCKS)
def test_it_changes_what_the_first_layer_gets(architecture, method, inputs):
    adapted = make_adapted(architecture, [method, PLAIN])
    adapted.activate("b")
    without = hidden(adapted, inputs)

    adapted.activate("stack(a, b)", skip_layers=[0])

    assert (hidden(adapted, inputs) - without).abs().max() > 0.1


@pytest.mark.parametrize("method", BLOCKS)
@pytest.mark.parametrize("masked", [True, False])
def test_a_row_of_parallel_branches_is_its_branch_alone(architecture, method, masked, inputs):
    adapted = make_adapted(architecture, [method, method, PLAIN])
    if not masked:
        inputs = {"input_ids": inputs["input_ids"]}
    alone = []
    for name in "abc":
        adapted.activate(name)
        alone.append(hidden(adapted, inputs))

    adapted.activate("parallel(a, b)")
    alike = hidden(adapted, inputs)
    adapted.activate("parallel(a, stack(c, b), c)")
    unlike = hidden(adapted, inputs)

    torch.testing.assert_close(alike, torch.cat(alone[:2]), atol=1e-5, rtol=0)
    torch.testing.assert_close(unlike[:3], alone[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(unlike[6:], alone[2], atol=1e-5, rtol=0)


@pytest.mark.parametrize("sizes", [(1, 2), (2, 1)])
def test_a_batch_split_is_its_runs_joined(sizes, inputs):
    adapted = make_adapted("bert", [NICE, NICE])
    joined = []
    for name, rows in zip("ab", torch.arange(3).split(sizes), strict=True):
        adapted.activate(name)
        joined.append(hidden(adapted, {n: v[rows] for n, v in inputs.items()}))

    adapted.activate(f"batchsplit(a, b; batch_sizes={list(sizes)})")

    torch.testing.assert_close(hidden(adapted, inputs), torch.cat(joined), atol=1e-5, rtol=0)


def test_the_reference_library_takes_the_first_for_all_branches(inputs):
    adapted = make_adapted("bert", [NICE, NICE])
    adapted.activate("parallel(a, b)")
    ours = hidden(adapted, inputs)

    adapted.activate("parallel(a, b)", compat="adapters")

    theirs = hidden(adapted, inputs)
    torch.testing.assert_close(theirs[:3], ours[:3], atol=1e-5, rtol=0)
    assert (theirs[3:] - ours[3:]).abs().max() > 0.1


def test_a_head_that_predicts_tokens_undoes_it(inputs):
    adapted = make_adapted("bert", [NICE])
    adapted.add_head("a", kind="masked_lm", layers=1)
    adapted.activate("a", head=False)
    states = hidden(adapted, inputs)
    module = adapted.adapters["a"].places["invertible"]

    adapted.activate("a")
    with torch.no_grad():
        logits = adapted(**inputs).logits
        expected = adapted.heads["a"].layers[-1](module(states, reverse=True))

    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)


def test_heads_of_parallel_branches_undo_each_their_own(inputs):
    adapted = make_adapted("bert", [NICE, NICE])
    alone = []
    for name in "ab":
        adapted.add_head(name, kind="masked_lm", layers=1)
        adapted.activate(name)
        with torch.no_grad():
            alone.append(adapted(**inputs).logits)

    adapted.activate("parallel(a, b)", head=["a", "b"])

    with torch.no_grad():
        answers = adapted(**inputs).heads
    for answer, expected in zip(answers, alone, strict=True):
        torch.testing.assert_close(answer.logits, expected, atol=1e-5, rtol=0)


def test_gradients_reach_it_and_nothing_of_the_base(inputs):
    adapted = make_adapted("bert", [NICE])
    adapted.activate("a")
    adapted.trainable("a")

    adapted(**inputs).last_hidden_state.square().mean().backward()

    reached = {name for name, p in adapted.named_parameters() if p.grad is not None}
    assert any("invertible" in name for name in reached)
    assert all(name.startswith("shelf.parts.adapter a") for name in reached)


@pytest.mark.parametrize("method", BLOCKS)
def test_it_comes_back_from_a_folder_bit_for_bit(method, tmp_path, inputs):
    adapted = make_adapted("bert", [method])
    adapted.activate("a")
    before = hidden(adapted, inputs)
    adapted.save("a", tmp_path / "a")

    again = compose.attach(make_model())
    again.load(tmp_path / "a")
    again.activate("a")

    assert torch.equal(hidden(again, inputs), before)


def test_deactivating_leaves_no_trace(inputs):
    adapted = make_adapted("bert", [NICE])
    before = hidden(adapted, inputs)
    adapted.activate("a")
    hidden(adapted, inputs)

    adapted.deactivate()

    assert torch.equal(hidden(adapted, inputs), before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param("inv_adapter_reduction_factor=None", "needs an", id="no factor"),
        pytest.param("inv_adapter_reduction_factor=64", "leaves nothing", id="too large a factor"),
    ],
)
def test_networks_without_width_are_refused(options, message):
    adapted = make_adapted("bert")

    with pytest.raises(CompositionError, match=message):
        adapted.add("a", f"seq_bn_inv[{options}]")

    assert not adapted.adapters
