"""References: the grammar, its refusals, and the two-way map to repository ids."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapterhub_client import names
from adapterhub_client.errors import MalformedReference
from adapterhub_client.names import Reference

tasks = st.from_regex(names.TASK, fullmatch=True).filter(lambda task: len(task) <= 40)
parts = st.from_regex(names.NAME, fullmatch=True).filter(
    lambda part: len(part) <= 40 and not part.endswith(".git")
)
orgs = parts.filter(lambda org: org not in names.RESERVED_ORGS)
versions = st.one_of(
    st.none(),
    st.from_regex(names.NUMBER, fullmatch=True),
    st.from_regex(names.ALIAS, fullmatch=True),
    st.from_regex(names.DIGEST, fullmatch=True),
)
references = st.builds(Reference, tasks, parts, orgs, versions)


@settings(deadline=None)
@given(references)
def test_what_is_printed_parses_back(reference):
    assert names.parse(str(reference)) == reference


@settings(deadline=None)
@given(references)
def test_the_repo_id_leads_back_to_the_same_adapter(reference):
    assert names.parse(reference.repo_id) == reference.at(None)


@settings(deadline=None)
@given(references, references)
def test_two_adapters_never_share_a_repo_id(one, other):
    assert (one.repo_id == other.repo_id) == (one.adapter == other.adapter)


@settings(deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_parsed_or_refused(text):
    try:
        reference = names.parse(text)
    except MalformedReference:
        assert not names.is_reference(text)
    else:
        assert names.parse(str(reference)) == reference


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        pytest.param("nli/multinli@ukp", Reference("nli", "multinli", "ukp"), id="plain"),
        pytest.param("nli/multinli@ukp:3", Reference("nli", "multinli", "ukp", "3"), id="number"),
        pytest.param(
            "nli/multinli@ukp:stable", Reference("nli", "multinli", "ukp", "stable"), id="alias"
        ),
        pytest.param(
            "nli/multinli@ukp:sha256:" + "a" * 64,
            Reference("nli", "multinli", "ukp", "sha256:" + "a" * 64),
            id="digest",
        ),
        pytest.param("qa/squad1.1@ukp", Reference("qa", "squad1.1", "ukp"), id="dot in the name"),
        pytest.param("ukp/qa.squad1.1", Reference("qa", "squad1.1", "ukp"), id="repository id"),
        pytest.param(
            "me/bert-lora", Reference("misc", "bert-lora", "me"), id="repository id without a task"
        ),
    ],
)
def test_every_spelling_is_read(text, reference):
    assert names.parse(text) == reference


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        pytest.param("multinli", "no `@` before the org", id="bare word"),
        pytest.param("multinli@ukp", "no `/` between task and name", id="no task"),
        pytest.param("NLI/multinli@ukp", "the task 'NLI'", id="capitals"),
        pytest.param("n.li/multinli@ukp", "the task 'n.li'", id="dot in the task"),
        pytest.param("nli/@ukp", "the name is empty", id="empty name"),
        pytest.param("nli/multinli@", "the org is empty", id="empty org"),
        pytest.param("nli/a--b@ukp", "the name 'a--b'", id="double hyphen"),
        pytest.param("nli/../etc@ukp", "the name '../etc'", id="path"),
        pytest.param("nli/a.git@ukp", "ends in `.git`", id="git"),
        pytest.param("nli/a@datasets", "the org 'datasets' is reserved", id="reserved"),
        pytest.param("nli/a@ukp:0", "the version '0'", id="zero"),
        pytest.param("nli/a@ukp:", "the version ''", id="empty version"),
        pytest.param("nli/" + "a" * 93 + "@ukp", "97 characters", id="too long"),
        pytest.param("nli/ａ@ukp", "the name 'ａ'", id="confusable"),  # noqa: RUF001
    ],
)
def test_a_refusal_says_which_part_is_wrong(text, fault):
    with pytest.raises(MalformedReference) as refusal:
        names.parse(text)

    assert fault in str(refusal.value)
    assert refusal.value.hint.startswith("allowed: ")
