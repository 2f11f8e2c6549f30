"""AdapterFusion: folded, compiled and the formula of the paper written out are the same."""

import pytest
import torch
from torch.nn import functional

from adapterhub_client.compose.engine.fusion import FusionLayer, Member, Mixture
from adapterhub_client.compose.methods.bottleneck import BottleneckAdapter
from adapterhub_client.errors import CompositionError
from adapterhub_client.formats import method as formats

from .conftest import fused, hidden, make_adapted, randomise

FEATURES = 24
CPU = torch.device("cpu")
FUSIONS = [
    pytest.param({}, id="dynamic"),
    pytest.param({"value": False}, id="static"),
    pytest.param({"query": False}, id="no query"),
    pytest.param({"key": False}, id="no key"),
    pytest.param({"value_before_softmax": False}, id="value afterwards"),
    pytest.param({"temperature": True}, id="with temperature"),
]
MEMBERS = [
    pytest.param([("relu", 6, 1.0)], id="one"),
    pytest.param([("relu", 6, 1.0), ("relu", 6, 1.0), ("relu", 6, 1.0)], id="alike"),
    pytest.param([("tanh", 6, 1.0), ("gelu", 6, 1.0), ("tanh", 6, 2.5)], id="other activations"),
    pytest.param([("relu", 4, 1.0), ("gelu", 9, "channel"), ("relu", 7, "learned")], id="widths"),
]


def make_adapter(non_linearity="relu", width=6, scaling=1.0, seed=0, dtype=torch.float64):
    config = formats.read(
        formats.SEQ_BN.to_dict() | {"non_linearity": non_linearity, "scaling": scaling}
    )
    return randomise(BottleneckAdapter(config, FEATURES, width, CPU, dtype), seed=seed)


def make_mixture(members, config=None, dtype=torch.float64):
    adapters = [make_adapter(*member, seed=n, dtype=dtype) for n, member in enumerate(members)]
    layer = FusionLayer(formats.read_fusion(config or {}), FEATURES, 0.0, CPU, dtype)
    mixture = Mixture(
        randomise(layer, seed=50).eval(),
        [Member(str(n), adapter.eval()) for n, adapter in enumerate(adapters)],
    )
    return mixture, adapters


def tokens(*shape, seed=1, dtype=torch.float64):
    return torch.randn(*shape, FEATURES, generator=torch.Generator().manual_seed(seed)).to(dtype)


def as_in_the_paper(layer, adapters, hidden_states, query):
    """Every step at full width, nothing folded."""
    ups = []
    for adapter in adapters:
        scale = adapter.factor if adapter.scaling is None else adapter.scaling
        code = adapter.act(functional.linear(hidden_states, adapter.down.weight, adapter.down.bias))
        ups.append(functional.linear(code, adapter.up.weight, adapter.up.bias) * scale)
    values = torch.stack(ups, dim=-2)
    keys = values if layer.key is None else layer.key(values)
    queries = query if layer.query is None else layer.query(query)
    scores = (keys * queries.unsqueeze(-2)).sum(-1)
    temperature = layer.temperature if layer.config.temperature else 1.0
    weights = (scores / temperature).softmax(-1)
    if layer.value is not None:
        values = layer.value(values)
    return (values * weights.unsqueeze(-1)).sum(-2), weights


@pytest.mark.parametrize("config", FUSIONS)
@pytest.mark.parametrize("members", MEMBERS)
def test_compiled_and_folded_are_the_formula_of_the_paper(members, config):
    mixture, adapters = make_mixture(members, config)
    states, query = tokens(2, 5), tokens(2, 5, seed=2)

    with torch.no_grad():
        expected, weights = as_in_the_paper(mixture.layer, adapters, states, query)
        compiled = mixture._from_compiled(states, query, [])  # noqa: SLF001
        compiled_weights = mixture.attention()
        folded = mixture._folded(states, query, [])  # noqa: SLF001

    torch.testing.assert_close(compiled, expected, atol=1e-12, rtol=1e-9)
    torch.testing.assert_close(folded, expected, atol=1e-12, rtol=1e-9)
    torch.testing.assert_close(compiled_weights, weights, atol=1e-6, rtol=0)
    torch.testing.assert_close(mixture.attention(), weights, atol=1e-6, rtol=0)


