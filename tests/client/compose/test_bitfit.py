"""BitFit: changes of biases, composed like everything at linear layers."""

import pytest
import torch
import transformers
from safetensors.torch import load_file

from adapterhub_client import compose
from adapterhub_client.errors import CompositionError

from .conftest import BERT_LIKE, hidden, make_adapted, make_model
from .test_linear_laws import TOLERANCE, alone
from .test_linear_layers import loss_of


def test_it_changes_the_biases_and_nothing_else(architecture, inputs):
    adapted = make_adapted(architecture, ["bitfit"])
    adapted.activate("a")
    found = hidden(adapted, inputs)
    changes = dict(adapted.adapters["a"].places.items())

    model = adapted.detach()
    with torch.no_grad():
        for key, change in changes.items():
            layer, path = key.split(" bias of ")
            layers = model.transformer if architecture == "distilbert" else model.encoder
            module = layers.layer[int(layer)].get_submodule(path.replace(" ", "."))
            module.bias += change.bias

    torch.testing.assert_close(found, hidden(model, inputs), **TOLERANCE)
    # Six linear layers and two norms in each of two layers.
    assert len(changes) == 16


@pytest.mark.parametrize(
    ("option", "count"), [("attention", 4), ("feed_forward", 2), ("layer_norm", 2)]
)
def test_each_option_stands_for_its_part(option, count):
    rest = {"attention", "feed_forward", "layer_norm"} - {option}
    options = ", ".join(f"{name}=False" for name in sorted(rest))

    adapted = make_adapted("bert", [f"bitfit[{options}, leave_out=[1]]"])

    assert len(adapted.adapters["a"].places) == count


def test_it_is_saved_under_the_names_of_its_modules(inputs, tmp_path):
    adapted = make_adapted("bert", ["bitfit"])
    expected = alone(adapted, "a", inputs)
    adapted.save("a", tmp_path)

    other = compose.attach(make_model())
    other.load(tmp_path, name="b")

    assert torch.equal(alone(other, "b", inputs), expected)
    tensors = load_file(tmp_path / "adapter.safetensors")
    assert tensors["bert.encoder.layer.0.attention.self.query.bitfits.a.bias"].shape == (32,)
    assert tensors["bert.encoder.layer.1.output.LayerNorm.bitfits.a.bias"].shape == (32,)


def test_gradients_reach_the_changes_alone(inputs):
    adapted = make_adapted("bert", ["bitfit"])
    adapted.activate("a")
    adapted.trainable("a")

    loss_of(adapted, inputs).backward()

    assert all(p.grad is not None for p in adapted.adapters["a"].parameters())
    assert all(p.grad is None for p in adapted.model.parameters())


def test_it_composes(inputs):
    adapted = make_adapted("bert", ["bitfit", "bitfit", "lora"])
    expected = torch.cat([alone(adapted, name, inputs) for name in "abc"])
    stacked = alone(adapted, "stack(a, b)", inputs)
    adapted.activate("average(a, b; weights=[1, 1])")
    summed = hidden(adapted, inputs)

    adapted.activate("parallel(a, b, c)")

    torch.testing.assert_close(hidden(adapted, inputs), expected, **TOLERANCE)
    torch.testing.assert_close(summed, stacked, **TOLERANCE)


def test_a_parallel_batch_is_copied_before_the_first_bias(inputs):
    adapted = make_adapted("bert", ["seq_bn", "bitfit|seq_bn"])
    expected = torch.cat([alone(adapted, name, inputs) for name in "ab"])

    adapted.activate("parallel(a, b)")

    torch.testing.assert_close(hidden(adapted, inputs), expected, **TOLERANCE)


def test_skipped_layers_are_left_alone(inputs):
    adapted = make_adapted("bert", ["bitfit"])
    plain = hidden(adapted, inputs)

    adapted.activate("a", skip_layers=[0, 1])

    assert torch.equal(hidden(adapted, inputs), plain)


def test_a_model_without_biases_is_refused():
    adapted = compose.attach(transformers.LlamaModel(transformers.LlamaConfig(**BERT_LIKE)))

    with pytest.raises(CompositionError, match="none of the biases"):
        adapted.add("a", "bitfit")
