"""Compacter: projections made of small matrices, which behave as the linear layers they stand for."""

import pytest
import torch

from adapterhub_client import compose
from adapterhub_client.compose.methods.bottleneck import BottleneckAdapter, kept_rows
from adapterhub_client.compose.methods.phm import Matrices, PhmLinear
from adapterhub_client.errors import CompositionError

from .conftest import fused, hidden, make_adapted, make_model

SMALL = "reduction_factor=4, phm_dim=2"
OPTIONS = [
    pytest.param("", id="compacter"),
    pytest.param("phm_rank=2", id="rank two"),
    pytest.param("factorized_phm_W=False", id="whole matrices"),
    pytest.param("shared_W_phm=True", id="shared matrices"),
    pytest.param("shared_W_phm=True, factorized_phm_W=False", id="shared whole matrices"),
    pytest.param("shared_phm_rule=False", id="own rule"),
    pytest.param("factorized_phm_rule=True", id="factorized rule"),
    pytest.param("shared_phm_rule=False, factorized_phm_rule=True", id="own factorized rule"),
    pytest.param("phm_bias=False", id="no bias"),
    pytest.param("ln_before=True, use_gating=True", id="own norm and gate"),
]


def method(options, name="compacter"):
    return f"{name}[{SMALL}{', ' if options else ''}{options}]"


def projections(adapted, name="a"):
    return [m for m in adapted.adapters[name].modules() if isinstance(m, PhmLinear)]


@pytest.mark.parametrize("options", OPTIONS)
def test_the_weight_is_the_sum_of_kronecker_products(options):
    adapted = make_adapted("bert", [method(options)])

    for layer in projections(adapted):
        shared = layer.shared or layer.own
        rule = (shared if layer.config.shared_phm_rule else layer.own).product("phm_rule")
        name = f"W_{layer.position}" if layer.config.shared_W_phm else "W"
        matrices = (shared if layer.config.shared_W_phm else layer.own).product(name)
        expected = sum(torch.kron(a, b) for a, b in zip(rule, matrices, strict=True)).T
        torch.testing.assert_close(layer.weight, expected)


def test_the_weight_is_made_once_while_it_is_frozen():
    adapted = make_adapted("bert", [method("")])
    adapted.adapters["a"].requires_grad_(requires_grad=False)
    layer = projections(adapted)[0]

    assert layer.weight is layer.weight

    before = layer.weight
    with torch.no_grad():
        layer.shared.phm_rule.mul_(2)
    torch.testing.assert_close(layer.weight, before * 2)


@pytest.mark.parametrize("options", OPTIONS)
def test_gradients_reach_every_matrix_and_agree_with_finite_differences(options):
    adapted = make_adapted("bert", [method(options)])
    layer = projections(adapted)[0].double()
    weights = list(layer.parameters())

    def weight(*_):
        return layer.weight

    assert torch.autograd.gradcheck(weight, tuple(w for w in weights if w is not layer.b))


@pytest.mark.parametrize("options", OPTIONS)
def test_it_comes_back_from_a_folder_bit_for_bit(architecture, options, tmp_path, inputs):
    adapted = make_adapted(architecture, [method(options)])
    adapted.activate("a")
    before = hidden(adapted, inputs)
    adapted.save("a", tmp_path / "a")

    again = compose.attach(make_model(architecture))
    again.load(tmp_path / "a")
    again.activate("a")

    assert torch.equal(hidden(again, inputs), before)


@pytest.mark.parametrize("options", OPTIONS)
def test_branches_of_it_are_themselves(options, inputs):
    adapted = make_adapted("bert", [method(options), method(options)])
    alone = []
    for name in "ab":
        adapted.activate(name)
        alone.append(hidden(adapted, inputs))

    adapted.activate("parallel(a, b)")
    parallel = hidden(adapted, inputs)
    adapted.activate("batchsplit(a, b; batch_sizes=[1, 2])")
    split = hidden(adapted, inputs)

    torch.testing.assert_close(parallel, torch.cat(alone), atol=1e-5, rtol=0)
    expected = torch.cat([alone[0][:1], alone[1][1:]])
    torch.testing.assert_close(split, expected, atol=1e-5, rtol=0)