def test_one_product_does_for_input_and_query_when_they_are_the_same():
    mixture, adapters = make_mixture([("tanh", 6, 1.0), ("relu", 6, 1.0)])
    states = tokens(2, 5)

    with torch.no_grad():
        expected, _ = as_in_the_paper(mixture.layer, adapters, states, states)

        torch.testing.assert_close(mixture.mix(states, states, []), expected, atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("members", MEMBERS)
def test_gradients_of_both_forms_are_those_of_the_formula(members):
    mixture, adapters = make_mixture(members)
    states, query = tokens(2, 5), tokens(2, 5, seed=2)
    parts = [p for a in adapters for p in a.parameters()]
    parts += [mixture.layer.query.weight, mixture.layer.query.bias]
    parts += [mixture.layer.key.weight, mixture.layer.value.weight]

    def gradients(output):
        return torch.autograd.grad((output * tokens(2, 5, seed=9)).sum(), parts)

    expected = gradients(as_in_the_paper(mixture.layer, adapters, states, query)[0])
    for form in (mixture._from_compiled, mixture._formed, mixture._folded):  # noqa: SLF001
        for ours, theirs in zip(gradients(form(states, query, [])), expected, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-7)


def test_training_compiles_only_where_the_batch_pays_for_it():
    mixture, _ = make_mixture([("relu", 6, 1.0)] * 3)

    assert mixture._pays_to_fold(tokens(1, 4))  # noqa: SLF001
    assert not mixture._pays_to_fold(tokens(16, 128))  # noqa: SLF001


def test_a_frozen_fusion_is_compiled_once():
    mixture, _ = make_mixture([("relu", 6, 1.0)] * 2)

    with torch.no_grad():
        first, second = mixture.compiled(), mixture.compiled()

    assert first is second


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda layer: layer.value.weight.mul_(2), id="in place"),
        pytest.param(lambda layer: layer.load_state_dict(layer.state_dict()), id="load"),
        pytest.param(lambda layer: torch.nn.init.zeros_(layer.query.weight), id="init"),
    ],
)
def test_a_changed_parameter_compiles_anew(change):
    mixture, adapters = make_mixture([("relu", 6, 1.0)] * 2)
    states = tokens(2, 5)

    with torch.no_grad():
        before = mixture.compiled()
        change(mixture.layer)
        expected, _ = as_in_the_paper(mixture.layer, adapters, states, states)

        assert mixture.compiled() is not before
        torch.testing.assert_close(mixture.mix(states, states, []), expected, atol=1e-12, rtol=1e-9)


def test_an_optimizer_step_compiles_anew(inputs):
    adapted = make_adapted("bert", ["seq_bn", "seq_bn"])
    fused(adapted, "a", "b")
    adapted.activate("fuse(a, b)")
    before = hidden(adapted, inputs)
    adapted.trainable("a,b")
    optimizer = torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], lr=1.0)
    adapted(**inputs).last_hidden_state[..., 0].sum().backward()

    optimizer.step()

    after = hidden(adapted, inputs)
    adapted.activate("fuse(a, b)")
    assert (after - before).abs().max() > 1e-3
    assert torch.equal(hidden(adapted, inputs), after)


def test_what_inference_mode_compiled_can_be_trained_through(inputs):
    adapted = make_adapted("bert", ["seq_bn", "seq_bn"])
    fused(adapted, "a", "b")
    adapted.add_head("top", labels=["x", "y"])
    adapted.activate("fuse(a, b)", head="top")
    with torch.inference_mode():
        adapted(**inputs)
    adapted.trainable("a", heads=["top"])

    adapted(**inputs, labels=torch.tensor([0, 1, 0])).loss.backward()

    assert adapted.adapters["a"].places["0 output_adapter"].down.weight.grad.abs().max() > 0


@pytest.mark.parametrize("count", [2, 5])
def test_attention_is_given_per_layer_and_token_and_sums_to_one(count, inputs):
    adapted = make_adapted("bert", ["seq_bn"] * count)
    names = "abcdefgh"[:count]
    fused(adapted, *names)
    adapted.activate(f"fuse({', '.join(names)})")
    hidden(adapted, inputs)

    seen = adapted.attention()

    assert [(w.fusion, w.layer, w.place) for w in seen] == [
        (",".join(names), 0, "output_adapter"),
        (",".join(names), 1, "output_adapter"),
    ]
    assert seen[0].adapters == tuple(names)
    assert seen[0].weights.shape == (3, 10, count)
    torch.testing.assert_close(seen[1].weights.sum(-1), torch.ones(3, 10))


def test_attention_columns_stay_with_their_adapters_however_they_are_grouped(inputs):
    """The non-linearities sort the members otherwise than the expression does."""
    methods = [f"seq_bn[non_linearity='{name}']" for name in ("tanh", "gelu", "relu")]
    adapted = make_adapted("bert", methods)
    fused(adapted, "a", "b", "c")
    adapted.activate("fuse(a, b, c)")
    hidden(adapted, inputs)
    forwards = adapted.attention()[0].weights
    adapted.add_fusion("c", "b", "a")
    adapted.fusions["c,b,a"].load_state_dict(adapted.fusions["a,b,c"].state_dict())

    adapted.activate("fuse(c, b, a)")
    hidden(adapted, inputs)

    assert adapted.attention()[0].adapters == ("c", "b", "a")
    torch.testing.assert_close(adapted.attention()[0].weights, forwards.flip(-1), atol=1e-5, rtol=0)


