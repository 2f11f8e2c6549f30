"""(IA)3 of what goes into layers: PEFT's feedforward_modules, and what such adapters do here."""

import copy
import itertools

import pytest
import torch

from adapterhub_client import compose
from adapterhub_client.errors import CompositionError
from adapterhub_client.formats import method as formats

from .conftest import hidden, make_adapted, make_model, randomise
from .peft_folders import (
    TOLERANCE,
    answer,
    both_ways,
    gpt2,
    ia3,
    llama,
    options,
    peft,
    same_bits,
    weights,
    written_by_peft,
)

# PEFT's own, on the newest transformers; nothing here gives a cause for any.
pytestmark = pytest.mark.filterwarnings("ignore")

METHOD = "ia3[output_lora=True, scaled_inputs=['output']]"
# PEFT's defaults, which it has not for DistilBERT.
DISTILBERT = (["k_lin", "v_lin", "out_lin", "lin2"], ["out_lin", "lin2"])


@pytest.mark.parametrize(
    ("make", "config"),
    [
        pytest.param(gpt2, peft.IA3Config, id="gpt2 by default"),
        pytest.param(llama, peft.IA3Config, id="llama by default"),
        pytest.param(
            make_model,
            lambda: ia3(["key", "value", "intermediate.dense"], ["intermediate.dense"]),
            id="bert before the feed-forward block",
        ),
        pytest.param(
            lambda: make_model("distilbert"),
            lambda: ia3(["v_lin", "lin1", "lin2"], ["lin2"]),
            id="distilbert within the feed-forward block",
        ),
    ],
)
def test_it_is_lossless_both_ways(make, config, tmp_path, inputs):
    errors = both_ways(make(), config(), tmp_path, {"input_ids": inputs["input_ids"]})

    assert max(errors) <= TOLERANCE
    assert same_bits(tmp_path)
    before, after = options(tmp_path), options(tmp_path / "back")
    assert after["feedforward_modules"]
    assert sorted(after["target_modules"]) == sorted(before["target_modules"])


@pytest.mark.parametrize(
    ("name", "config"),
    [
        pytest.param("bert", peft.IA3Config, id="bert by default"),
        pytest.param("roberta", peft.IA3Config, id="roberta by default"),
        pytest.param("distilbert", lambda: ia3(*DISTILBERT), id="distilbert"),
        pytest.param("bert", lambda: ia3(["output.dense"], ["output.dense"]), id="no values"),
    ],
)
def test_factors_behind_an_attention_become_those_of_its_values(name, config, tmp_path, inputs):
    errors = both_ways(make_model(name), config(), tmp_path, inputs)

    assert max(errors) <= TOLERANCE
    behind = ("attention.output.dense", "out_lin")
    assert any(end in key for key in weights(tmp_path) for end in behind)
    assert not any(end in key for key in weights(tmp_path / "back") for end in behind)


def test_what_was_written_once_is_written_again_bit_for_bit(tmp_path):
    written_by_peft(tmp_path / "peft", make_model(), peft.IA3Config())
    folders = [tmp_path / name for name in ("peft", "once", "twice")]
    for before, after in itertools.pairwise(folders):
        adapted = compose.attach(make_model())
        adapted.save(adapted.load(before, name="x"), after, format="peft")

    once, twice = (weights(folder) for folder in folders[1:])
    assert once.keys() == twice.keys()
    assert all(torch.equal(once[key], twice[key]) for key in once)


@pytest.mark.parametrize("name", ["bert", "distilbert"])
def test_it_scales_what_goes_into_a_layer(name, inputs):
    adapted = make_adapted(name, [METHOD])
    path = {"bert": "encoder.layer.1.output.dense", "distilbert": "transformer.layer.1.ffn.lin2"}
    seen = []
    layer = adapted.model.get_submodule(path[name])
    layer.register_forward_hook(lambda _m, args, _o: seen.append(args[0]))
    before = copy.deepcopy(adapted.adapters["a"].state_dict())
    fresh = {key: torch.ones_like(value) for key, value in before.items()}
    adapted.activate("a")
    adapted.adapters["a"].load_state_dict(fresh)
    hidden(adapted, inputs)
    place = next(key for key in before if key.startswith("places.1 output"))

    adapted.adapters["a"].load_state_dict(fresh | {place: before[place]})
    hidden(adapted, inputs)

    assert torch.equal(seen[1], seen[0] * before[place].flatten())


@pytest.mark.parametrize("make", [make_model, gpt2, llama], ids=["bert", "gpt2", "llama"])
def test_folding_gives_the_same_numbers_and_unfolding_the_same_bits(make, inputs):
    inputs = {"input_ids": inputs["input_ids"]}
    adapted = compose.attach(make())
    base = hidden(adapted, inputs)
    adapted.add("a", METHOD)
    randomise(adapted.adapters["a"])
    adapted.activate("a")
    expected = hidden(adapted, inputs)
    adapted.deactivate()

    adapted.fold("a")
    folded = hidden(adapted, inputs)
    adapted.unfold()

    assert (folded - expected).abs().max() <= TOLERANCE
    assert torch.equal(hidden(adapted, inputs), base)


