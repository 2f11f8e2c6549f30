"""The grammar of compositions and its nesting rules."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from adapterhub_client.compose import expression
from adapterhub_client.compose.expression import (
    Average,
    BatchSplit,
    Fuse,
    Leaf,
    Parallel,
    Split,
    Stack,
)
from adapterhub_client.errors import CompositionError

A, B, C = Leaf("a"), Leaf("b"), Leaf("c")


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        pytest.param("a", A, id="one adapter"),
        pytest.param("stack(a, b)", Stack((A, B)), id="stack"),
        pytest.param(" FUSE( a ,b,c ) ", Fuse((A, B, C)), id="case and blanks do not matter"),
        pytest.param("fuse(a, b; name=u)", Fuse((A, B), "u"), id="a fusion with a name"),
        pytest.param("parallel(a, b)", Parallel((A, B)), id="parallel"),
        pytest.param("split(a, b; splits=[64, 64])", Split((A, B), (64, 64)), id="split"),
        pytest.param(
            "batchsplit(a, b; batch_sizes=[1, 3])", BatchSplit((A, B), (1, 3)), id="batchsplit"
        ),
        pytest.param(
            "average(a, b; weights=[0.3, 0.7])", Average((A, B), (0.3, 0.7)), id="average"
        ),
        pytest.param("stack(a, fuse(b, c))", Stack((A, Fuse((B, C)))), id="fusion in a stack"),
        pytest.param("fuse(stack(a, b), c)", Fuse((Stack((A, B)), C)), id="stack in a fusion"),
        pytest.param("stack(stack(a, b), c)", Stack((Stack((A, B)), C)), id="stack in a stack"),
        pytest.param(
            "nli/multinli@ukp:sha256:ab", Leaf("nli/multinli@ukp:sha256:ab"), id="a reference"
        ),
        pytest.param("stack('my, own', a)", Stack((Leaf("my, own"), A)), id="a quoted name"),
    ],
)
def test_an_expression_is_read(text, tree):
    assert expression.parse(text) == tree


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        pytest.param("", "has no adapter where one should be, at its end", id="nothing"),
        pytest.param("stack(a, )", "has no adapter where one should be, at character 10", id="gap"),
        pytest.param("stack(a", "lacks a `)`, at its end", id="open bracket"),
        pytest.param("stack(a))", "has ')' after its end, at character 9", id="bracket too many"),
        pytest.param("a b", "has 'b' after its end, at character 3", id="two words"),
        pytest.param("mix(a, b)", "no composition named 'mix'", id="unknown operator"),
        pytest.param("stack(a; depth=2)", "`stack` has no option named 'depth'", id="option"),
        pytest.param("split(a, b; splits=[1])", "has 2 parts, but 1 values", id="too few values"),
        pytest.param("split(a, b; splits=[x])", "cannot be read: [x]", id="no number"),
        pytest.param("split(a, b; splits=[0.5, 1])", "is malformed", id="fraction of a token"),
        pytest.param("split(a, b; splits)", "no `option=value` after a `;`", id="no value"),
        pytest.param("a ? b", "cannot be read at character|has '?' after", id="stray sign"),
    ],
)
def test_a_malformed_expression_says_where(text, fault):
    with pytest.raises(CompositionError) as refusal:
        expression.parse(text)

    assert any(part in str(refusal.value) for part in fault.split("|"))


@pytest.mark.parametrize(
    ("text", "inner", "outer"),
    [
        pytest.param("fuse(fuse(a, b), c)", "fuse", "fuse", id="fusion of a fusion"),
        pytest.param("parallel(fuse(a, b), c)", "fuse", "parallel", id="fusion in parallel"),
        pytest.param("split(parallel(a, b), c)", "parallel", "split", id="parallel in a split"),
        pytest.param("fuse(average(a, b), c)", "average", "fuse", id="average in a fusion"),
        pytest.param("average(average(a, b), c)", "average", "average", id="average of an average"),
    ],
)
def test_blocks_that_do_not_nest_are_refused_with_both_names(text, inner, outer):
    with pytest.raises(CompositionError) as refusal:
        expression.parse(text)

    assert f"`{inner}` cannot stand inside `{outer}`" in str(refusal.value)
    assert refusal.value.hint.startswith(f"inside `{outer}` can stand: leaf")


def test_a_composition_of_three_levels_is_too_deep():
    with pytest.raises(CompositionError, match="`split` cannot stand at level 2"):
        expression.parse("stack(a, split(split(b, c), d))")


def test_a_fusion_is_named_by_the_last_adapters_of_its_parts():
    tree = expression.parse("fuse(stack(lang, a), b)")

    assert tree.fusion == "a,b"


def test_leaves_come_in_order_and_as_often_as_they_occur():
    tree = expression.parse("stack(a, fuse(b, stack(a, c)))")

    assert list(expression.leaves(tree)) == ["a", "b", "a", "c"]


names = some.text(
    some.characters(blacklist_characters="'\"\n", blacklist_categories=["Cs"]), min_size=1
)
leaves = names.filter(str.strip).map(Leaf)
stacks = some.lists(leaves, min_size=1, max_size=3).map(lambda parts: Stack(tuple(parts)))
trees = some.one_of(
    leaves,
    stacks,
    some.lists(leaves | stacks, min_size=1, max_size=3).map(lambda parts: Fuse(tuple(parts))),
    some.lists(some.tuples(leaves, some.floats(-2, 2)), min_size=1, max_size=3).map(
        lambda pairs: Average(tuple(p for p, _ in pairs), tuple(w for _, w in pairs))
    ),
)


@given(trees)
def test_a_written_tree_reads_back_as_itself(tree):
    assert expression.parse(str(tree)) == tree
