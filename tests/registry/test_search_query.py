"""The language of the search box: what it means, and where it says that something is wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapterhub_registry.domain.query import (
    FIELDS,
    LIMIT,
    Filter,
    MalformedQuery,
    Query,
    Score,
    Words,
    literal,
    parse,
    quoted,
    tokens,
)


@pytest.mark.parametrize(
    ("text", "items"),
    [
        pytest.param("", (), id="nothing"),
        pytest.param("  \t ", (), id="spaces"),
        pytest.param("MultiNLI", (Words(("multinli",)),), id="a word without case"),
        pytest.param("sst-2", (Words(("sst", "2")),), id="a word of two parts"),
        pytest.param(
            '"natural language"', (Words(("natural", "language"), quoted=True),), id="phrase"
        ),
        pytest.param("-bert", (Words(("bert",), negated=True),), id="not a word"),
        pytest.param("- bert", (Words(("bert",)),), id="a lone dash says nothing"),
        pytest.param("%% é", (Words(("e",)),), id="signs say nothing, accents neither"),
        pytest.param("task:nli", (Filter("task", "nli"),), id="field"),
        pytest.param("-Task:nli", (Filter("task", "nli", negated=True),), id="not a field"),
        pytest.param('dataset:"a \\"b\\" c"', (Filter("dataset", 'a "b" c'),), id="quoted value"),
        pytest.param("base:sha256:ab", (Filter("base", "sha256:ab"),), id="a colon in a value"),
        pytest.param("lang:de", (Filter("language", "de"),), id="another name of a field"),
        pytest.param("acc>0.85", (Score("acc", None, ">", 0.85),), id="comparison"),
        pytest.param(
            "-acc<=1e-3", (Score("acc", None, "<=", 0.001, negated=True),), id="not below"
        ),
        pytest.param(
            "metric:Acc@multinli>=.8", (Score("Acc", "multinli", ">=", 0.8),), id="of a dataset"
        ),
        pytest.param("metric:f1@qqp", (Score("f1", "qqp"),), id="has a metric"),
        pytest.param(
            "base:bert-base-uncased task:nli acc>0.85",
            (
                Filter("base", "bert-base-uncased"),
                Filter("task", "nli"),
                Score("acc", None, ">", 0.85),
            ),
            id="several",
        ),
    ],
)
def test_a_query_is_taken_apart(text: str, items: tuple[object, ...]) -> None:
    assert parse(text) == Query(items)


@pytest.mark.parametrize(
    ("text", "position", "nearest", "says"),
    [
        pytest.param("nli taks:x", 4, ("task",), "there is no field 'taks'", id="unknown field"),
        pytest.param("zzz:x", 0, (), "there is no field 'zzz'", id="like no field"),
        pytest.param("task:", 5, (), "`task:` has no value", id="no value"),
        pytest.param('a "b', 4, (), "the phrase does not end here", id="open phrase"),
        pytest.param('"b"c', 3, (), "the phrase does not end here", id="glued phrase"),
        pytest.param("acc>high", 4, (), "'high' is no number", id="no number"),
        pytest.param("acc>=", 5, (), "the number is missing", id="missing number"),
        pytest.param("acc>nan", 4, (), "'nan' is no number", id="not a number"),
        pytest.param("status:yankd", 7, ("yanked",), "status cannot be 'yankd'", id="closed field"),
        pytest.param("a " * 17, 32, (), f"there are more than {LIMIT} items", id="too many"),
    ],
)
def test_a_mistake_has_a_place(
    text: str, position: int, nearest: tuple[str, ...], says: str
) -> None:
    with pytest.raises(MalformedQuery) as caught:
        parse(text)

    assert (caught.value.position, caught.value.nearest) == (position, nearest)
    assert caught.value.detail.startswith(f"At character {position + 1}: {says}; expected ")


@given(st.text())
def test_any_text_is_a_query_or_refused(text: str) -> None:
    try:
        found = parse(text)
    except MalformedQuery as error:
        found, position = literal(text), error.position
    else:
        position = 0
    assert len(found.items) <= LIMIT
    assert 0 <= position <= len(text)


@given(st.sampled_from(sorted(set(FIELDS) - {"composition", "status"})), st.text(min_size=1))
def test_a_quoted_value_comes_back(field: str, value: str) -> None:
    assert parse(f"{field}:{quoted(value)}").items == (Filter(field, value),)


@given(st.text())
def test_tokens_are_stable(text: str) -> None:
    found = tokens(text)

    assert tokens(" ".join(found)) == found