@pytest.mark.parametrize("other", [METHOD, "ia3", "lora[output_lora=True]", "seq_bn"])
def test_rows_side_by_side_are_as_each_alone(other, inputs):
    adapted = make_adapted("bert", [METHOD, other])
    alone = []
    for name in "ab":
        adapted.activate(name)
        alone.append(hidden(adapted, inputs))

    adapted.activate("parallel(a, b)")
    copied = hidden(adapted, inputs)
    adapted.activate("batchsplit(a, b; batch_sizes=[1, 2])")
    split = hidden(adapted, inputs)

    assert (copied - torch.cat(alone)).abs().max() <= TOLERANCE
    assert (split - torch.cat([alone[0][:1], alone[1][1:]])).abs().max() <= TOLERANCE


def test_rows_can_name_it(inputs):
    adapted = make_adapted("bert", [METHOD, METHOD])
    base = hidden(adapted, inputs)
    alone = []
    for name in "ab":
        adapted.activate(name)
        alone.append(hidden(adapted, inputs))

    adapted.activate_rows(["a", "b"])
    mixed = adapted(**inputs, adapters=["b", None, "a"]).last_hidden_state

    expected = torch.stack([alone[1][0], base[1], alone[0][2]])
    assert (mixed - expected).abs().max() <= TOLERANCE


def test_a_mean_of_two_is_one_of_their_mean_factors(inputs):
    adapted = make_adapted("bert", [METHOD, METHOD, METHOD])
    a, b = (adapted.adapters[name].state_dict() for name in "ab")
    adapted.adapters["c"].load_state_dict({key: (a[key] + b[key]) / 2 for key in a})
    adapted.activate("average(a, b)")

    averaged = hidden(adapted, inputs)

    adapted.activate("c")
    assert (averaged - hidden(adapted, inputs)).abs().max() <= TOLERANCE


def test_it_starts_as_the_base_and_gradients_reach_it_alone(inputs):
    adapted = make_adapted("bert")
    base = hidden(adapted, inputs)
    adapted.add("a", METHOD)
    adapted.trainable("a")
    adapted.activate("a")

    adapted(**inputs).last_hidden_state.square().sum().backward()

    own = {id(parameter) for parameter in adapted.adapters["a"].parameters()}
    reached = {id(p) for p in adapted.model.parameters() if p.grad is not None}
    assert torch.equal(hidden(adapted, inputs), base)
    assert reached <= own
    assert all(p.grad is not None for p in adapted.adapters["a"].parameters())


@pytest.mark.parametrize("make", [make_model, gpt2, llama], ids=["bert", "gpt2", "llama"])
def test_it_compiles_whole(make, inputs):
    torch.compiler.reset()
    adapted = compose.attach(make())
    adapted.add("a", METHOD)
    randomise(adapted.adapters["a"])
    adapted.activate("a")
    expected = hidden(adapted, inputs)
    compiled = torch.compile(adapted, fullgraph=True, backend="eager")

    with torch.no_grad():
        found = compiled(**inputs).last_hidden_state

    assert (found - expected).abs().max() <= TOLERANCE


def test_it_comes_back_from_our_own_folder_bit_for_bit(tmp_path, inputs):
    adapted = make_adapted("bert", [METHOD])
    adapted.activate("a")
    adapted.save("a", tmp_path)
    again = make_adapted("bert")

    again.activate(again.load(tmp_path))

    assert torch.equal(hidden(again, inputs), hidden(adapted, inputs))
    assert "scaled_inputs" in formats.parse(METHOD).to_dict()


@pytest.mark.parametrize("composition", ["stack(a, b)", "stack(b, a)", "average(a, b)"])
@pytest.mark.parametrize(
    "other", ["ia3[output_lora=True]", "lora[output_lora=True, selfattn_lora=False]"]
)
def test_inputs_and_outputs_of_one_layer_do_not_mix(composition, other, inputs):
    adapted = make_adapted("bert", [METHOD, other])
    base = hidden(adapted, inputs)

    with pytest.raises(CompositionError, match="scale what goes into a layer"):
        adapted.activate(composition)

    assert torch.equal(hidden(adapted, inputs), base)


@pytest.mark.parametrize(
    ("method", "fact"),
    [
        pytest.param("ia3[scaled_inputs=['output']]", "puts no adapter", id="nothing there"),
        pytest.param("lora[scaled_inputs=['output']]", "composition_mode='add'", id="lora"),
        pytest.param("ia3[scaled_inputs=['key']]", "malformed", id="an attention's layer"),
    ],
)
def test_inputs_that_cannot_be_scaled_are_refused(method, fact):
    adapted = make_adapted("bert")

    with pytest.raises(CompositionError, match=fact):
        adapted.add("x", method)

    assert not adapted.adapters


def test_a_width_of_its_own_cannot_be_moved_into_values(tmp_path, inputs):
    """Fewer values than heads: one factor of a value would be that of several features."""
    written_by_peft(tmp_path, llama(), ia3(["v_proj", "o_proj"], ["o_proj"]))
    adapted = compose.attach(llama())
    base = answer(adapted, inputs)

    with pytest.raises(CompositionError, match=r"self_attn\.o_proj"):
        adapted.load(tmp_path)

    assert torch.equal(answer(adapted, inputs), base)
