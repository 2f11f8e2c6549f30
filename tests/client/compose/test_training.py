"""Freezing, gradients and the state that a trainer keeps."""

import copy

import pytest
import torch
import transformers

from adapterhub_client import compose
from adapterhub_client.errors import CompositionError

from .conftest import fused, hidden, make_adapted, make_model

LABELS = torch.tensor([0, 1, 0])
# Two rectified units would often both be off, and have no gradient.
SMOOTH = "seq_bn[reduction_factor=2, non_linearity='tanh']"


def trained(adapted):
    """The names of the parameters that receive a gradient other than zero."""
    return {
        name
        for name, parameter in adapted.named_parameters()
        if parameter.grad is not None and parameter.grad.abs().max() > 0
    }


def owners(names):
    return {name.split(".")[2] if name.startswith("shelf.") else "model" for name in names}


@pytest.fixture
def adapted():
    adapted = make_adapted("bert", [SMOOTH, "double_seq_bn", f"{SMOOTH[:-1]}, use_gating=True]"])
    adapted.add("d", "seq_bn")
    fused(adapted, "a", "c")
    for name in ("a", "top"):
        adapted.add_head(name, labels=["no", "yes"])
    return adapted


@pytest.mark.parametrize(
    ("expression", "head", "names", "heads", "expected"),
    [
        pytest.param("a", "a", ["a"], None, {"adapter a", "head a"}, id="an adapter and its head"),
        pytest.param("a", "top", ["a"], ["top"], {"adapter a", "head top"}, id="another head"),
        pytest.param("stack(a, b)", "top", ["b"], None, {"adapter b"}, id="the last of a stack"),
        pytest.param(
            "stack(a, b)", "top", ["stack(a, b)"], ["top"],
            {"adapter a", "adapter b", "head top"}, id="a whole stack",
        ),
        pytest.param("fuse(a, c)", "top", ["a,c"], None, {"fusion a,c"}, id="a fusion by name"),
        pytest.param(
            "fuse(a, c)", "top", ["fuse(a, c)"], ["top"], {"fusion a,c", "head top"},
            id="a fusion by expression",
        ),
        pytest.param(
            "stack(b, fuse(a, c))", "top", ["a", "a,c"], [], {"adapter a", "fusion a,c"},
            id="a fusion and one member",
        ),
        pytest.param(None, "top", [], ["top"], {"head top"}, id="only a head"),
    ],
)  # fmt: skip
def test_the_gradient_reaches_only_what_is_trained(
    adapted, inputs, expression, head, names, heads, expected
):
    adapted.activate(expression, head=head)
    adapted.trainable(*names, heads=heads)

    adapted(**inputs, labels=LABELS).loss.backward()

    asked = {n for n, p in adapted.named_parameters() if p.requires_grad}
    assert owners(asked) == expected
    assert trained(adapted) == asked


def test_the_keys_bias_is_never_trained_because_it_cancels(adapted):
    adapted.trainable("a,c")

    trainable = {n for n, p in adapted.named_parameters() if p.requires_grad}
    assert not any("key.bias" in name for name in trainable)
    assert any("key.weight" in name for name in trainable)


def test_the_models_own_head_is_trained_when_asked(inputs):
    model = make_model(auto=transformers.AutoModelForSequenceClassification)
    adapted = compose.attach(model)
    adapted.add("a", "seq_bn")
    adapted.activate("a")
    adapted.trainable("a", base_head=True)

    adapted(**inputs, labels=LABELS).loss.backward()

    assert {n for n in trained(adapted) if n.startswith("model.")} == {
        "model.classifier.weight",
        "model.classifier.bias",
    }


def test_detaching_gives_gradients_back_where_they_were():
    model = make_model()
    model.pooler.requires_grad_(requires_grad=False)
    adapted = compose.attach(model)
    adapted.add("a")
    adapted.trainable("a")

    adapted.detach()

    wants = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    assert not wants["pooler.dense.weight"]
    assert wants["encoder.layer.0.output.dense.weight"]


@pytest.mark.parametrize("meanwhile", [True, False])
def test_detaching_gives_every_module_its_mode_back(meanwhile):
    model = make_model()
    model.encoder.layer[1].train()
    before = {name: module.training for name, module in model.named_modules()}
    adapted = compose.attach(model)
    adapted.train(meanwhile)

    adapted.detach()

    assert {name: module.training for name, module in model.named_modules()} == before
    assert set(before.values()) == {True, False}


