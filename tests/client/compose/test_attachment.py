"""Names, activation and what happens when something is not there."""

import copy

import pytest
import torch
import transformers

from adapterhub_client import compose
from adapterhub_client.compose import UnknownSite, expression
from adapterhub_client.compose.engine.plan import Manner
from adapterhub_client.errors import CompositionError

from .conftest import fused, hidden, make_adapted, make_model


def hooks(model):
    return sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks)  # noqa: SLF001
        for module in model.modules()
    )


def test_attaching_changes_nothing(inputs):
    model = make_model()
    with torch.no_grad():
        before = model(**inputs).last_hidden_state

    adapted = compose.attach(model)
    adapted.add("a")

    assert hooks(model) == 0
    assert torch.equal(hidden(adapted, inputs), before)
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    ("method", "count"),
    [
        pytest.param("seq_bn", 2, id="seq_bn needs one hook per layer"),
        pytest.param("seq_bn[leave_out=[0]]", 1, id="none where it has no module"),
        pytest.param("double_seq_bn", 8, id="double_seq_bn needs two per place"),
        pytest.param("par_bn", 4, id="par_bn needs two per layer"),
    ],
)
def test_only_what_is_active_is_hooked(method, count):
    adapted = make_adapted("bert", [method, "double_seq_bn"])

    adapted.activate("a")

    assert hooks(adapted.model) == count


def test_activating_replaces_what_was_active(inputs):
    adapted = make_adapted("bert", ["seq_bn", "double_seq_bn"])
    adapted.activate("b")
    alone = hidden(adapted, inputs)

    adapted.activate("a")
    adapted.activate("b")

    assert torch.equal(hidden(adapted, inputs), alone)


def test_a_refused_activation_leaves_what_was_active(inputs):
    adapted = make_adapted("bert", ["seq_bn"])
    adapted.activate("a")
    before = hidden(adapted, inputs)

    with pytest.raises(CompositionError):
        adapted.activate("stack(a, nobody)")

    assert torch.equal(hidden(adapted, inputs), before)


def test_a_name_that_is_not_loaded_is_refused_with_those_that_are():
    adapted = make_adapted("bert", ["seq_bn", "seq_bn"])

    with pytest.raises(CompositionError, match="Nothing named 'nobody' is loaded") as refusal:
        adapted.activate("stack(a, nobody)")

    assert refusal.value.hint == "loaded: 'a', 'b'"


def test_nothing_runs_for_a_part_that_is_not_loaded():
    adapted = make_adapted("bert", ["seq_bn"])

    with pytest.raises(CompositionError, match="Nothing named 'nobody' is loaded"):
        adapted.activation.put(expression.Leaf("nobody"), [], None, Manner())

    assert adapted.expression is None


def test_a_fusion_is_activated_by_its_name(inputs):
    adapted = make_adapted("bert", ["seq_bn", "seq_bn"])
    name = fused(adapted, "a", "b")
    adapted.activate("fuse(a, b)")
    by_expression = hidden(adapted, inputs)

    adapted.activate(name)

    assert torch.equal(hidden(adapted, inputs), by_expression)


def test_a_fusion_with_a_name_of_its_own(inputs):
    adapted = make_adapted("bert", ["seq_bn", "seq_bn"])
    adapted.add_fusion("a", "b", name="mixed")
    adapted.activate("fuse(a, b; name='mixed')")
    by_expression = hidden(adapted, inputs)

    adapted.activate("mixed")

    assert torch.equal(hidden(adapted, inputs), by_expression)


@pytest.mark.parametrize("name", ["mrpc", "nli/cb", "train", "keys", "größe", "a b"])
def test_names_may_be_nearly_anything(name, inputs):
    adapted = make_adapted("bert")
    before = hidden(adapted, inputs)
    adapted.add(name, "seq_bn[init_weights='houlsby']")

    adapted.activate(name)

    assert not torch.equal(hidden(adapted, inputs), before)


@pytest.mark.parametrize("name", ["", "a.b", "it's"])
def test_names_that_a_file_or_an_expression_could_not_have_are_refused(name):
    adapted = make_adapted("bert")

    with pytest.raises(CompositionError, match="cannot be a name"):
        adapted.add(name)


def test_a_name_is_taken_once():
    adapted = make_adapted("bert", ["seq_bn"])

    with pytest.raises(CompositionError, match="The adapter 'a' exists already"):
        adapted.add("a")


def test_what_is_active_is_not_deleted_and_what_is_not_is():
    adapted = make_adapted("bert", ["seq_bn", "seq_bn"])
    adapted.activate("a")

    with pytest.raises(CompositionError, match="'a' is active"):
        adapted.delete("a")
    adapted.delete("b")

    assert list(adapted.adapters) == ["a"]


def test_a_fusion_over_something_that_is_not_loaded_is_refused():
    adapted = make_adapted("bert", ["seq_bn"])

    with pytest.raises(CompositionError, match="Nothing named 'nobody' is loaded"):
        adapted.add_fusion("a", "nobody")


def test_an_architecture_without_a_row_is_refused_with_those_that_have_one():
    config = transformers.CTRLConfig(n_embd=8, dff=8, n_head=2, n_layer=1, vocab_size=8)

    with pytest.raises(UnknownSite, match="'ctrl'") as refusal:
        compose.attach(transformers.CTRLModel(config))

    assert "compose.declare" in refusal.value.hint
    assert "known: bert, roberta, xlm-roberta, electra, distilbert" in refusal.value.hint


