"""A fusion in its compiled form: exact, small, and complete without its members."""

import json
import warnings

import pytest
import torch
import transformers

from adapterhub_client import compose
from adapterhub_client.compose.files.compiledfusion import CompiledFusion
from adapterhub_client.errors import CompositionError, Corrupt, NotAnAdapter
from adapterhub_client.formats import folder as formats

from .conftest import attached, fused, hidden, make_adapted, make_model, published_fusion, randomise

WIDTHS = [
    "seq_bn[reduction_factor=2, non_linearity='tanh']",
    "seq_bn[reduction_factor=4]",
    "seq_bn[reduction_factor=2, non_linearity='gelu', scaling='channel']",
]
MEMBERS = [
    pytest.param(["seq_bn[reduction_factor=4, non_linearity='gelu']"] * 3, id="alike"),
    pytest.param(WIDTHS, id="other widths and activations"),
    pytest.param(["double_seq_bn[reduction_factor=4]"] * 2, id="double_seq_bn"),
    pytest.param(["par_bn[reduction_factor=4]"] * 2, id="par_bn"),
    pytest.param(["seq_bn", "seq_bn[leave_out=[0]]"], id="a member in some layers only"),
    pytest.param(["compacter[phm_dim=2, reduction_factor=4]"] * 2, id="compacter"),
]
CONFIGS = [
    pytest.param("dynamic", id="dynamic"),
    pytest.param("static", id="static"),
    pytest.param({"query_before_ln": True}, id="query before the norm"),
    pytest.param({"key": False}, id="no key"),
    pytest.param({"temperature": True}, id="temperature"),
]
TOLERANCE = 1e-5


def make_fusion(methods=WIDTHS, architecture="bert", config="dynamic"):
    adapted = make_adapted(architecture, methods)
    return adapted, fused(adapted, *"abc"[: len(methods)], config=config)


def said(adapted, name, inputs):
    """The hidden state, and what was attended to."""
    adapted.activate(name)
    state = hidden(adapted, inputs)
    weights = [seen.weights for seen in adapted.attention()]
    adapted.deactivate()
    return state, weights


def alone(folder, architecture="bert", **options):
    """A fresh model with what the folder holds, and nothing else; the fusion's name."""
    adapted = compose.attach(make_model(architecture))
    return adapted, adapted.load_fusion(folder, **options)