def test_trainable_names_must_be_loaded(adapted):
    with pytest.raises(CompositionError, match="Nothing named 'nobody' is loaded"):
        adapted.trainable("nobody")


def test_the_state_holds_what_is_trainable_and_can_be_put_back(adapted, inputs):
    adapted.activate("a", head="a")
    adapted.trainable("a")
    state = adapted.state_dict()
    with torch.no_grad():
        before = adapted(**inputs).logits
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(1)
        moved = adapted(**inputs).logits

        adapted.load_state_dict(state)

        assert owners(state) == {"adapter a", "head a"}
        assert not torch.equal(moved, before)
        assert torch.equal(adapted(**inputs).logits, before)


def test_a_state_of_something_else_is_refused(adapted):
    adapted.trainable("a")
    state = adapted.state_dict()
    adapted.trainable("b")

    with pytest.raises(CompositionError, match="The state is of something else"):
        adapted.load_state_dict(state)


def test_training_a_fusion_lowers_its_loss(adapted, inputs):
    adapted.activate("fuse(a, c)", head="top")
    adapted.trainable("fuse(a, c)", heads=["top"])
    optimizer = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=1e-2)
    losses = []

    for _ in range(8):
        loss = adapted(**inputs, labels=LABELS).loss + adapted.regularization()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())

    assert losses[-1] < losses[0] / 2


def test_gradient_checkpointing_gives_the_same_gradients(inputs):
    adapted = make_adapted("bert", ["seq_bn", "double_seq_bn"], hidden_dropout_prob=0.0,
                           attention_probs_dropout_prob=0.0)  # fmt: skip
    adapted.activate("stack(b, a)")
    adapted.trainable("a", "b")
    adapted.train()
    adapted(**inputs).last_hidden_state[..., 0].sum().backward()
    plain = {n: p.grad.clone() for n, p in adapted.named_parameters() if p.requires_grad}
    adapted.zero_grad()
    for layer in adapted.model.encoder.layer:
        layer.gradient_checkpointing = True
        layer._gradient_checkpointing_func = lambda function, *args: (  # noqa: SLF001
            torch.utils.checkpoint.checkpoint(function, *args, use_reentrant=False)
        )

    adapted(**inputs).last_hidden_state[..., 0].sum().backward()

    again = {n: p.grad for n, p in adapted.named_parameters() if p.requires_grad}
    assert all(torch.allclose(plain[name], again[name], atol=1e-6) for name in plain)


@pytest.mark.parametrize("expression", ["a", "b", "stack(b, a)", "fuse(a, c)"])
def test_autocast_to_bfloat16_stays_close(adapted, inputs, expression):
    adapted.activate(expression, head=False)
    exact = hidden(adapted, inputs)

    with torch.autocast("cpu", torch.bfloat16):
        rounded = hidden(adapted, inputs)

    assert (rounded.float() - exact).abs().mean() < 0.05


def test_a_model_in_bfloat16_takes_adapters_in_bfloat16(inputs):
    adapted = compose.attach(make_model().to(torch.bfloat16))
    adapted.add("a", "seq_bn")
    adapted.add("b", "double_seq_bn")
    adapted.add_fusion("a", "b")
    before = hidden(adapted, inputs)

    adapted.activate("fuse(a, b)")

    after = hidden(adapted, inputs)
    assert after.dtype == before.dtype == torch.bfloat16
    assert after.isfinite().all()


def test_train_and_eval_reach_adapters_and_model(adapted):
    adapted.train()
    assert adapted.model.training
    assert adapted.adapters["a"].training

    adapted.eval()

    assert not adapted.model.training
    assert not adapted.fusions["a,c"].training


def test_a_copy_of_the_model_is_not_needed_to_leave_it_alone(adapted, inputs):
    before = copy.deepcopy(adapted.model.state_dict())
    adapted.activate("fuse(a, c)", head="top")
    adapted.trainable("fuse(a, c)", heads=["top"])
    optimizer = torch.optim.SGD(
        [p for p in adapted.parameters() if p.requires_grad], lr=0.1, weight_decay=0.1
    )

    adapted(**inputs, labels=LABELS).loss.backward()
    optimizer.step()

    after = adapted.model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
