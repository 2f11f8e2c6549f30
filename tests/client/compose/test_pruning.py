"""Fusions without their least attended members, and what that costs."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adapterhub_client import compose
from adapterhub_client.errors import CompositionError

from .conftest import fused, hidden, make_adapted, make_model, randomise
from .test_compiled_fusion import alone

THREE = ["seq_bn[reduction_factor=2, non_linearity='tanh']"] * 3
UNSEEN = -1e4


def make_fusion(methods=THREE, **options):
    adapted = make_adapted("bert", methods)
    return adapted, fused(adapted, *"abcd"[: len(methods)], **options)


def ignore(adapted, name):
    """Give all that a member puts out a score that no token attends to."""
    for key, layer in adapted.fusions["a,b,c"].places.items():
        with torch.no_grad():
            # With a query of its bias alone, the score is the up-projection's product with k = W_kᵀ b_q.
            layer.query.weight.zero_()
            direction = torch.mv(layer.key.weight.T, layer.query.bias)
            up = adapted.adapters[name].places[key].up
            up.weight.zero_()
            up.bias.copy_(direction * (UNSEEN / direction.square().sum()))


@pytest.mark.parametrize("unseen", ["a", "b", "c"])
def test_without_members_that_get_no_attention_nothing_changes(unseen, inputs):
    adapted, name = make_fusion()
    ignore(adapted, unseen)
    adapted.activate(name)
    expected = hidden(adapted, inputs)
    adapted.deactivate()

    pruned = adapted.prune_fusion(name, 2, [inputs])
    adapted.activate(pruned.name)

    assert pruned.attended.members[unseen] == 0
    assert unseen not in pruned.kept
    torch.testing.assert_close(hidden(adapted, inputs), expected, atol=1e-6, rtol=0)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_what_is_left_shares_all_the_attention(seed):
    adapted, name = make_fusion()
    randomise(adapted.fusions[name], seed=seed, std=0.1)
    ids = torch.randint(5, 90, (2, 6), generator=torch.Generator().manual_seed(seed))
    adapted.activate(name)
    hidden(adapted, {"input_ids": ids})
    first = adapted.attention()[0]
    adapted.deactivate()

    pruned = adapted.prune_fusion(name, 2, [{"input_ids": ids}])
    adapted.activate(pruned.name)
    hidden(adapted, {"input_ids": ids})

    kept = first.weights[..., ["abc".index(member) for member in pruned.kept]]
    torch.testing.assert_close(
        adapted.attention()[0].weights, kept / kept.sum(-1, keepdim=True), atol=1e-5, rtol=0
    )


def test_attention_is_the_mean_over_real_tokens(inputs):
    adapted, name = make_fusion()
    adapted.activate(name)
    hidden(adapted, inputs)
    seen = adapted.attention()
    mask = inputs["attention_mask"].bool()
    expected = {f"{w.layer} {w.place}": w.weights[mask].mean(0).tolist() for w in seen}

    attended = adapted.prune_fusion(name, 1, [inputs]).attended

    for place, here in attended.places.items():
        assert list(here.values()) == pytest.approx(expected[place], abs=1e-6)
    assert sum(attended.members.values()) == pytest.approx(1)
    assert list(attended.members) == ["a", "b", "c"]


def test_batches_count_by_their_tokens(inputs):
    adapted, name = make_fusion()
    rows = [{key: value[n : n + 1] for key, value in inputs.items()} for n in range(3)]

    whole = adapted.prune_fusion(name, 1, [inputs], "whole").attended
    apart = adapted.prune_fusion(name, 1, iter(rows), "apart").attended

    assert list(apart.members.values()) == pytest.approx(list(whole.members.values()), abs=1e-6)


def test_the_most_attended_stay_in_their_order(inputs):
    adapted, name = make_fusion(THREE + THREE[:1])

    pruned = adapted.prune_fusion(name, 2, [inputs])

    ranked = sorted(pruned.attended.members, key=pruned.attended.members.get)
    assert set(pruned.kept) == set(ranked[2:])
    assert list(pruned.kept) == sorted(pruned.kept)
    assert pruned.name == ",".join(pruned.kept)
    assert adapted.fusions[pruned.name].members == pruned.kept


def test_the_new_fusion_is_one_of_its_own(inputs, tmp_path):
    adapted, name = make_fusion()
    pruned = adapted.prune_fusion(name, 2, [inputs], "small")
    adapted.activate("small")
    expected = hidden(adapted, inputs)
    adapted.save_fusion("small", tmp_path)
    adapted.trainable("small")
    adapted.train()
    adapted(**inputs).last_hidden_state.sum().backward()
    grown = {n for n, p in adapted.named_parameters() if p.grad is not None}

    again = make_adapted("bert", THREE)
    again.load_fusion(tmp_path)
    again.activate("small")

    assert pruned.name == "small"
    assert grown
    assert all("fusion small" in path for path in grown)
    assert torch.equal(hidden(again, inputs), expected)


def test_a_fusion_in_a_stack_is_pruned_there(inputs):
    adapted, _ = make_fusion([*THREE, "seq_bn[reduction_factor=4]"])
    name = fused(adapted, "a", "b", "c")
    adapted.fusions[name].expression = "stack(d, fuse(a, b, c))"

    pruned = adapted.prune_fusion(name, 2, [inputs])
    adapted.activate(pruned.name)

    assert str(adapted.expression) == f"stack(d, fuse({', '.join(pruned.kept)}))"


def test_a_compiled_fusion_loses_rows(inputs, tmp_path):
    adapted, name = make_fusion()
    adapted.save_fusion(name, tmp_path / "whole", form="compiled")
    expected = adapted.prune_fusion(name, 2, [inputs])
    adapted.activate(expected.name)
    state = hidden(adapted, inputs)
    again, own = alone(tmp_path / "whole")

    pruned = again.prune_fusion(own, 2, [inputs])
    again.activate(pruned.name)
    again.save_fusion(pruned.name, tmp_path / "small", form="compiled")

    assert pruned.kept == expected.kept
    torch.testing.assert_close(hidden(again, inputs), state, atol=1e-5, rtol=0)
    last, small = alone(tmp_path / "small")
    last.activate(small)
    assert torch.equal(hidden(last, inputs), hidden(again, inputs))
    sizes = [
        sum(path.stat().st_size for path in (tmp_path / form).glob("*.safetensors"))
        for form in ("whole", "small")
    ]
    assert sizes[1] < 0.75 * sizes[0]


# ---------------------------------------------------------------- what it costs


def test_the_report_goes_from_all_members_to_one(inputs):
    adapted, name = make_fusion()

    costs = adapted.prune_report(name, [inputs])

    assert [len(cost.kept) for cost in costs] == [3, 2, 1]
    assert (costs[0].change, costs[0].fusion_work) == (0, 1)
    assert costs[0].cosine == pytest.approx(1)
    assert costs[1].change > 0
    assert costs[1].cosine < 1
    assert all(cost.loss is None and cost.accuracy is None for cost in costs)
    assert not adapted.expression
    assert set(adapted.fusions) == {name}


def test_the_work_of_members_of_one_width_is_in_proportion(inputs):
    adapted, name = make_fusion()

    costs = adapted.prune_report(name, [inputs])

    assert [cost.fusion_work for cost in costs] == pytest.approx([1, 2 / 3, 1 / 3])
    # Two layers of 4 D² + 4 D D' with D = 32 and D' = 64: 2 * (4 * 32² + 2 * 32 * 64); 16 features a member.
    base = 2 * (4 * 32 * 32 + 2 * 32 * 64)
    assert costs[0].work == pytest.approx(1 + 2 * 3 * 32 * (3 * 16 + 2) / base)


def test_the_report_scores_labels_where_a_head_predicts_them(inputs):
    adapted, name = make_fusion()
    adapted.add_head("top", labels=["no", "yes"])
    randomise(adapted.heads["top"])
    adapted.activate(name, head="top")
    with torch.no_grad():
        logits = adapted(**inputs).logits
    adapted.deactivate()
    labels = logits.argmax(-1)
    labels[0] = 1 - labels[0]
    loss = float(torch.nn.functional.cross_entropy(logits, labels))

    costs = adapted.prune_report(name, [{**inputs, "labels": labels}], head="top")

    assert costs[0].accuracy == pytest.approx(2 / 3)
    assert costs[0].loss == pytest.approx(loss, rel=1e-4)
    assert all(cost.loss is not None for cost in costs)


def test_measuring_leaves_training_as_it_was(inputs):
    adapted, name = make_fusion()
    adapted.activate(name)
    adapted.trainable(name)
    adapted.train()

    adapted.prune_fusion(name, 2, [inputs])

    assert adapted.training
    assert str(adapted.expression) == "fuse(a, b, c)"
    assert adapted(**inputs).last_hidden_state.requires_grad


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize("keep", [0, 4, -1])
def test_only_members_it_has_can_be_kept(keep, inputs):
    adapted, name = make_fusion()

    with pytest.raises(
        CompositionError, match=f"{keep} members of the fusion 'a,b,c' cannot be kept"
    ):
        adapted.prune_fusion(name, keep, [inputs])


def test_bad_calls_are_refused_and_nothing_is_new(inputs):
    adapted, name = make_fusion()
    fused(adapted, "a", "b")
    other = {**inputs, "attention_mask": torch.ones(3, 1, 10, 10)}

    with pytest.raises(CompositionError, match="Nothing named 'none' is loaded"):
        adapted.prune_fusion("none", 1, [inputs])
    with pytest.raises(CompositionError, match="no batch to measure"):
        adapted.prune_fusion(name, 1, [])
    with pytest.raises(CompositionError, match="The fusion 'a,b' exists already"):
        adapted.prune_fusion(name, 2, [inputs], "a,b")
    with pytest.raises(CompositionError, match=r"mask has the shape \(3, 1, 10, 10\)"):
        adapted.prune_fusion(name, 2, [other])
    adapted.activate("a")
    with pytest.raises(CompositionError, match="is not a part of what is active: a"):
        adapted.prune_fusion(name, 2, [inputs])
    with pytest.raises(CompositionError, match="`a` is active"):
        adapted.prune_report(name, [inputs])

    assert set(adapted.fusions) == {name, "a,b"}


def test_the_last_member_stays_where_it_decides_what_all_read(inputs):
    adapted, name = make_fusion([*THREE[:2], THREE[0][:-1] + ", original_ln_before=False]"])
    ignore(adapted, "c")

    with pytest.raises(CompositionError, match="Without 'c' the fusion would end in 'b'"):
        adapted.prune_report(name, [inputs])


def test_a_model_without_the_fusion_is_left_alone(inputs):
    adapted = compose.attach(make_model())

    with pytest.raises(CompositionError, match="Nothing named 'a,b' is loaded"):
        adapted.prune_report("a,b", [inputs])
