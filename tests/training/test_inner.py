"""What is fixed inside the first layer that is trained: found by running it, handed on, and nothing left behind."""

import pytest
import torch
from transformers import BertConfig, BertModel, GPT2Config, GPT2Model

from adapterhub_client import compose
from adapterhub_training import inner


@pytest.fixture
def bert():
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32,
    )  # fmt: skip
    return BertModel(config).eval()


@pytest.fixture
def gpt():
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2, n_positions=32)
    return GPT2Model(config).eval()


def adapted_with(model, config):
    adapted = compose.attach(model)
    adapted.add("one", config)
    adapted.model.requires_grad_(requires_grad=False)
    adapted.activate("one")
    with torch.no_grad():
        for parameter in adapted.adapters["one"].parameters():
            parameter.normal_(std=0.1)
    return adapted.eval()


def looked(adapted, layer):
    ids = torch.tensor([[1, 2, 3, 4, 5]])
    return inner.find(layer, lambda: adapted(input_ids=ids)), ids


@pytest.mark.parametrize(
    ("config", "modules", "skipped", "needs_input"),
    [
        pytest.param(
            "seq_bn",
            ["attention", "output.dropout"],
            ["intermediate", "output.dense"],
            False,
            id="after feed-forward",
        ),
        pytest.param(
            "double_seq_bn",
            ["attention.output.dropout"],
            ["attention.self", "attention.output.dense"],
            True,
            id="after attention",
        ),
        pytest.param(
            "par_bn",
            ["attention", "output.dropout"],
            ["intermediate", "output.dense"],
            False,
            id="beside feed-forward",
        ),
    ],
)
def test_what_an_adapter_leaves_as_it_is(bert, config, modules, skipped, needs_input):
    adapted = adapted_with(bert, config)

    found, _ = looked(adapted, bert.encoder.layer[0])

    assert [each.name for each in found.modules] == modules
    assert [each.name for each in found.skipped] == skipped
    assert found.needs_input is needs_input


@pytest.mark.parametrize("config", ["lora", "prefix_tuning"])
def test_nothing_is_fixed_where_attention_is_changed(bert, config):
    adapted = adapted_with(bert, config)

    assert looked(adapted, bert.encoder.layer[0])[0] is None


def test_nothing_is_fixed_in_a_layer_that_is_trained(bert):
    adapted = adapted_with(bert, "seq_bn")
    bert.encoder.layer[0].requires_grad_()

    assert looked(adapted, bert.encoder.layer[0])[0] is None


@pytest.mark.parametrize("config", ["seq_bn", "double_seq_bn", "par_bn"])
@pytest.mark.parametrize("base", ["bert", "gpt"])
def test_with_what_is_kept_the_model_does_the_same(request, base, config):
    model = request.getfixturevalue(base)
    adapted = adapted_with(model, config)
    layer = model.encoder.layer[0] if base == "bert" else model.h[0]
    found, ids = looked(adapted, layer)
    expected = adapted(input_ids=ids).last_hidden_state
    with torch.no_grad():
        came, kept = inner.outputs(layer, found, lambda: adapted(input_ids=ids))
    counted, computed = [], []
    handle = layer.get_submodule(found.modules[0].name).register_forward_hook(
        lambda *_: counted.append(1)
    )
    for each in (*found.modules, *found.skipped):
        for module in layer.get_submodule(each.name).children():
            module.register_forward_pre_hook(lambda *_: computed.append(1))

    with inner.given(layer, found, kept):
        output = adapted(input_ids=ids).last_hidden_state
    handle.remove()

    assert not computed
    assert came.shape == (1, 5, 16)
    assert counted, "hooks of what is handed on run as ever"
    torch.testing.assert_close(output, expected, rtol=0, atol=0)
    with inner.given(layer, found, [torch.randn_like(value) for value in kept]):
        assert not torch.allclose(adapted(input_ids=ids).last_hidden_state, expected)
    torch.testing.assert_close(adapted(input_ids=ids).last_hidden_state, expected, rtol=0, atol=0)


def test_modules_compute_again_what_they_did_before(bert):
    adapted = adapted_with(bert, "seq_bn")
    layer = bert.encoder.layer[0]
    before = {name: module.forward for name, module in layer.named_modules()}

    found, ids = looked(adapted, layer)
    inner.outputs(layer, found, lambda: adapted(input_ids=ids))

    assert {name: module.forward for name, module in layer.named_modules()} == before
    assert not any("forward" in vars(module) for module in layer.modules())
