"""BitFit: changes of biases, composed like everything at linear layers."""

import pytest
import torch
import transformers
from safetensors.torch import load_file

from adapterhub_client import compose
from adapterhub_client.compose import expression
from adapterhub_client.compose.methods import bitfit
from adapterhub_client.errors import CompositionError

from .conftest import BERT_LIKE, hidden, make_adapted, make_model
from .small_models import adapted_of, batch_of
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


BESIDE = [
    "seq_bn[reduction_factor=4]",
    "double_seq_bn[reduction_factor=4]",
    "par_bn[reduction_factor=4]",
    "seq_bn[use_gating=True]",
    "seq_bn[original_ln_before=False, residual_before_ln=False]",
]
DIVIDED = [
    "batchsplit(stack(a, b), c; batch_sizes=[2, 1])",
    "batchsplit(a, stack(b, c); batch_sizes=[1, 2])",
    "batchsplit(stack(b, c), stack(a, b, c); batch_sizes=[1, 2])",
    "parallel(stack(a, b), stack(b, c))",
    "parallel(stack(a, b, c), c)",
]


def with_biases(adapted, name):
    """Add an adapter's changes to the model's own biases."""
    own = adapted.adapters[name].places
    with torch.no_grad():
        for place in bitfit.biases(adapted.backbone):
            if str(place) in own:
                place.module.bias += own[str(place)].bias


@pytest.mark.parametrize("beside", BESIDE)
@pytest.mark.parametrize("composition", ["stack(a, b)", "stack(a, b, c)", "stack(b, a, c)"])
@pytest.mark.parametrize("architecture", ["bert", "distilbert", "albert", "bart", "vit", "gpt2"])
def test_bottlenecks_beside_it_go_through_the_changed_norms(architecture, composition, beside):
    adapted = adapted_of(architecture, ["bitfit", beside, BESIDE[0]])
    inputs = batch_of(architecture)
    adapted.activate(composition)
    found = hidden(adapted, inputs)

    adapted.deactivate()
    with_biases(adapted, "a")
    adapted.activate(composition.replace("a, ", ""))

    torch.testing.assert_close(found, hidden(adapted, inputs), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("beside", BESIDE)
@pytest.mark.parametrize("composition", DIVIDED)
@pytest.mark.parametrize("architecture", ["bert", "bart", "vit"])
def test_each_row_goes_through_its_own_norms(architecture, composition, beside):
    adapted = adapted_of(architecture, ["bitfit", beside, BESIDE[1]])
    inputs = batch_of(architecture)
    tree = expression.parse(composition)
    alone = []
    for part in tree.children:
        adapted.activate(str(part))
        alone.append(hidden(adapted, inputs))
    expected = torch.cat(alone)
    if composition.startswith("batchsplit"):
        first = tree.batch_sizes[0]
        expected = torch.cat([alone[0][:first], alone[1][first:]])

    adapted.activate(composition)

    torch.testing.assert_close(hidden(adapted, inputs), expected, atol=1e-4, rtol=1e-4)


def test_rows_cannot_name_it():
    adapted = make_adapted("bert", ["bitfit", "seq_bn"])

    with pytest.raises(
        CompositionError, match="Rows cannot name 'a': it changes biases"
    ) as refused:
        adapted.activate_rows("ab")

    assert refused.value.hint == "activate it alone, or in a `batchsplit`"
