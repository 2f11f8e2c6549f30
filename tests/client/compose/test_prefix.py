"""Prefix tuning: keys and values before the input's own, in whatever attention function the model uses."""

import copy

import msgspec
import pytest
import torch
import transformers

from adapterhub_client import compose
from adapterhub_client.compose import caches
from adapterhub_client.compose.sites import rows, spots
from adapterhub_client.errors import CompositionError

from .conftest import hidden, make_adapted, make_model, randomise
from .small_models import T5_HAS_PREFIXES, adapted_of, batch_of

NETWORK = "prefix_tuning[prefix_length=3, bottleneck_size=5]"
FLAT = "prefix_tuning_flat[prefix_length=3]"
LONG = "prefix_tuning_flat[prefix_length=5]"
METHODS = [
    pytest.param(NETWORK, id="network"),
    pytest.param(FLAT, id="flat"),
    pytest.param("prefix_tuning_flat[prefix_length=2, use_gating=True]", id="gated"),
    pytest.param(
        "prefix_tuning[prefix_length=2, bottleneck_size=4, use_gating=True, shared_gating=False]",
        id="two gates",
    ),
    pytest.param("prefix_tuning_flat[prefix_length=3, leave_out=[0]]", id="one layer"),
    pytest.param(
        "prefix_tuning[prefix_length=3, bottleneck_size=5]|par_bn[reduction_factor=4]", id="mam"
    ),
]
LLAMA = {
    "vocab_size": 96,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "pad_token_id": 0,
}


def llama(implementation="sdpa"):
    torch.manual_seed(7)
    config = transformers.LlamaConfig(**LLAMA, attn_implementation=implementation)
    model = transformers.AutoModel.from_config(config, attn_implementation=implementation)
    return randomise(model, seed=3, std=0.2).eval()


def kept(model):
    """What of a model could have been changed."""
    return [(module, module.__dict__.get("config")) for module in model.modules()]


