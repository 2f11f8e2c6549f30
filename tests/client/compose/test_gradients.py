"""Gradients in float64 equal finite differences, and reach what is trained and nothing else."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .conftest import fused, hidden
from .small_models import METHODS, adapted_of, batch_of

TINY = {
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_attention_heads": 2,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
BOTTLENECKS = ["seq_bn", "double_seq_bn", "par_bn", "gated"]
COMPOSITIONS = [
    "stack(b, a)",
    "fuse(a, b)",
    "stack(c, fuse(a, b))",
    "parallel(a, b)",
    "parallel(a, a)",
    "batchsplit(a, b; batch_sizes=[1, 1])",
    "split(a, stack(b, c); splits=[2, 3])",
    "average(a, c; weights=[0.3, 0.7])",
    "average(a, a)",
]


def check(adapted, *names):
    """Along random directions: gradcheck's fast mode compares one product of all derivatives of each tensor."""
    adapted.double()
    adapted.trainable(*names)
    own = {n: p for n, p in adapted.named_parameters() if p.requires_grad}
    batch = batch_of(rows=2, length=5)

    def output(*values):
        named = dict(zip(own, values, strict=True))
        return torch.func.functional_call(adapted, named, kwargs=batch).last_hidden_state

    assert own
    torch.manual_seed(0)
    assert torch.autograd.gradcheck(output, tuple(own.values()), fast_mode=True, atol=1e-6)
    adapted(**batch).last_hidden_state.square().sum().backward()
    reached = {n for n, p in adapted.named_parameters() if p.grad is not None}
    assert reached == set(own)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_the_gradient_of_its_output(method):
    adapted = adapted_of("bert", [method], **TINY)
    adapted.activate("a")

    check(adapted, "a")


@pytest.mark.parametrize("expression", COMPOSITIONS)
def test_every_composition_has_the_gradient_of_its_output(expression):
    adapted = adapted_of("bert", BOTTLENECKS, **TINY)
    fused(adapted, "a", "b")
    adapted.activate(expression)

    check(adapted, *(["a", "b", "a,b"] if "fuse" in expression else ["a"]))


TREES = st.recursive(
    st.sampled_from("abcd"),
    lambda inner: st.tuples(
        st.sampled_from(["stack", "average"]), st.lists(inner, min_size=1, max_size=3)
    ),
    max_leaves=4,
)


def text(tree, level=0):
    """The expression of a tree; below the second level only stacks can stand."""
    if isinstance(tree, str):
        return tree
    operator = tree[0] if level < 2 else "stack"
    return f"{operator}({', '.join(text(child, level + 1) for child in tree[1])})"


@pytest.fixture(scope="module")
def adapted():
    return adapted_of("bert", ["seq_bn", "double_seq_bn", "par_bn", "gated"])


def run(adapted, expression, batch):
    adapted.activate(expression)
    return hidden(adapted, batch)


def alike(found, expected):
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)


ANY_TREE = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def allowed(tree):
    """An average may hold leaves and stacks of leaves only, once it stands inside another block."""
    expression = text(tree)
    return expression if "average" not in expression[1:] else None


@ANY_TREE
@given(tree=TREES)
def test_a_stack_of_one_and_a_mean_of_equals_are_the_one(adapted, tree):
    batch, expression = batch_of(), allowed(tree)
    if expression is None:
        return
    alone = run(adapted, expression, batch)

    alike(run(adapted, f"stack({expression})", batch), alone)
    if not expression.startswith("average"):
        alike(run(adapted, f"average({expression}, {expression})", batch), alone)


@ANY_TREE
@given(first=TREES, second=TREES)
def test_rows_of_divided_batches_are_as_alone(adapted, first, second):
    batch, one, two = batch_of(), allowed(first), allowed(second)
    if one is None or two is None:
        return
    parts = [
        {name: value[rows] for name, value in batch.items()} for rows in (slice(1), slice(1, 3))
    ]

    alike(
        run(adapted, f"parallel({one}, {two})", batch),
        torch.cat([run(adapted, one, batch), run(adapted, two, batch)]),
    )
    alike(
        run(adapted, f"batchsplit({one}, {two}; batch_sizes=[1, 2])", batch),
        torch.cat([run(adapted, one, parts[0]), run(adapted, two, parts[1])]),
    )
    adapted.deactivate()
    assert torch.equal(hidden(adapted, batch), hidden(adapted.model, batch))
