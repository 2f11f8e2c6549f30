"""The manifest: its canonical form, and the digest that is its identity."""

import hashlib
import json

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from adapterhub_client import wire

text = st.text(max_size=20)
numbers = st.floats(allow_nan=False, allow_infinity=False)
metrics = st.builds(
    wire.Metric,
    dataset=text,
    split=text,
    name=text,
    value=numbers,
    std=st.none() | numbers,
    seeds=st.lists(st.integers(0, 2**31), max_size=3),
    higher_is_better=st.booleans(),
)
manifests = st.builds(
    wire.Manifest,
    reference=st.builds(wire.Name, task=text, name=text, org=text),
    base=st.builds(
        wire.Base, name=text, architecture=text, hidden_size=st.none() | st.integers(1, 9999)
    ),
    method=st.builds(
        wire.Method,
        name=text,
        config_id=text,
        config=st.dictionaries(
            text, st.none() | st.booleans() | st.integers(-9, 9) | numbers | text, max_size=4
        ),
    ),
    files=st.lists(
        st.builds(wire.File, path=text, sha256=text, size_bytes=st.integers(0, 2**50)), max_size=3
    ),
    metrics=st.lists(metrics, max_size=2),
    description=text,
)


def example(**changes):
    return wire.Manifest(
        **{
            "reference": wire.Name(task="nli", name="cb", org="me"),
            "base": wire.Base(name="bert", architecture="bert"),
            "method": wire.Method(
                name="seq_bn", config={"b": 1, "a": 2.0}, config_id="9076f36a74755ac4"
            ),
            **changes,
        }
    )


@settings(deadline=None)
@given(manifests)
def test_the_digest_survives_the_journey(manifest):
    received = msgspec.json.decode(wire.canonical(manifest), type=wire.Manifest)

    assert wire.digest(received) == wire.digest(manifest)
    assert wire.canonical(received) == wire.canonical(manifest)


@settings(deadline=None)
@given(manifests)
def test_the_digest_is_that_of_the_canonical_bytes(manifest):
    assert wire.digest(manifest) == "sha256:" + hashlib.sha256(wire.canonical(manifest)).hexdigest()


def test_the_canonical_form_is_sorted_and_without_spaces():
    canonical = wire.canonical(example())

    assert canonical.startswith(b'{"base":{"architecture":"bert"')
    assert b'"config":{"a":2,"b":1}' in canonical
    assert list(json.loads(canonical)) == sorted(json.loads(canonical))


def test_a_digest_never_changes_between_releases():
    assert (
        wire.digest(example())
        == "sha256:d5d90a46c441c48c60f382234dde9dec8ba9bd97634d3fad301a07f0ff19d2c9"
    )


def test_every_field_counts():
    assert wire.digest(example(description="other")) != wire.digest(example())
