"""ReFT: interventions at the first and last real tokens, whatever the padding."""

import pytest
import torch
from torch import nn

from adapterhub_client import compose
from adapterhub_client.compose.methods.reft import Orthogonal, Unit
from adapterhub_client.errors import CompositionError
from adapterhub_client.formats import method as formats

from .conftest import hidden, make_adapted, make_model, randomise

METHODS = [
    pytest.param("loreft[r=2]", id="loreft"),
    pytest.param("noreft[r=2, suffix_positions=2]", id="noreft"),
    pytest.param("direft[r=2, prefix_positions=1, suffix_positions=1]", id="direft"),
    pytest.param("loreft[suffix_positions=2, tied_weights=True]", id="tied"),
    pytest.param("loreft[non_linearity='relu', prefix_positions=0, suffix_positions=1]", id="relu"),
]
CPU = torch.empty(0)


def unit(method, features=8, dtype=torch.float64):
    made = randomise(Unit(formats.parse(method), features, CPU.to(dtype)), seed=4)
    if isinstance(made.projection, Orthogonal):
        made.projection.initialise()
        with torch.no_grad():
            # Its diagonal counts as whole numbers, and finite differences must not step over one.
            made.projection.original.diagonal().fill_(-1.5)
    return made.eval()


@pytest.mark.parametrize(("rank", "features"), [(1, 8), (3, 8), (8, 8)])
def test_the_rows_are_orthonormal_and_those_of_torch(rank, features):
    torch.manual_seed(1)
    theirs = nn.utils.parametrizations.orthogonal(
        nn.Linear(features, rank, bias=False, dtype=torch.float64)
    )
    kept = theirs.parametrizations.weight
    with torch.no_grad():
        kept.original.copy_(torch.randn(rank, features))
        kept.original.diagonal().copy_(torch.tensor([-1.0, 1.0]).repeat(features)[:rank])
    ours = Orthogonal(features, rank, CPU.double())

    with torch.no_grad():
        ours.original.copy_(kept.original)
        ours.base.copy_(kept[0].base)

    torch.testing.assert_close(ours.weight(), theirs.weight, atol=1e-12, rtol=0)
    identity = torch.eye(rank, dtype=torch.float64)
    torch.testing.assert_close(ours.weight() @ ours.weight().T, identity, atol=1e-10, rtol=0)