@pytest.mark.parametrize("methods", MEMBERS)
def test_it_says_the_same_without_its_members(architecture, methods, inputs, tmp_path):
    adapted, name = make_fusion(methods, architecture)
    adapted.save_fusion(name, tmp_path, form="compiled")
    expected, attended = said(adapted, name, inputs)

    again, own = alone(tmp_path, architecture)
    state, weights = said(again, own, inputs)

    assert not again.adapters
    torch.testing.assert_close(state, expected, atol=TOLERANCE, rtol=0)
    for ours, theirs in zip(weights, attended, strict=True):
        torch.testing.assert_close(ours, theirs, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("config", CONFIGS)
def test_every_config_of_a_fusion_compiles(config, inputs, tmp_path):
    adapted, name = make_fusion(config=config)
    adapted.save_fusion(name, tmp_path, form="compiled")
    expected, _ = said(adapted, name, inputs)

    again, own = alone(tmp_path)

    torch.testing.assert_close(said(again, own, inputs)[0], expected, atol=TOLERANCE, rtol=0)


def test_it_answers_to_its_expression_and_to_its_name(inputs, tmp_path):
    adapted, name = make_fusion()
    adapted.save_fusion(name, tmp_path, form="compiled")
    again, _ = alone(tmp_path, name="mixture")

    by_name, _ = said(again, "mixture", inputs)
    by_expression, _ = said(again, "fuse(a, b, c; name='mixture')", inputs)

    assert torch.equal(by_name, by_expression)


def test_it_stands_on_an_adapter_that_is_loaded(inputs, tmp_path):
    adapted, name = make_fusion(WIDTHS[:2])
    adapted.save_fusion(name, tmp_path, form="compiled")
    adapted.add("language", "seq_bn[reduction_factor=2]")
    randomise(adapted.adapters["language"], seed=8)
    again, _ = alone(tmp_path)
    again.add("language", "seq_bn[reduction_factor=2]")
    randomise(again.adapters["language"], seed=8)

    expected, _ = said(adapted, "stack(language, fuse(a, b))", inputs)
    state, _ = said(again, "stack(language, fuse(a, b))", inputs)

    torch.testing.assert_close(state, expected, atol=TOLERANCE, rtol=0)
    with pytest.raises(CompositionError, match="Nothing named 'a' is loaded"):
        again.activate("stack(a, fuse(a, b))")


def test_both_forms_stand_side_by_side(inputs, tmp_path):
    adapted, name = make_fusion()
    adapted.save_fusion(name, tmp_path, form="both")
    expected, _ = said(adapted, name, inputs)

    compiled, own = alone(tmp_path, form="compiled")
    trainable = make_adapted("bert", WIDTHS)
    trainable.load_fusion(tmp_path)

    assert isinstance(compiled.fusions[own], CompiledFusion)
    assert not isinstance(trainable.fusions[name], CompiledFusion)
    torch.testing.assert_close(said(compiled, own, inputs)[0], expected, atol=TOLERANCE, rtol=0)
    assert torch.equal(said(trainable, name, inputs)[0], expected)


def test_the_slim_form_takes_the_rest_from_its_members(inputs, tmp_path):
    adapted, name = make_fusion()
    adapted.save_fusion(name, tmp_path, form="slim")
    expected, _ = said(adapted, name, inputs)
    again = make_adapted("bert", WIDTHS)

    again.load_fusion(tmp_path)

    assert isinstance(again.fusions[name], CompiledFusion)
    torch.testing.assert_close(said(again, name, inputs)[0], expected, atol=TOLERANCE, rtol=0)
    with pytest.raises(CompositionError, match="The member 'a' of the composition was never"):
        alone(tmp_path)


def test_the_other_form_in_a_folder_goes_when_one_is_written(tmp_path):
    adapted, name = make_fusion()
    adapted.save_fusion(name, tmp_path, form="both")

    adapted.save_fusion(name, tmp_path, form="compiled")
    compiled = {path.name for path in tmp_path.iterdir()}
    adapted.save_fusion(name, tmp_path)
    trainable = {path.name for path in tmp_path.iterdir()}

    shared = {"composition.json", "base_fingerprint.json"}
    assert compiled - shared == {
        "adapter_fusion_compiled.json",
        "model_adapter_fusion_compiled.safetensors",
        "model_adapter_fusion_members.safetensors",
    }
    assert trainable - shared == {
        "adapter_fusion_config.json",
        "model_adapter_fusion.safetensors",
    }


def test_what_was_loaded_compiled_is_written_the_same_again(tmp_path):
    adapted, name = make_fusion()
    adapted.save_fusion(name, tmp_path / "once", form="compiled")
    again, own = alone(tmp_path / "once")

    again.save_fusion(own, tmp_path / "twice", form="compiled")

    for path in (tmp_path / "once").iterdir():
        assert path.read_bytes() == (tmp_path / "twice" / path.name).read_bytes()
    with pytest.raises(CompositionError, match="its projections are not known any more"):
        again.save_fusion(own, tmp_path / "trainable")
    assert not (tmp_path / "trainable").exists()


def test_it_cannot_be_trained(tmp_path):
    adapted, name = make_fusion()
    adapted.save_fusion(name, tmp_path, form="compiled")
    again, own = alone(tmp_path)

    with pytest.raises(CompositionError, match="is compiled, so it has no projections to train"):
        again.trainable(own)

    assert again.regularization() == 0


def test_it_keeps_its_numbers_while_something_else_is_trained(inputs, tmp_path):
    adapted, name = make_fusion(config={"temperature": True})
    adapted.save_fusion(name, tmp_path, form="compiled")
    again, own = alone(tmp_path)
    again.add_head("top", labels=["no", "yes"])
    again.activate(own, head="top")
    before = hidden_logits(again, inputs)
    again.trainable(heads=["top"])
    again.train()

    again(**inputs, labels=torch.tensor([0, 1, 0])).loss.backward()
    again.eval()

    assert torch.equal(hidden_logits(again, inputs), before)


def hidden_logits(adapted, inputs):
    with torch.no_grad():
        return adapted(**inputs).logits


def test_it_follows_the_model_to_another_dtype(inputs, tmp_path):
    adapted, name = make_fusion()
    adapted.save_fusion(name, tmp_path, form="compiled")
    again, own = alone(tmp_path)
    expected, _ = said(again, own, inputs)

    again.double()
    state, _ = said(again, own, inputs)

    assert state.dtype == torch.float64
    torch.testing.assert_close(state.float(), expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize(
    ("methods", "config", "expression", "why"),
    [
        pytest.param(
            ["seq_bn[ln_before=True]", "seq_bn"], {}, "fuse(a, b)", "reads through a norm of its own",
            id="a norm of its own",
        ),
        pytest.param(
            ["seq_bn", "seq_bn"], {"residual_before": True}, "fuse(a, b)", "residual through the value map",
            id="residual before",
        ),
        pytest.param(
            ["seq_bn", "seq_bn", "seq_bn"], {}, "fuse(stack(c, a), b)", "a stack stands inside it", id="a stack"
        ),
        pytest.param(
            ["seq_bn_inv", "seq_bn"], {}, "fuse(a, b)", "has more than bottlenecks", id="an invertible member"
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_multiplied_in_is_refused(methods, config, expression, why, tmp_path):
    adapted = make_adapted("bert", methods)
    name = fused(adapted, "a", "b", config=config)
    adapted.fusions[name].expression = expression

    with pytest.raises(CompositionError, match=why):
        adapted.save_fusion(name, tmp_path / "fusion", form="compiled")

    assert not (tmp_path / "fusion").exists()


def test_unknown_forms_and_pickles_are_refused(tmp_path):
    adapted, name = make_fusion()

    with pytest.raises(CompositionError, match="no form 'tiny'"):
        adapted.save_fusion(name, tmp_path, form="tiny")
    with pytest.raises(CompositionError, match="safetensors only"):
        adapted.save_fusion(name, tmp_path, form="compiled", format="bin")
    with pytest.raises(NotAnAdapter):
        adapted.load_fusion(tmp_path)


def test_a_member_it_does_not_have_is_refused(tmp_path):
    adapted, name = make_fusion()
    adapted.save_fusion(name, tmp_path, form="compiled")
    again, own = alone(tmp_path)

    with pytest.raises(CompositionError, match="has no member `d`"):
        again.activate(f"fuse(a, d; name='{own}')")
    with pytest.raises(CompositionError, match=r"has no member `stack\(a, b\)`"):
        again.activate(f"fuse(stack(a, b), c; name='{own}')")


def test_some_of_its_members_can_be_activated_alone(inputs, tmp_path):
    adapted, name = make_fusion()
    adapted.save_fusion(name, tmp_path, form="compiled")
    again, own = alone(tmp_path)

    expected, _ = said(adapted, f"fuse(c, a; name='{name}')", inputs)
    state, weights = said(again, f"fuse(c, a; name='{own}')", inputs)

    torch.testing.assert_close(state, expected, atol=TOLERANCE, rtol=0)
    assert weights[0].shape[-1] == 2


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        pytest.param({"members": None}, "has no 'members'", id="no members"),
        pytest.param({"members": []}, "has no members", id="empty"),
        pytest.param({"members": ["a"]}, "a member without a config", id="only a name"),
        pytest.param({"members": [{"config": {}}]}, "has no 'name'", id="without a name"),
    ],
)
def test_a_damaged_config_is_named(change, fault, tmp_path):
    adapted, name = make_fusion()
    adapted.save_fusion(name, tmp_path, form="compiled")
    path = tmp_path / "adapter_fusion_compiled.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))

    with pytest.raises(Corrupt, match=fault):
        alone(tmp_path)


def test_a_published_one_is_a_composition_and_needs_no_member(library, published, inputs, tmp_path):
    adapted = published_fusion(library, tmp_path)
    adapted.save_fusion("mnli,qqp", tmp_path / "compiled", head="rte", form="compiled")
    with torch.no_grad():
        expected = adapted(**inputs).logits
    content = formats.inspect(tmp_path / "compiled")
    library.publish("nli/rte@me", tmp_path / "compiled", format="composition")

    again = attached(library)
    own = again.load("nli/rte@me")
    again.activate(own)
    with torch.no_grad():
        logits = again(**inputs).logits

    assert content.method.format == "composition"
    assert content.method.name == "fusion"
    assert {m.reference for m in content.composition.members} == {"nli/mnli@ukp", "sts/qqp@ukp"}
    assert set(content.files) >= {
        "adapter_fusion_compiled.json",
        "model_adapter_fusion_compiled.safetensors",
        "model_adapter_fusion_members.safetensors",
        "composition.json",
    }
    assert not content.left_out
    assert not again.adapters
    assert library.pulled[-1] == "nli/rte@me"
    torch.testing.assert_close(logits, expected, atol=TOLERANCE, rtol=0)


def test_a_member_that_also_acts_by_itself_is_pulled(library, published, inputs, tmp_path):
    adapted = published_fusion(library, tmp_path, expression="stack(mnli, fuse(mnli, qqp))")
    adapted.save_fusion("mnli,qqp", tmp_path / "compiled", head="rte", form="compiled")
    with torch.no_grad():
        expected = adapted(**inputs).logits

    again = attached(library)
    again.activate(again.load_fusion(tmp_path / "compiled"))
    with torch.no_grad():
        logits = again(**inputs).logits

    assert list(again.adapters) == ["mnli"]
    torch.testing.assert_close(logits, expected, atol=TOLERANCE, rtol=0)


def test_the_pins_of_members_stay_when_it_is_saved_again(library, published, tmp_path):
    adapted = published_fusion(library, tmp_path)
    adapted.save_fusion("mnli,qqp", tmp_path / "compiled", form="compiled")
    again = attached(library)
    own = again.load_fusion(tmp_path / "compiled")

    again.save_fusion(own, tmp_path / "again", form="compiled")

    once, twice = (
        json.loads((tmp_path / n / "composition.json").read_text()) for n in ("compiled", "again")
    )
    assert twice["members"] == once["members"]
    assert all(member["digest"] for member in twice["members"])


def test_the_size_of_a_fusion_of_three_over_bert_base(tmp_path, record_property):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = transformers.BertConfig(num_hidden_layers=1)
        adapted = compose.attach(transformers.BertModel(config))
    for name in "abc":
        adapted.add(name, "seq_bn[reduction_factor=16]")
    fusion = adapted.add_fusion("a", "b", "c")
    sizes = {}
    for form in ("trainable", "compiled", "slim"):
        adapted.save_fusion(fusion, tmp_path / form, form=form)
        sizes[form] = 12 * sum(p.stat().st_size for p in (tmp_path / form).glob("*.safetensors"))
        record_property(f"bytes, {form}", sizes[form])

    # Megabytes of the weights for twelve layers.
    assert {form: round(size / 1e6, 1) for form, size in sizes.items()} == {
        "trainable": 85.0,
        "compiled": 16.2,
        "slim": 10.8,
    }