def test_a_fusion_of_it_is_one_of_the_linear_layers_it_stands_for(inputs):
    adapted = make_adapted("bert", [method("", "compacter++")] * 2)
    plain = "seq_bn[reduction_factor=4, non_linearity='gelu']"
    for name, own in zip("cd", "ab", strict=True):
        adapted.add(name, plain)
        for place, module in adapted.adapters[name].places.items():
            other = adapted.adapters[own].places[place]
            with torch.no_grad():
                for part in ("down", "up"):
                    getattr(module, part).weight.copy_(getattr(other, part).weight)
                    getattr(module, part).bias.copy_(getattr(other, part).bias)
    fused(adapted, "a", "b")
    fused(adapted, "c", "d")
    adapted.activate("fuse(a, b)")
    ours = hidden(adapted, inputs)

    adapted.activate("fuse(c, d)")

    torch.testing.assert_close(ours, hidden(adapted, inputs), atol=1e-5, rtol=0)


def test_training_reaches_what_is_shared_and_the_rule_only_where_it_is_learned(inputs):
    for learns in (True, False):
        adapted = make_adapted("bert", [method(f"learn_phm={learns}")])
        adapted.activate("a")
        adapted.trainable("a")

        adapted(**inputs).last_hidden_state.square().mean().backward()

        shared = adapted.adapters["a"].places["shared"]
        assert isinstance(shared, Matrices)
        assert (shared.phm_rule.grad is not None) is learns
        assert all(layer.own.W_left.grad is not None for layer in projections(adapted))


def test_a_seed_gives_the_same_fresh_weights():
    adapted = make_adapted("bert")
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        adapted.add(name, method(f"init_weights_seed={seed}"))

    first, second, other = (list(adapted.adapters[name].parameters()) for name in "abc")

    assert all(torch.equal(x, y) for x, y in zip(first, second, strict=True))
    assert not torch.equal(first[0], other[0])


@pytest.mark.parametrize("kind", ["phm", "glorot-normal", "glorot-uniform", "normal"])
@pytest.mark.parametrize("rule", ["normal", "uniform"])
def test_every_initialisation_gives_finite_small_weights(kind, rule):
    adapted = make_adapted("bert")

    adapted.add("a", method(f"hypercomplex_nonlinearity='{kind}', phm_c_init='{rule}'"))

    for parameter in adapted.adapters["a"].parameters():
        assert parameter.isfinite().all()
        assert parameter.abs().max() < 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param("compacter[reduction_factor=32]", "cannot be divided", id="width"),
        pytest.param("compacter[phm_dim=5, reduction_factor=4]", "cannot be divided", id="dim"),
        pytest.param(method("phm_c_init='x'"), "named 'x'", id="rule"),
        pytest.param(method("hypercomplex_nonlinearity='x'"), "named 'x'", id="matrices"),
        pytest.param(method("init_weights='mam_adapter'"), "is none for", id="initialisation"),
        pytest.param(
            "compacter[phm_dim=2, shared_W_phm=True, reduction_factor={'0': 2, 'default': 4}]",
            "cannot share",
            id="two widths",
        ),
    ],
)
def test_what_cannot_be_made_is_refused(options, message):
    adapted = make_adapted("bert")

    with pytest.raises(CompositionError, match=message):
        adapted.add("a", options)

    assert not adapted.adapters


# ------------------------------------------------------------ stochastic depth


def test_stochastic_depth_leaves_rows_out_in_training_only(inputs):
    adapted = make_adapted("bert", ["adapter_plus[reduction_factor=4, stochastic_depth=0.5]"])
    without = make_adapted("bert", ["adapter_plus[reduction_factor=4, stochastic_depth=0.0]"])
    adapted.activate("a")
    without.activate("a")

    assert torch.equal(hidden(adapted, inputs), hidden(without, inputs))

    adapter = next(m for m in adapted.adapters["a"].modules() if isinstance(m, BottleneckAdapter))
    adapter.train()
    states = torch.randn(64, 5, 32)
    with torch.no_grad():
        trained = adapter.change(states)
        adapter.eval()
        whole = adapter.change(states)
    left_out = trained.flatten(1).abs().amax(1) == 0
    assert 10 < left_out.sum() < 54
    torch.testing.assert_close(trained[~left_out], 2 * whole[~left_out])


def test_the_rows_kept_make_up_for_those_left_out():
    kept = kept_rows(torch.zeros(10_000, 3, 2), 0.2)

    assert kept.shape == (10_000, 1, 1)
    torch.testing.assert_close(kept.mean(), torch.tensor(1.0), atol=0.03, rtol=0)