@pytest.mark.parametrize(
    ("method", "fault"),
    [
        pytest.param("pfiffer", "There is no method named 'pfiffer'", id="unknown method"),
        pytest.param("seq_bn[width=3]", "has no option named 'width'", id="unknown option"),
        pytest.param(
            "seq_bn[non_linearity='cube']", "no non-linearity named 'cube'", id="function"
        ),
        pytest.param("seq_bn[scaling='huge']", "no scaling named 'huge'", id="scaling"),
        pytest.param("seq_bn[init_weights='ones']", "no initialisation named 'ones'", id="start"),
        pytest.param({"architecture": "lara", "r": 8}, "'lara'", id="unknown architecture"),
        pytest.param(
            "seq_bn[reduction_factor={'0': 2}]", "neither layer 1 nor a default", id="map with gaps"
        ),
    ],
)
def test_a_method_that_is_not_understood_is_refused(method, fault):
    adapted = make_adapted("bert")

    with pytest.raises(CompositionError, match=fault):
        adapted.add("a", method)

    assert not adapted.adapters


def test_several_adapters_on_two_models_do_not_meet(inputs):
    one, other = make_adapted("bert", ["seq_bn"]), make_adapted("bert", ["seq_bn"])
    before = hidden(other, inputs)

    one.activate("a")
    hidden(one, inputs)

    assert torch.equal(hidden(other, inputs), before)


def test_chunked_feed_forward_gives_the_same(inputs):
    whole = make_adapted("bert", ["seq_bn", "double_seq_bn"])
    chunked = make_adapted("bert", ["seq_bn", "double_seq_bn"], chunk_size_feed_forward=5)
    for adapted in (whole, chunked):
        adapted.activate("stack(a, b)")

    torch.testing.assert_close(hidden(chunked, inputs), hidden(whole, inputs), atol=1e-5, rtol=0)


def test_compatibility_is_asked_for_at_a_call_a_model_or_in_the_environment(inputs, monkeypatch):
    ours = make_adapted("bert", ["seq_bn", "seq_bn"])
    ours.activate("average(a, b)")
    correct = hidden(ours, inputs)
    ours.activate("average(a, b)", compat="adapters")
    theirs = hidden(ours, inputs)

    monkeypatch.setenv("ADAPTERHUB_COMPAT", "adapters")
    usual = compose.attach(ours.detach())
    for name in "ab":
        usual.shelf.put("adapter", name, ours.adapters[name])
    usual.activate("average(a, b)")

    assert torch.equal(hidden(usual, inputs), theirs)
    assert not torch.allclose(theirs, correct)


def test_an_unknown_compatibility_is_refused():
    with pytest.raises(CompositionError, match="no compatibility with 'peft'"):
        compose.attach(make_model(), compat="peft")


@pytest.mark.parametrize("name", [" a", "a ", "a\0b", "a\x1b[0m", "a\u2028b"])
def test_names_with_invisible_characters_are_refused(name):
    adapted = make_adapted("bert")

    with pytest.raises(CompositionError, match="cannot be a name"):
        adapted.add(name)

    assert not adapted.adapters


@pytest.mark.parametrize("name", ["x,y", "a b", "(x)", "a=b", "a;b", "[a]", "stack", "stack(a, b)"])
def test_names_with_the_marks_of_expressions_stand_in_quotes(name, inputs):
    adapted = make_adapted("bert", ["seq_bn"])
    adapted.add(name, "seq_bn[init_weights='houlsby']")
    tree = expression.Stack((expression.Leaf("a"), expression.Leaf(name)))
    adapted.activate(tree)
    expected = hidden(adapted, inputs)

    adapted.activate(str(tree))

    assert adapted.expression == tree
    assert torch.equal(hidden(adapted, inputs), expected)


def test_a_model_on_which_another_attachment_acts_is_refused(inputs):
    first = make_adapted("bert", ["seq_bn"])
    first.activate("a")
    expected = hidden(first, inputs)
    second = compose.attach(first.model)
    second.add("b", "prefix_tuning")

    with pytest.raises(CompositionError, match="`a` is active on it by the other") as refused:
        second.activate("b")

    assert "deactivate it there first" in str(refused.value.hint)
    assert torch.equal(hidden(first, inputs), expected)
    first.deactivate()
    second.activate("b")
    with pytest.raises(CompositionError, match="`b` is active on it by the other"):
        first.activate("a")
    second.deactivate()
    first.activate("a")
    assert torch.equal(hidden(first, inputs), expected)


def test_a_copy_of_what_is_attached_is_a_model_of_its_own(inputs):
    adapted = make_adapted("bert", ["seq_bn"])
    adapted.activate("a")
    expected = hidden(adapted, inputs)

    copied = copy.deepcopy(adapted)
    copied.activate("a")

    assert torch.equal(hidden(copied, inputs), expected)
    assert torch.equal(hidden(adapted, inputs), expected)


def test_a_model_that_is_cast_without_its_adapters_is_refused(inputs):
    adapted = make_adapted("bert", ["seq_bn"])
    adapted.activate("a")

    adapted.model.double()

    with pytest.raises(
        CompositionError, match="float64 on cpu now, but its adapters are"
    ) as refused:
        hidden(adapted, inputs)
    assert refused.value.hint == "move or cast the adapted model, not the model in it"
    adapted.double()
    assert hidden(adapted, inputs).dtype == torch.float64