@pytest.mark.parametrize("method", METHODS)
def test_eager_and_sdpa_agree(architecture, method, inputs):
    outputs = []
    for implementation in ("eager", "sdpa"):
        adapted = make_adapted(architecture, [method], attn_implementation=implementation)
        before = hidden(adapted, inputs)
        adapted.activate("a")
        outputs.append(hidden(adapted, inputs))
        assert (outputs[-1] - before).abs().max() > 0.01

    torch.testing.assert_close(*outputs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("masked", [True, False])
def test_a_causal_model_sees_the_prefix_and_no_future(masked, inputs):
    if not masked:
        del inputs["attention_mask"]
    outputs = []
    for implementation in ("eager", "sdpa"):
        adapted = compose.attach(llama(implementation))
        adapted.add("a", FLAT)
        randomise(adapted.adapters["a"], seed=5)
        before = hidden(adapted, inputs)
        adapted.activate("a")
        outputs.append(hidden(adapted, inputs))
        assert (outputs[-1][:, 0] - before[:, 0]).abs().max() > 0.01
        shorter = {name: value[:, :4] for name, value in inputs.items()}
        torch.testing.assert_close(hidden(adapted, shorter), outputs[-1][:, :4], atol=1e-5, rtol=0)

    torch.testing.assert_close(*outputs, atol=1e-5, rtol=0)


def test_with_a_cache_the_prefix_stays_in_front(inputs):
    adapted = compose.attach(llama())
    adapted.add("a", FLAT)
    randomise(adapted.adapters["a"], seed=5)
    adapted.activate("a")
    ids = inputs["input_ids"]
    whole = hidden(adapted, {"input_ids": ids})

    with torch.no_grad():
        first = adapted(input_ids=ids[:, :6], use_cache=True)
        then = adapted(input_ids=ids[:, 6:], **{caches.NAME: first[caches.NAME]})

    torch.testing.assert_close(then.last_hidden_state, whole[:, 6:], atol=1e-5, rtol=0)


def test_a_prefix_is_a_key_and_a_value_for_every_token(inputs):
    adapted = make_adapted("bert", [FLAT], num_hidden_layers=1)
    module = adapted.model.encoder.layer[0].attention.self
    seen = []
    module.register_forward_hook(lambda _m, args, out: seen.append((args[0], out[0])))
    adapted.activate("a")
    inputs = {"input_ids": inputs["input_ids"]}
    hidden(adapted, inputs)
    states, output = seen[0]
    prefix = adapted.adapters["a"].places["prefix"].parts["self_prefix"].control_trans
    prefix = prefix.view(3, 2, 4, 8).permute(1, 2, 0, 3)

    with torch.no_grad():
        query, key, value = (
            linear(states).view(3, 10, 4, 8).transpose(1, 2)
            for linear in (module.query, module.key, module.value)
        )
        key, value = (
            torch.cat([p.expand(3, -1, -1, -1), given], dim=2)
            for p, given in zip(prefix, (key, value), strict=True)
        )
        weights = (query @ key.mT / 8**0.5).softmax(-1)
        expected = (weights @ value).transpose(1, 2).reshape(3, 10, 32)

    torch.testing.assert_close(output, expected, atol=1e-5, rtol=0)


# A gate is the mean over all tokens, also those of padding.
@pytest.mark.parametrize("method", [m for m in METHODS if "gat" not in m.id])
def test_padding_changes_nothing(architecture, method, inputs):
    adapted = make_adapted(architecture, [method])
    adapted.activate("a")

    padded = hidden(adapted, {name: value[1:2] for name, value in inputs.items()})
    short = hidden(adapted, {"input_ids": inputs["input_ids"][1:2, :7]})

    torch.testing.assert_close(padded[:, :7], short, atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("masked", [True, False])
def test_a_row_of_parallel_branches_is_its_branch_alone(architecture, method, masked, inputs):
    adapted = make_adapted(architecture, [method, method, "seq_bn"])
    if not masked:
        del inputs["attention_mask"]
    alone = []
    for name in "abc":
        adapted.activate(name)
        alone.append(hidden(adapted, inputs))

    adapted.activate("parallel(a, b)")
    alike = hidden(adapted, inputs)
    adapted.activate("parallel(a, c, b)")
    unlike = hidden(adapted, inputs)

    torch.testing.assert_close(alike, torch.cat(alone[:2]), atol=1e-5, rtol=0)
    expected = torch.cat([alone[0], alone[2], alone[1]])
    torch.testing.assert_close(unlike, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("pair", [(FLAT, LONG), (NETWORK, FLAT), (FLAT, "seq_bn")])
def test_a_batch_split_is_its_runs_joined(implementation, pair, inputs):
    adapted = make_adapted("bert", pair, attn_implementation=implementation)
    joined = []
    for name, part in zip("ab", torch.arange(3).split([1, 2]), strict=True):
        adapted.activate(name)
        joined.append(hidden(adapted, {n: v[part] for n, v in inputs.items()}))

    adapted.activate("batchsplit(a, b; batch_sizes=[1, 2])")

    torch.testing.assert_close(hidden(adapted, inputs), torch.cat(joined), atol=1e-5, rtol=0)


def test_in_a_stack_the_last_prefix_stands_first(inputs):
    adapted = make_adapted("bert", [FLAT, LONG])
    joined = "prefix_tuning_flat[prefix_length=8]"
    adapted.add("c", joined)
    parts = [adapted.adapters[n].places["prefix"].parts["self_prefix"] for n in "cba"]
    with torch.no_grad():
        both = torch.cat([part.control_trans for part in parts[1:]])
        parts[0].control_trans.copy_(both)
    adapted.activate("c")
    expected = hidden(adapted, inputs)

    adapted.activate("stack(a, b)")

    torch.testing.assert_close(hidden(adapted, inputs), expected, atol=1e-5, rtol=0)


def test_in_a_stack_with_branches_each_has_the_shared_prefix(inputs):
    adapted = make_adapted("bert", [FLAT, LONG, LONG])
    alone = []
    for name in "bc":
        adapted.activate(f"stack(a, {name})")
        alone.append(hidden(adapted, inputs))

    adapted.activate("stack(a, parallel(b, c))")

    torch.testing.assert_close(hidden(adapted, inputs), torch.cat(alone), atol=1e-5, rtol=0)


@pytest.mark.parametrize("composition", ["average(a, b)", "split(a, b; splits=[5, 5])"])
def test_blocks_without_a_meaning_are_refused(composition, inputs):
    adapted = make_adapted("bert", [FLAT, FLAT])
    before = hidden(adapted, inputs)

    with pytest.raises(CompositionError, match="prefixes"):
        adapted.activate(composition)

    assert torch.equal(hidden(adapted, inputs), before)


def test_skipped_layers_have_no_prefix(inputs):
    adapted = make_adapted("bert", [FLAT])
    before = hidden(adapted, inputs)

    adapted.activate("a", skip_layers=[0, 1])

    assert torch.equal(hidden(adapted, inputs), before)


@pytest.mark.parametrize("method", METHODS)
def test_detaching_gives_the_base_back_bit_for_bit(architecture, method, inputs):
    model = make_model(architecture)
    configs, settings = kept(model), copy.deepcopy(model.config.to_dict())
    adapted = compose.attach(model)
    before = hidden(adapted, inputs)
    adapted.add("a", method)
    adapted.activate("a")
    hidden(adapted, inputs)

    adapted.detach()

    assert all(now is then for (_, now), (_, then) in zip(kept(model), configs, strict=True))
    assert model.config.to_dict() == settings
    with torch.no_grad():
        assert torch.equal(model(**inputs).last_hidden_state, before)


def test_a_model_with_the_same_config_object_is_left_alone(inputs):
    model = make_model("bert")
    other = transformers.BertModel(model.config).eval()
    other.load_state_dict(model.state_dict())
    adapted = compose.attach(model)
    before = hidden(adapted, inputs)
    adapted.add("a", FLAT)

    adapted.activate("a")

    assert (hidden(adapted, inputs) - before).abs().max() > 0.01
    with torch.no_grad():
        assert torch.equal(other(**inputs).last_hidden_state, before)


def test_the_model_can_change_its_attention_meanwhile(inputs):
    adapted = make_adapted("bert", [FLAT], attn_implementation="eager")
    adapted.activate("a")
    eager = hidden(adapted, inputs)

    adapted.model.set_attn_implementation("sdpa")

    torch.testing.assert_close(hidden(adapted, inputs), eager, atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_it_comes_back_from_a_folder_bit_for_bit(architecture, method, tmp_path, inputs):
    adapted = make_adapted(architecture, [method])
    adapted.activate("a")
    before = hidden(adapted, inputs)
    adapted.save("a", tmp_path / "a")

    again = compose.attach(make_model(architecture))
    again.load(tmp_path / "a", name="other")
    again.activate("other")

    assert torch.equal(hidden(again, inputs), before)


def test_the_other_format_has_every_name_and_every_number_once(tmp_path, inputs):
    adapted = make_adapted("bert", [NETWORK])
    adapted.activate("a")
    before = hidden(adapted, inputs)
    adapted.save("a", tmp_path / "a", format="bin")

    written = torch.load(tmp_path / "a" / "pytorch_adapter.bin", weights_only=True)
    again = compose.attach(make_model())
    again.load(tmp_path / "a")
    again.activate("a")

    assert len(written) == 3 * 5
    assert len({tensor.data_ptr() for tensor in written.values()}) == 5
    assert torch.equal(hidden(again, inputs), before)


@pytest.mark.parametrize("method", METHODS)
def test_gradients_reach_all_of_it_and_nothing_else(method, inputs):
    adapted = make_adapted("bert", [method])
    adapted.activate("a")
    adapted.trainable("a")

    adapted(**inputs).last_hidden_state.square().mean().backward()

    reached = {name for name, p in adapted.named_parameters() if p.grad is not None}
    own = {name for name, _ in adapted.named_parameters() if name.startswith("shelf.parts")}
    assert reached == own


@pytest.mark.parametrize("method", METHODS[:4])
def test_its_gradients_are_those_of_finite_differences(method, inputs):
    adapted = make_adapted("bert", [method])
    adapted.double()
    adapted.activate("a")
    adapted.trainable("a")
    adapted.eval()

    def loss():
        return adapted(**inputs).last_hidden_state.square().mean()

    loss().backward()
    for weight in adapted.adapters["a"].parameters():
        at = weight.flatten().shape[0] // 2
        with torch.no_grad():
            weight.view(-1)[at] += 1e-5
            higher = loss()
            weight.view(-1)[at] -= 2e-5
            lower = loss()
            weight.view(-1)[at] += 1e-5
        found = (higher - lower) / 2e-5
        torch.testing.assert_close(weight.grad.view(-1)[at], found, atol=1e-8, rtol=1e-5)


def test_the_network_runs_once_a_pass_in_training_and_never_while_frozen(inputs):
    adapted = make_adapted("bert", [NETWORK])
    adapted.activate("a")
    runs = []
    part = adapted.adapters["a"].places["prefix"].parts["self_prefix"]
    part.second.register_forward_hook(lambda *_: runs.append(1))
    adapted.adapters["a"].requires_grad_(requires_grad=False)
    hidden(adapted, inputs)
    frozen = len(runs)
    hidden(adapted, inputs)

    assert len(runs) == frozen <= 1

    adapted.trainable("a")
    runs.clear()
    for _ in range(2):
        adapted(**inputs).last_hidden_state.sum().backward()
    assert len(runs) == 2


@pytest.mark.parametrize("method", [METHODS[0], METHODS[3], METHODS[5]])
def test_ejecting_keeps_every_bit(method, tmp_path, inputs):
    adapted = make_adapted("bert", [method])
    adapted.activate("a")
    before = hidden(adapted, inputs)

    with pytest.raises(CompositionError, match="active"):
        adapted.eject("a")
    adapted.deactivate()
    adapted.eject("a")

    adapted.activate("a")
    assert torch.equal(hidden(adapted, inputs), before)
    adapted.save("a", tmp_path / "a")
    again = compose.attach(make_model())
    again.load(tmp_path / "a")
    again.activate("a")
    assert torch.equal(hidden(again, inputs), before)


@pytest.mark.parametrize("method", [FLAT, "seq_bn"])
def test_only_networks_can_be_ejected(method):
    adapted = make_adapted("bert", [method])

    with pytest.raises(CompositionError, match="no prefixes that a network makes"):
        adapted.eject("a")


def deberta():
    config = transformers.DebertaV2Config(
        vocab_size=96,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=40,
    )
    return transformers.AutoModel.from_config(config)


@pytest.mark.filterwarnings("ignore:`torch.jit.script`")  # older versions of the model import it
def test_models_without_a_place_for_prefixes_are_refused():
    adapted = compose.attach(deberta())

    with pytest.raises(CompositionError, match="no attention that takes prefixes"):
        adapted.add("a", FLAT)

    assert not adapted.adapters


@pytest.mark.filterwarnings("ignore:`torch.jit.script`")  # older versions of the model import it
def test_attentions_that_compute_by_themselves_are_refused(monkeypatch):
    model = deberta()
    attention = spots.Attention(name="self_prefix", path="attention.self", key="attention.self")
    row = rows.ARCHITECTURES["deberta-v2"]
    layers = msgspec.structs.replace(row.stacks[0], spots=(*row.stacks[0].spots, attention))
    changed = msgspec.structs.replace(row, stacks=(layers,))
    monkeypatch.setitem(rows.ARCHITECTURES, "deberta-v2", changed)
    adapted = compose.attach(model)

    with pytest.raises(CompositionError, match="computes its attention by itself"):
        adapted.add("a", FLAT)

    assert not adapted.adapters


SPLIT = "batchsplit(a, b; batch_sizes=[2, 1])"
STACKED = "batchsplit(stack(a, c), stack(b, c); batch_sizes=[2, 1])"


# Not two lengths in parallel: as in the reference library, what fills up the shorter one is seen there.
@pytest.mark.parametrize(
    ("methods", "composition"),
    [
        (("flat prefix", "seq_bn"), "parallel(a, b)"),
        (("seq_bn", "flat prefix"), "parallel(a, b)"),
        (("flat prefix", "seq_bn"), SPLIT),
        (("flat prefix", LONG), SPLIT),
        ((LONG, "flat prefix", "prefix"), STACKED),
    ],
)
def test_a_prefix_moves_the_position_bias_of_its_own_rows_only(methods, composition):
    if not T5_HAS_PREFIXES:
        with pytest.raises(CompositionError, match="computes its attention by itself"):
            adapted_of("t5", methods)
        return
    adapted, inputs = adapted_of("t5", methods), batch_of("t5")
    parts = []
    for name in "ab":
        adapted.activate(f"stack({name}, c)" if composition == STACKED else name)
        parts.append(hidden(adapted, inputs))
    adapted.activate(composition)

    if composition.startswith("batchsplit"):
        parts = [parts[0][:2], parts[1][2:]]
    torch.testing.assert_close(hidden(adapted, inputs), torch.cat(parts), atol=1e-5, rtol=0)