def test_a_stack_in_a_fusion_starts_from_the_stream_itself(inputs):
    """What its last adapter reads is what it reads in the stack alone, without a norm applied twice."""
    adapted = make_adapted("bert", ["seq_bn[leave_out=[1]]", "seq_bn[leave_out=[1]]"])
    fused(adapted, "b", config="static")
    seen = []
    inner = adapted.adapters["b"].places["0 output_adapter"]
    adapted.activate("stack(a, b)")
    handle = inner.down.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    hidden(adapted, inputs)

    adapted.activate("fuse(stack(a, b))")
    hidden(adapted, inputs)

    handle.remove()
    torch.testing.assert_close(seen[1], seen[0], atol=1e-5, rtol=0)


def test_the_reference_reading_of_a_stack_in_a_fusion_is_another(inputs):
    adapted = make_adapted("bert", ["seq_bn", "seq_bn", "seq_bn"])
    fused(adapted, "b", "c")
    adapted.activate("fuse(stack(a, b), c)")
    ours = hidden(adapted, inputs)

    adapted.activate("fuse(stack(a, b), c)", compat="adapters")

    assert (hidden(adapted, inputs) - ours).abs().max() > 1e-2


def test_a_fusion_inside_a_stack_mixes_what_the_stack_hands_it(inputs):
    adapted = make_adapted("bert", ["seq_bn", "seq_bn"])
    fused(adapted, "b", config="static")
    adapted.activate("stack(a, b)")
    stacked = hidden(adapted, inputs)

    adapted.activate("stack(a, fuse(b))")

    torch.testing.assert_close(hidden(adapted, inputs), stacked, atol=1e-5, rtol=0)


def test_a_query_from_before_the_norm_reads_the_block_itself(inputs):
    adapted = make_adapted("bert", ["seq_bn", "seq_bn"])
    fused(adapted, "a", "b", config={"query_before_ln": True})
    adapted.activate("fuse(a, b)")
    before = hidden(adapted, inputs)
    adapted.add_fusion("a", "b", name="usual")
    adapted.fusions["usual"].load_state_dict(adapted.fusions["a,b"].state_dict())

    adapted.activate("fuse(a, b; name='usual')")

    assert (hidden(adapted, inputs) - before).abs().max() > 1e-3


def test_a_new_fusion_starts_with_values_near_the_identity():
    adapted = make_adapted("bert", ["seq_bn", "seq_bn"])

    adapted.add_fusion("a", "b")

    value = next(adapted.fusions["a,b"].layers()).value.weight
    assert torch.equal(value.diagonal(), torch.ones(32))
    assert value[0, 1].item() == pytest.approx(1e-6)


def test_the_temperature_falls_while_training_and_only_then(inputs):
    adapted = make_adapted("bert", ["seq_bn", "seq_bn"])
    fused(adapted, "a", "b", config={"temperature": True})
    adapted.activate("fuse(a, b)")
    layer = next(adapted.fusions["a,b"].layers())
    hidden(adapted, inputs)
    cold = layer.temperature.item()

    adapted.train()
    hidden(adapted, inputs)

    assert cold == 50.0
    assert layer.temperature.item() == pytest.approx(49.95)


def test_the_penalty_is_the_distance_of_the_values_from_the_identity():
    adapted = make_adapted("bert", ["seq_bn", "seq_bn"])
    fused(adapted, "a", "b")
    adapted.trainable("a,b")
    values = [layer.value.weight for layer in adapted.fusions["a,b"].layers()]

    penalty = adapted.regularization()

    expected = sum(0.01 * torch.linalg.matrix_norm(torch.eye(32) - value) ** 2 for value in values)
    torch.testing.assert_close(penalty, expected)
    assert penalty.requires_grad


def test_a_fusion_that_was_never_added_is_refused():
    adapted = make_adapted("bert", ["seq_bn", "seq_bn"])

    with pytest.raises(CompositionError, match="There is no fusion named 'a,b'"):
        adapted.activate("fuse(a, b)")


def test_a_fusion_without_any_projection_is_refused():
    adapted = make_adapted("bert", ["seq_bn", "seq_bn"])

    with pytest.raises(CompositionError, match="without query, key and value"):
        adapted.add_fusion("a", "b", config={"key": False, "query": False, "value": False})
