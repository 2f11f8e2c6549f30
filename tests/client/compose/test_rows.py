"""Batches in which every row names its own adapter, among many that are resident."""

import pytest
import torch

from adapterhub_client.errors import CompositionError

from .conftest import make_adapted, randomise

KINDS = [
    "seq_bn[reduction_factor=4]",
    "seq_bn[reduction_factor=2,non_linearity='gelu']",
    "double_seq_bn[reduction_factor=4]",
    "par_bn[reduction_factor=4]",
    "scaled_par_bn[reduction_factor=8]",
    "seq_bn[reduction_factor=4,leave_out=[0]]",
]


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(5)
    return {"input_ids": torch.randint(5, 90, (4, 10), generator=generator)}


def states(adapted, batch, **options):
    with torch.no_grad():
        return adapted(**batch, **options).last_hidden_state


def alone(adapted, batch, name):
    adapted.activate(name)
    return states(adapted, batch)


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(["a", "b", "c", "d"], id="one each"),
        pytest.param(["f", "e", "f", None], id="one of them none"),
        pytest.param([None] * 4, id="the bare base"),
        pytest.param(["c"] * 4, id="all the same"),
    ],
)
def test_every_row_is_as_with_its_adapter_alone(architecture, batch, rows):
    adapted = make_adapted(architecture, KINDS)
    expected = [alone(adapted, batch, name)[row] for row, name in enumerate(rows)]

    adapted.activate_rows("abcdef")
    found = states(adapted, batch, adapters=rows)

    torch.testing.assert_close(found, torch.stack(expected), atol=2e-6, rtol=1e-5)


def test_being_resident_leaves_the_adapters_what_they_were(batch):
    adapted = make_adapted("bert", KINDS[:1] * 2)
    before = alone(adapted, batch, "b")

    adapted.activate_rows("ab")
    states(adapted, batch, adapters=["a"] * 4)
    randomise(adapted.adapters["a"], seed=8)

    assert torch.equal(alone(adapted, batch, "b"), before)
    changed = alone(adapted, batch, "a")
    adapted.activate_rows("ab")
    found = states(adapted, batch, adapters=["a", "b", "a", "b"])
    torch.testing.assert_close(found[0], changed[0], atol=2e-6, rtol=1e-5)


def test_residents_follow_the_model_to_another_precision(batch):
    adapted = make_adapted("bert", KINDS[:1] * 2)
    adapted.activate_rows("ab")
    states(adapted, batch, adapters=["a"] * 4)

    adapted.double()
    found = states(adapted, batch, adapters=["b"] * 4)

    torch.testing.assert_close(found, alone(adapted, batch, "b"))


def test_every_row_goes_through_its_own_head(batch):
    adapted = make_adapted("bert", KINDS[:1] * 2)
    for name, labels in (("a", ["no", "yes"]), ("b", ["low", "middle", "high"])):
        adapted.add_head(name, labels=labels)
        randomise(adapted.heads[name], seed=len(labels))
    expected = {}
    for name in "ab":
        adapted.activate(name)
        with torch.no_grad():
            expected[name] = adapted(**batch).logits

    adapted.activate_rows("ab")
    with torch.no_grad():
        found = adapted(**batch, adapters=["b", "a", "a", "b"], labels=torch.tensor([2, 1, 0, 0]))

    assert [tuple(head.logits.shape) for head in found.heads] == [(1, 3), (1, 2), (1, 2), (1, 3)]
    for row, name in enumerate("baab"):
        torch.testing.assert_close(
            found.heads[row].logits[0], expected[name][row], atol=2e-6, rtol=1e-5
        )
    assert found.loss.isfinite()


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        pytest.param(None, "4 rows, but no adapters are named", id="none named"),
        pytest.param(["a"], "4 rows, but 1 adapters are named", id="too few"),
        pytest.param(["a", "b", "z", None], "'z' is not resident", id="unknown"),
    ],
)
def test_rows_that_cannot_be_served_are_refused(batch, rows, fault):
    adapted = make_adapted("bert", KINDS[:2])
    adapted.activate_rows("ab")

    with pytest.raises(CompositionError, match=fault):
        adapted(**batch, adapters=rows)


def test_a_row_without_a_head_among_others_with_one_is_refused(batch):
    adapted = make_adapted("bert", KINDS[:2])
    adapted.add_head("a")
    adapted.activate_rows("ab")

    with pytest.raises(CompositionError, match="Row 1 has no head, since 'b' has none"):
        adapted(**batch, adapters=["a", "b", "a", "a"])


@pytest.mark.parametrize(
    ("names", "fault"),
    [
        pytest.param("az", "Nothing named 'z' is loaded", id="unknown"),
        pytest.param("aa", "'a' is named twice", id="twice"),
        pytest.param("", "no adapter is named", id="none"),
        pytest.param("ab", "'b' cannot be resident", id="gated"),
    ],
)
def test_what_cannot_be_resident_is_refused_and_nothing_changes(names, fault):
    adapted = make_adapted("bert", ["seq_bn", "seq_bn[use_gating=True]"])
    adapted.activate("a")

    with pytest.raises(CompositionError, match=fault):
        adapted.activate_rows(names)

    assert str(adapted.expression) == "a"


def test_adapters_in_training_cannot_be_resident():
    adapted = make_adapted("bert", ["seq_bn"])
    adapted.train()

    with pytest.raises(CompositionError, match="is being trained"):
        adapted.activate_rows("a")


@pytest.mark.parametrize("method", ["seq_bn", "lora"])
def test_a_call_of_the_model_alone_does_not_take_the_rows_of_the_call_before(batch, method):
    adapted = make_adapted("bert", [method] * 2)
    adapted.activate_rows("ab")
    states(adapted, batch, adapters=["a", "b", None, "a"])

    with pytest.raises(CompositionError, match="wait to be named"):
        adapted.model(**batch)


def test_a_call_that_fails_leaves_no_rows_behind(batch):
    adapted = make_adapted("bert", ["seq_bn"])
    adapted.activate_rows("a")

    with pytest.raises(ValueError, match="inputs_embeds"):
        adapted(**batch, inputs_embeds=torch.ones(4, 10, 32), adapters=["a"] * 4)

    with pytest.raises(CompositionError, match="wait to be named"):
        adapted.model(**batch)
