"""An adapter merged into the model's weights: the same numbers, no hooks, and every bit back."""

import copy

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from adapterhub_client import compose, fingerprint
from adapterhub_client.errors import CompositionError, UsageError

from .conftest import hidden, make_adapted, make_model, randomise

KINDS = [
    pytest.param("lora[r=4, alpha=8, intermediate_lora=True, output_lora=True]", id="lora"),
    pytest.param("dora[r=4]", id="dora"),
    pytest.param("vera[r=4]", id="vera"),
    pytest.param("dvora[r=4]", id="dvora"),
    pytest.param("ia3", id="ia3"),
    pytest.param("bitfit", id="bitfit"),
]
LORA = "lora[r=4, alpha=8]"
TOLERANCE = 2e-5


def bits(model):
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def same_bits(ours, theirs):
    return ours.keys() == theirs.keys() and all(
        torch.equal(ours[name].view(torch.uint8), theirs[name].view(torch.uint8)) for name in ours
    )


def count_hooks(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())  # noqa: SLF001


@pytest.mark.parametrize("method", KINDS)
def test_a_folded_adapter_says_what_it_said_beside_the_model(architecture, method, inputs):
    adapted = make_adapted(architecture, [method])
    adapted.activate("a")
    expected = hidden(adapted, inputs)
    adapted.deactivate()
    bare = hidden(adapted, inputs)

    adapted.fold("a")

    assert count_hooks(adapted.model) == 0
    assert (expected - bare).abs().max() > 0.01
    torch.testing.assert_close(hidden(adapted, inputs), expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("method", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_unfolding_gives_every_bit_back(method, dtype):
    adapted = make_adapted("bert", [method])
    adapted.to(dtype)
    before = bits(adapted.model)

    adapted.fold("a")
    folded = bits(adapted.model)
    adapted.unfold()

    assert not same_bits(folded, before)
    assert same_bits(bits(adapted.model), before)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.floats(1e-6, 1e6))
def test_unfolding_gives_every_bit_back_whatever_the_weights(seed, size):
    adapted = make_adapted("bert", [LORA])
    randomise(adapted.adapters["a"], seed=seed, std=size)
    before = bits(adapted.model)

    adapted.fold("a")
    adapted.unfold()

    assert same_bits(bits(adapted.model), before)


def test_detaching_unfolds(inputs):
    model = make_model()
    untouched = copy.deepcopy(model)
    adapted = compose.attach(model)
    adapted.add("a", LORA)
    randomise(adapted.adapters["a"])
    adapted.fold("a")

    adapted.detach()

    assert same_bits(bits(model), bits(untouched))
    assert not hasattr(model, "folded_adapter")
    with torch.no_grad():
        assert torch.equal(model(**inputs)[0], untouched(**inputs)[0])


@pytest.mark.parametrize("move", [torch.float64, torch.bfloat16], ids=str)
def test_what_comes_back_is_in_the_dtype_the_model_has_by_then(move):
    adapted = make_adapted("bert", [LORA])
    plain = copy.deepcopy(adapted.model)

    adapted.fold("a")
    adapted.to(move)
    adapted.unfold()

    assert same_bits(bits(adapted.model), bits(plain.to(move)))


def test_a_layer_stored_the_other_way_round_is_folded_too(inputs):
    config = transformers.GPT2Config(
        vocab_size=96, n_positions=40, n_embd=32, n_layer=2, n_head=4, n_inner=32
    )
    torch.manual_seed(3)
    model = transformers.GPT2Model(config).eval()
    adapted = compose.attach(model)
    adapted.add(
        "a", "lora[r=4, attn_matrices=['q', 'v'], intermediate_lora=True, output_lora=True]"
    )
    randomise(adapted.adapters["a"])
    before = bits(model)
    adapted.activate("a")
    expected = hidden(adapted, inputs)
    adapted.deactivate()

    adapted.fold("a")
    state = hidden(adapted, inputs)
    adapted.unfold()

    torch.testing.assert_close(state, expected, atol=TOLERANCE, rtol=0)
    assert same_bits(bits(model), before)


def test_a_head_answers_for_the_folded_model(inputs):
    adapted = make_adapted("bert", [LORA])
    adapted.add_head("a", labels=["no", "yes"])
    adapted.activate("a")
    with torch.no_grad():
        expected = adapted(**inputs).logits
    adapted.deactivate()

    adapted.fold("a")
    adapted.activate(None, head="a")
    with torch.no_grad():
        logits = adapted(**inputs).logits

    torch.testing.assert_close(logits, expected, atol=TOLERANCE, rtol=0)


def test_what_is_saved_while_folded_names_the_base(inputs, tmp_path):
    adapted = make_adapted("bert", [LORA])
    base = fingerprint.of_model(adapted.model).root
    adapted.fold("a")

    adapted.save("a", tmp_path)
    adapted.load(tmp_path, name="again")
    adapted.unfold()
    adapted.activate("again")

    assert fingerprint.read(tmp_path / "base_fingerprint.json").root == base
    assert torch.isfinite(hidden(adapted, inputs)).all()


def test_a_folded_model_has_no_fingerprint():
    adapted = make_adapted("bert", [LORA])
    adapted.fold("a")

    with pytest.raises(UsageError, match="'a' is folded into the model's weights"):
        fingerprint.of_model(adapted.model)

    adapted.unfold()
    assert fingerprint.of_model(adapted.model).root.startswith("sha256:")


def test_nothing_is_activated_on_folded_weights(inputs):
    adapted = make_adapted("bert", [LORA, "seq_bn"])
    adapted.fold("a")
    folded = hidden(adapted, inputs)

    for refused in (
        lambda: adapted.activate("b"),
        lambda: adapted.activate_rows(["b"]),
        lambda: adapted.fold("a"),
    ):
        with pytest.raises(CompositionError, match="'a' is folded into the model's weights"):
            refused()

    assert torch.equal(hidden(adapted, inputs), folded)
    adapted.unfold()
    adapted.activate("b")


@pytest.mark.parametrize(
    ("method", "sentence"),
    [
        pytest.param("seq_bn", "acts at '0 output_adapter'", id="bottleneck"),
        pytest.param("lora[use_gating=True]", "gated adapter cannot be merged", id="gated"),
        pytest.param("lora|seq_bn", "acts at '0 output_adapter'", id="union"),
        pytest.param("loreft", "acts at '0 layer'", id="reft"),
    ],
)
def test_what_weights_cannot_hold_is_refused_and_nothing_changes(method, sentence):
    adapted = make_adapted("bert", [method])
    before = bits(adapted.model)

    with pytest.raises(CompositionError, match=sentence):
        adapted.fold("a")

    assert same_bits(bits(adapted.model), before)
    assert adapted.folding.name is None


def test_folding_waits_until_nothing_is_active():
    adapted = make_adapted("bert", [LORA])
    adapted.activate("a")

    with pytest.raises(CompositionError, match="`a` is active"):
        adapted.fold("a")
    with pytest.raises(CompositionError, match="Nothing named 'z' is loaded"):
        adapted.fold("z")


def test_unfolding_nothing_changes_nothing():
    adapted = make_adapted("bert", [LORA])
    before = bits(adapted.model)

    adapted.unfold()

    assert same_bits(bits(adapted.model), before)