@pytest.mark.parametrize("name", ["loreft", "noreft", "direft"])
def test_a_unit_computes_the_formula_of_the_paper(name):
    own = unit(f"{name}[r=2]")
    states = torch.randn(1, 4, 8, dtype=torch.float64)
    weight, bias, projection = own.weights()
    inner = states @ weight.T + bias
    if name != "direft":
        inner = inner - states @ projection.T

    change = own.change(states, own.weights())

    torch.testing.assert_close(change, inner @ projection, atol=1e-12, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_its_gradients_are_those_of_finite_differences(method):
    own = unit(method)
    states = torch.randn(1, 3, 8, dtype=torch.float64, requires_grad=True)
    trained = [p for name, p in own.named_parameters() if not name.endswith("base")]

    assert torch.autograd.gradcheck(
        lambda states, *_: own.change(states, own.weights()), (states, *trained)
    )


def changed_tokens(adapted, inputs, layer=1):
    """Which tokens of a layer's output an intervention in that layer alone moves."""
    adapted.deactivate()
    before = hidden(adapted, inputs)
    adapted.activate("a")
    return ((hidden(adapted, inputs) - before).abs().amax(-1) > 1e-4).tolist()


def expected_tokens(mask, first, last):
    rows = []
    for row in mask.tolist():
        real = [at for at, value in enumerate(row) if value]
        rows.append(
            [at in real[:first] or at in real[len(real) - last :] for at in range(len(row))]
        )
    return rows


@pytest.mark.parametrize("side", ["left", "right", "none"])
@pytest.mark.parametrize(("first", "last"), [(2, 0), (0, 2), (1, 3), (3, 3)])
def test_the_first_and_last_real_tokens_are_changed(side, first, last, inputs):
    positions = f"prefix_positions={first}, suffix_positions={last}"
    adapted = make_adapted("bert", [f"noreft[r=2, layers=[1], {positions}]"])
    mask = torch.ones(3, 10, dtype=torch.long)
    if side != "none":
        mask[1, 6:] = 0
        mask[2, 4:] = 0
    if side == "left":
        mask = mask.flip(1)
    inputs["attention_mask"] = mask

    assert changed_tokens(adapted, inputs) == expected_tokens(mask, first, last)


def test_without_a_mask_every_token_is_real(inputs):
    adapted = make_adapted("bert", ["noreft[layers=[1], prefix_positions=1, suffix_positions=1]"])

    changed = changed_tokens(adapted, {"input_ids": inputs["input_ids"]})

    assert changed == [[True] + [False] * 8 + [True]] * 3


def test_an_input_shorter_than_the_positions_is_changed_once(inputs):
    adapted = make_adapted(
        "bert",
        ["noreft[r=2, layers=[1], prefix_positions=8, suffix_positions=8, tied_weights=True]"],
    )
    inputs = {name: value[:, :5] for name, value in inputs.items()}
    adapted.activate("a")
    short = hidden(adapted, inputs)
    adapted.deactivate()
    adapted.add("b", "noreft[r=2, layers=[1], prefix_positions=5, tied_weights=True]")
    adapted.adapters["b"].load_state_dict(adapted.adapters["a"].state_dict())

    adapted.activate("b")

    torch.testing.assert_close(hidden(adapted, inputs), short, atol=1e-6, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_a_row_of_parallel_branches_is_its_branch_alone(architecture, method, inputs):
    adapted = make_adapted(architecture, [method, method, "noreft[prefix_positions=1]"])
    adapted.add("d", "seq_bn")
    randomise(adapted.adapters["d"], seed=9)
    alone = []
    for name in "abcd":
        adapted.activate(name)
        alone.append(hidden(adapted, inputs))

    adapted.activate("parallel(a, b)")
    alike = hidden(adapted, inputs)
    adapted.activate("parallel(a, c, d)")
    unlike = hidden(adapted, inputs)
    adapted.activate("batchsplit(a, b; batch_sizes=[1, 2])")
    split = hidden(adapted, inputs)

    torch.testing.assert_close(alike, torch.cat(alone[:2]), atol=1e-5, rtol=0)
    expected = torch.cat([alone[0], alone[2], alone[3]])
    torch.testing.assert_close(unlike, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(split, torch.cat([alone[0][:1], alone[1][1:]]), atol=1e-5, rtol=0)


def test_in_a_stack_the_first_acts(inputs):
    adapted = make_adapted("bert", ["noreft", "noreft"])
    adapted.activate("a")
    first = hidden(adapted, inputs)

    adapted.activate("stack(a, b)")

    assert torch.equal(hidden(adapted, inputs), first)


@pytest.mark.parametrize(
    "composition", ["average(a, b)", "split(a, b; splits=[5, 5])", "average(c, stack(c, b))"]
)
def test_blocks_without_a_meaning_are_refused(composition, inputs):
    adapted = make_adapted("bert", ["noreft", "noreft", "seq_bn"])
    before = hidden(adapted, inputs)

    with pytest.raises(CompositionError, match="ReFT"):
        adapted.activate(composition)

    assert torch.equal(hidden(adapted, inputs), before)


def test_skipped_layers_have_no_intervention(inputs):
    adapted = make_adapted("bert", ["noreft"])
    before = hidden(adapted, inputs)

    adapted.activate("a", skip_layers=[0, 1])

    assert torch.equal(hidden(adapted, inputs), before)


@pytest.mark.parametrize("method", METHODS)
def test_it_comes_back_from_a_folder_bit_for_bit(architecture, method, tmp_path, inputs):
    adapted = make_adapted(architecture, [method])
    adapted.activate("a")
    before = hidden(adapted, inputs)
    adapted.save("a", tmp_path / "a")

    again = compose.attach(make_model(architecture))
    again.load(tmp_path / "a")
    again.activate("a")

    assert torch.equal(hidden(again, inputs), before)


@pytest.mark.parametrize("method", METHODS)
def test_gradients_reach_it_and_not_its_basis(method, inputs):
    adapted = make_adapted("bert", [method])
    adapted.activate("a")
    adapted.trainable("a")

    adapted(**inputs).last_hidden_state.square().mean().backward()

    reached = {name for name, p in adapted.named_parameters() if p.grad is not None}
    assert reached
    assert all(name.startswith("shelf.parts.adapter a") for name in reached)
    assert not any(name.endswith("base") for name in reached)


def test_dropout_is_over_all_that_a_token_becomes(inputs):
    adapted = make_adapted("bert", ["noreft[r=2, layers=[1], dropout=0.5]"])
    adapted.activate("a")
    whole = hidden(adapted, inputs)
    adapted.adapters["a"].train()

    dropped = hidden(adapted, inputs)

    untouched = dropped[:, 3:], whole[:, 3:]
    assert torch.equal(*untouched)
    first = dropped[:, :3]
    is_zero = first.abs() < 1e-6
    assert 0.3 < is_zero.float().mean() < 0.7
    torch.testing.assert_close(first[~is_zero], 2 * whole[:, :3][~is_zero], atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        pytest.param("loreft[layers=[5]]", "no layer 5", id="layer"),
        pytest.param("loreft[r=64]", "does not fit", id="rank"),
        pytest.param("loreft[non_linearity='x']", "x", id="activation"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(method, message):
    adapted = make_adapted("bert")

    with pytest.raises(CompositionError, match=message):
        adapted.add("a", method)
