"""AdapterDrop: layers without adapters, for one composition or for good."""

import pytest
import torch

from adapterhub_client import compose
from adapterhub_client.errors import CompositionError

from .conftest import fused, hidden, make_adapted, make_model, randomise

METHODS = [
    pytest.param("seq_bn[reduction_factor=2]", id="seq_bn"),
    pytest.param("double_seq_bn[reduction_factor=4]", id="double_seq_bn"),
    pytest.param("lora[r=4]", id="lora"),
    pytest.param("ia3", id="ia3"),
    pytest.param("bitfit", id="bitfit"),
    pytest.param("compacter[phm_dim=2, reduction_factor=4]", id="compacter"),
]
# These have no `leave_out`, or one module that holds something of all layers.
WHOLE = [
    pytest.param("loreft[r=2]", id="reft"),
    pytest.param("prefix_tuning[prefix_length=3, bottleneck_size=8]", id="prefix"),
    pytest.param("prefix_tuning_flat[prefix_length=3]", id="flat prefix"),
    pytest.param("prefix_tuning[prefix_length=3, use_gating=True]", id="gated prefix"),
    pytest.param("mam", id="mam"),
    pytest.param("unipelt", id="unipelt"),
]


def in_upper_layer(adapted, method):
    """The same weights as adapter a, but none in the lower layer."""
    adapted.add(
        "upper", method[:-1] + ", leave_out=[0]]" if "[" in method else f"{method}[leave_out=[0]]"
    )
    for key, module in adapted.adapters["upper"].places.items():
        module.load_state_dict(adapted.adapters["a"].places[key].state_dict())
    return adapted


@pytest.mark.parametrize("method", METHODS)
def test_a_skipped_layer_is_a_layer_without_the_adapter(architecture, method, inputs):
    adapted = in_upper_layer(make_adapted(architecture, [method]), method)
    adapted.activate("upper")
    expected = hidden(adapted, inputs)

    adapted.activate("a", skip_layers=range(1))

    assert torch.equal(hidden(adapted, inputs), expected)


@pytest.mark.parametrize("method", METHODS)
def test_layers_can_be_left_out_at_load(method, inputs, tmp_path):
    adapted = in_upper_layer(make_adapted("bert", [method]), method)
    adapted.save("a", tmp_path / "a")
    adapted.activate("upper")
    expected = hidden(adapted, inputs)

    again = compose.attach(make_model())
    again.load(tmp_path / "a", leave_out=[0])
    again.activate("a")

    assert torch.equal(hidden(again, inputs), expected)
    assert {key.split()[0] for key in again.adapters["a"].places} - {"shared"} == {"1"}


@pytest.mark.parametrize("method", [*METHODS, *WHOLE])
def test_what_is_left_at_load_acts_as_if_the_layers_were_skipped(method, inputs, tmp_path):
    adapted = make_adapted("bert", [method], num_hidden_layers=3)
    adapted.save("a", tmp_path / "a")
    adapted.activate("a", skip_layers=[1])
    expected = hidden(adapted, inputs)

    again = compose.attach(make_model("bert", num_hidden_layers=3))
    again.load(tmp_path / "a", leave_out=[1])
    again.save("a", tmp_path / "fewer")
    last = compose.attach(make_model("bert", num_hidden_layers=3))
    last.load(tmp_path / "fewer")

    for loaded in (again, last):
        loaded.activate("a")
        assert torch.equal(hidden(loaded, inputs), expected)


def test_what_acts_before_all_layers_is_refused(tmp_path):
    adapted = make_adapted("bert", ["prompt_tuning[prompt_length=3]"])
    adapted.save("a", tmp_path / "a")

    with pytest.raises(CompositionError, match="'a' acts before all layers"):
        compose.attach(make_model()).load(tmp_path / "a", leave_out=[0])


