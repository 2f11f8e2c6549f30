"""Heads side by side: each on its rows, and the loss their sum."""

import pytest
import torch
from torch.nn import functional

from adapterhub_client.errors import CompositionError

from .conftest import make_adapted, randomise

LABELS = torch.tensor([0, 1, 2])


@pytest.fixture
def adapted():
    adapted = make_adapted("bert", ["seq_bn", "seq_bn"])
    adapted.add_head("a", labels=["neg", "neu", "pos"])
    adapted.add_head("b", "tagging", labels=["O", "B"])
    for seed, name in enumerate("ab"):
        randomise(adapted.heads[name], seed=seed)
    return adapted


def run(adapted, inputs, **more):
    with torch.no_grad():
        return adapted(**inputs, **more)


def alone(adapted, name, inputs):
    adapted.activate(name, head=name)
    return run(adapted, inputs).logits


@pytest.mark.parametrize("heads", [None, ["a", "b"]], ids=["by name", "asked for"])
def test_branches_in_parallel_answer_as_they_would_alone(adapted, inputs, heads):
    expected = [alone(adapted, name, inputs) for name in "ab"]

    adapted.activate("parallel(a, b)", head=heads)
    output = run(adapted, inputs)

    for answer, logits in zip(output.heads, expected, strict=True):
        torch.testing.assert_close(answer.logits, logits)
    assert [head.kind for head in adapted.active_heads] == ["classification", "tagging"]


def test_rows_of_a_divided_batch_go_to_their_own_head(adapted, inputs):
    expected = [alone(adapted, name, inputs) for name in "ab"]

    adapted.activate("batchsplit(a, b; batch_sizes=[1, 2])")
    output = run(adapted, inputs)

    torch.testing.assert_close(output.heads[0].logits, expected[0][:1])
    torch.testing.assert_close(output.heads[1].logits, expected[1][1:])


def test_the_loss_is_the_sum_and_each_head_has_its_own_labels(adapted, inputs):
    adapted.activate("parallel(a, b)")
    tags = torch.arange(30).reshape(3, 10) % 2

    output = run(adapted, inputs, labels=[LABELS, tags])

    first, second = output.heads
    torch.testing.assert_close(first.loss, functional.cross_entropy(first.logits, LABELS))
    torch.testing.assert_close(output.loss, first.loss + second.loss)


def test_one_tensor_of_labels_is_for_every_branch_in_parallel(adapted, inputs):
    adapted.activate("parallel(a, b)", head="a")

    output = run(adapted, inputs, labels=LABELS)

    expected = sum(functional.cross_entropy(answer.logits, LABELS) for answer in output.heads)
    torch.testing.assert_close(output.loss, expected)


def test_labels_of_a_divided_batch_are_divided_too(adapted, inputs):
    adapted.activate("batchsplit(a, b; batch_sizes=[1, 2])", head=["a", "a"])

    output = run(adapted, inputs, labels=LABELS)

    parts = zip(output.heads, (LABELS[:1], LABELS[1:]), strict=True)
    expected = sum(functional.cross_entropy(answer.logits, labels) for answer, labels in parts)
    torch.testing.assert_close(output.loss, expected)


def test_a_head_without_labels_has_no_part_in_the_loss(adapted, inputs):
    adapted.activate("parallel(a, b)")

    output = run(adapted, inputs, labels=[LABELS, None])

    assert output.heads[1].loss is None
    torch.testing.assert_close(output.loss, output.heads[0].loss)


def test_several_heads_of_one_branch_read_the_same(adapted, inputs):
    expected = [alone_with(adapted, name, inputs) for name in "ab"]

    adapted.activate("a", head=["a", "b"])
    output = run(adapted, inputs)

    assert torch.equal(output.heads[0].logits, expected[0])
    assert torch.equal(output.heads[1].logits, expected[1])


def alone_with(adapted, head, inputs):
    adapted.activate("a", head=head)
    return run(adapted, inputs).logits


def test_hidden_states_of_a_branch_are_its_own(adapted, inputs):
    adapted.activate("b", head=False)
    expected = run(adapted, inputs, output_hidden_states=True).hidden_states

    adapted.activate("parallel(a, b)")
    output = run(adapted, inputs, output_hidden_states=True)

    for found, state in zip(output.heads[1].hidden_states, expected, strict=True):
        torch.testing.assert_close(found, state)


def test_a_head_is_needed_for_each_branch(adapted):
    adapted.add("c")
    adapted.activate("a")

    with pytest.raises(CompositionError, match="3 branches side by side, but 2 heads are named"):
        adapted.activate("parallel(a, b, c)", head=["a", "b"])

    assert str(adapted.expression) == "a"


def test_branches_without_heads_of_their_names_give_what_the_model_does(adapted, inputs):
    adapted.add("c")

    adapted.activate("parallel(a, c)")

    assert run(adapted, inputs).last_hidden_state.shape == (6, 10, 32)


def test_a_list_of_labels_has_an_entry_for_each_head(adapted, inputs):
    adapted.activate("parallel(a, b)")

    with pytest.raises(CompositionError, match="'labels' is a list of 1, but 2 heads are active"):
        adapted(**inputs, labels=[LABELS])


def test_choices_cannot_share_a_call_with_other_heads(adapted, inputs):
    adapted.add_head("choice", "multiple_choice")
    adapted.activate("parallel(a, b)", head=["choice", "b"])

    with pytest.raises(
        CompositionError, match="cannot share a call with heads of the kind tagging"
    ):
        adapted(**inputs)


def test_every_head_and_branch_learns_from_the_sum(adapted, inputs):
    adapted.activate("parallel(a, b)")
    adapted.trainable("parallel(a, b)", heads=["a", "b"])
    tags = torch.arange(30).reshape(3, 10) % 2

    adapted(**inputs, labels=[LABELS, tags]).loss.backward()

    trained = [*adapted.adapters.values(), *adapted.heads.values()]
    assert all(p.grad is not None and p.grad.any() for part in trained for p in part.parameters())