def test_what_was_left_out_at_load_is_left_out_of_the_file_written_then(inputs, tmp_path):
    adapted = make_adapted("bert", ["seq_bn[reduction_factor=2]"])
    adapted.save("a", tmp_path / "a")
    again = compose.attach(make_model())
    again.load(tmp_path / "a", leave_out=[0])
    again.save("a", tmp_path / "upper")

    last = compose.attach(make_model())
    last.load(tmp_path / "upper")
    again.activate("a")
    last.activate("a")

    assert last.adapters["a"].config.leave_out == [0]
    assert torch.equal(hidden(last, inputs), hidden(again, inputs))


def test_layers_left_out_join_those_of_the_config(tmp_path):
    adapted = make_adapted("bert", ["seq_bn[leave_out=[0]]"], num_hidden_layers=3)
    adapted.save("a", tmp_path / "a")

    again = compose.attach(make_model("bert", num_hidden_layers=3))
    again.load(tmp_path / "a", leave_out=[1])

    assert again.adapters["a"].config.leave_out == [0, 1]
    assert list(again.adapters["a"].places) == ["2 output_adapter"]


def test_a_part_of_a_published_adapter_is_not_that_version(library, published, tmp_path):
    adapted = compose.attach(make_model(), hub=library)

    adapted.load("nli/mnli@ukp", name="whole")
    adapted.load("nli/mnli@ukp", name="upper", leave_out=[0])

    assert adapted.adapters["whole"].pin is not None
    assert adapted.adapters["upper"].pin is None


def test_a_fusion_mixes_in_the_layers_that_are_left(inputs):
    methods = ["seq_bn[reduction_factor=2]"] * 2
    adapted = make_adapted("bert", methods)
    name = fused(adapted, "a", "b")
    upper = make_adapted("bert", ["seq_bn[reduction_factor=2, leave_out=[0]]"] * 2)
    upper.add_fusion("a", "b")
    for kind in ("adapters", "fusions"):
        for own, loaded in getattr(upper, kind).items():
            theirs = getattr(adapted, kind)[own].places
            for key, module in loaded.places.items():
                module.load_state_dict(theirs[key].state_dict())
    upper.activate("fuse(a, b)")
    expected = hidden(upper, inputs)

    adapted.activate(name, skip_layers=[0])

    assert torch.equal(hidden(adapted, inputs), expected)
    assert [weights.layer for weights in adapted.attention()] == [1]


def test_a_fusion_goes_on_with_members_that_some_layers_lack(inputs, tmp_path):
    adapted = make_adapted("bert", ["seq_bn[reduction_factor=2]"] * 2)
    adapted.save("b", tmp_path / "b")
    again = make_adapted("bert", ["seq_bn[reduction_factor=2]"])
    again.load(tmp_path / "b", leave_out=[0])
    name = fused(again, "a", "b")

    again.activate(name)
    hidden(again, inputs)

    assert [weights.adapters for weights in again.attention()] == [("a",), ("a", "b")]


def test_unknown_layers_are_refused_and_nothing_is_loaded(tmp_path):
    adapted = make_adapted("bert", ["seq_bn"])
    adapted.save("a", tmp_path / "a")
    again = compose.attach(make_model())

    with pytest.raises(CompositionError, match="no layer 2 to leave out: 'bert' has 2 layers"):
        again.load(tmp_path / "a", leave_out=[2])
    with pytest.raises(CompositionError, match="Nothing of 'a' is left"):
        again.load(tmp_path / "a", leave_out=[0, 1])

    assert not again.adapters


def test_a_composition_is_not_left_out_of_layers_at_load(tmp_path):
    adapted = make_adapted("bert", ["seq_bn", "seq_bn"])
    adapted.save_fusion(fused(adapted, "a", "b"), tmp_path / "fusion")

    with pytest.raises(CompositionError, match="holds a composition"):
        adapted.load(tmp_path / "fusion", leave_out=[0])


def test_training_with_skipped_layers_trains_the_others_only(inputs):
    adapted = make_adapted("bert", ["seq_bn[reduction_factor=2]"])
    randomise(adapted.adapters["a"], seed=3)
    adapted.activate("a", skip_layers=[0])
    adapted.trainable("a")

    adapted(**inputs).last_hidden_state.sum().backward()

    trained = {
        key for key, m in adapted.adapters["a"].places.items() if m.down.weight.grad is not None
    }
    assert trained == {"1 output_adapter"}
