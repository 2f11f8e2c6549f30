"""Every method that acts at linear layers: what it computes, what it trains, and that it leaves no trace."""

import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from adapterhub_client import compose
from adapterhub_client.compose.methods import linear
from adapterhub_client.compose.sites.spots import Projection
from adapterhub_client.errors import CompositionError

from .conftest import BERT_LIKE, hidden, make_adapted, make_model, randomise

METHODS = [
    pytest.param("lora", id="lora"),
    pytest.param(
        "lora[attn_matrices=['q','k','v'], intermediate_lora=True, output_lora=True, r=4, alpha=12]",
        id="lora everywhere",
    ),
    pytest.param("lora[use_gating=True]", id="gated lora"),
    pytest.param("lora[init_weights='bert']", id="lora, bert's weights"),
    pytest.param("dora", id="dora"),
    pytest.param("vera", id="vera"),
    pytest.param("dvora", id="dvora"),
    pytest.param("ia3", id="ia3"),
    pytest.param("ia3[use_gating=True, alpha=2]", id="gated ia3"),
    pytest.param("mtl_lora[n_up_projection=3]", id="mtl_lora"),
    pytest.param(
        "mtl_lora[task_specific_matrix_type='linear', use_gating=True]", id="mtl_lora, full matrix"
    ),
]


def gpt2():
    torch.manual_seed(7)
    config = transformers.GPT2Config(
        vocab_size=96,
        n_positions=40,
        n_embd=32,
        n_layer=2,
        n_head=4,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = transformers.GPT2Model(config)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.2)
    return model.eval()


def on_gpt2(*methods):
    adapted = compose.attach(gpt2())
    for index, method in enumerate(methods):
        adapted.add("abc"[index], method)
        randomise(adapted.adapters["abc"[index]], seed=index + 1)
    return adapted


def loss_of(adapted, inputs):
    output = adapted(**inputs).last_hidden_state
    return (output * torch.arange(output.numel()).view_as(output).cos()).mean()


def first(adapted, name="a"):
    """An adapter's module at its first place, and the layer there."""
    backbone = adapted.backbone
    for place in backbone.places(Projection):
        module = adapted.adapters[name].places
        if str(place) in module:
            return module[str(place)], linear.module_at(backbone, place)
    raise AssertionError


@pytest.mark.parametrize(
    "method", ["lora", "lora[use_gating=True]", "dora", "vera", "dvora", "ia3", "mtl_lora"]
)
def test_a_new_adapter_changes_nothing(architecture, method, inputs):
    adapted = compose.attach(make_model(architecture))
    before = hidden(adapted, inputs)
    adapted.add("a", method)

    adapted.activate("a")

    torch.testing.assert_close(hidden(adapted, inputs), before, atol=2e-5, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_an_adapter_acts_and_leaves_no_trace(architecture, method, inputs):
    adapted = make_adapted(architecture, [method])
    state = {name: tensor.clone() for name, tensor in adapted.model.state_dict().items()}
    before = hidden(adapted, inputs)

    adapted.activate("a")
    during = hidden(adapted, inputs)
    model = adapted.detach()

    assert (during - before).abs().max() > 0.05
    assert torch.equal(hidden(model, inputs), before)
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())  # noqa: SLF001


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("form", ["safetensors", "bin"])
def test_what_is_saved_is_loaded_bit_for_bit(method, form, inputs, tmp_path):
    adapted = make_adapted("bert", [method])
    adapted.activate("a")
    expected = hidden(adapted, inputs)
    adapted.save("a", tmp_path / "a", format=form)

    other = compose.attach(make_model())
    other.load(tmp_path / "a", name="b")
    other.activate("b")

    assert torch.equal(hidden(other, inputs), expected)
    assert other.adapters["b"].config == adapted.adapters["a"].config


@pytest.mark.parametrize("method", METHODS)
def test_gradients_reach_the_adapter_alone(method, inputs):
    adapted = make_adapted("bert", [method, "lora"])
    adapted.activate("a")
    adapted.trainable("a")

    loss_of(adapted, inputs).backward()

    own = dict(adapted.adapters["a"].named_parameters())
    frozen = {name for name in own if name.split(".")[-2] == "shared"}
    assert all((own[name].grad is None) == (name in frozen) for name in own)
    rest = [p for n, p in adapted.named_parameters() if "adapter a" not in n]
    assert all(p.grad is None for p in rest)
    assert frozen == {n for n in own if n in {"places.shared.lora_A", "places.shared.lora_B"}}


@pytest.mark.parametrize("method", METHODS)
def test_gradients_are_those_of_finite_differences(method, inputs):
    adapted = make_adapted("bert", [method])
    adapted.to(torch.float64)
    adapted.activate("a")
    adapted.trainable("a")
    adapted.eval()

    def loss():
        return loss_of(adapted, inputs)

    loss().backward()

    for name, parameter in adapted.adapters["a"].named_parameters():
        if parameter.grad is None:
            continue
        at = parameter.grad.abs().argmax()
        with torch.no_grad():
            values = []
            for step in (1e-5, -2e-5):
                parameter.view(-1)[at] += step
                values.append(loss().item())
            parameter.view(-1)[at] += 1e-5
        measured = (values[0] - values[1]) / 2e-5
        assert measured == pytest.approx(parameter.grad.view(-1)[at].item(), rel=1e-5), name


@pytest.mark.parametrize("method", METHODS)
def test_training_changes_what_is_computed_at_once(method, inputs):
    adapted = make_adapted("bert", [method])
    adapted.activate("a")
    before = hidden(adapted, inputs)
    adapted.trainable("a")
    optimizer = torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], lr=20.0)

    loss_of(adapted, inputs).backward()
    optimizer.step()
    after = hidden(adapted, inputs)

    adapted.requires_grad_(requires_grad=False)
    assert (after - before).abs().max() > 1e-5
    torch.testing.assert_close(hidden(adapted, inputs), after, atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_the_merged_weight_computes_the_same(method, inputs):
    adapted = make_adapted("bert", [method])
    module, layer = first(adapted)
    given = torch.randn(2, 5, 32, dtype=torch.float64)
    adapted.to(torch.float64)
    if module.gate is not None:
        with pytest.raises(CompositionError, match="depends on the input"):
            module.change_of_weight(layer)
        return
    output = layer(given)

    weight = layer.weight + module.change_of_weight(layer)
    bias = layer.bias + module.change_of_bias(layer)

    torch.testing.assert_close(
        functional.linear(given, weight, bias),
        module(given, None, output, layer),
        atol=1e-10,
        rtol=0,
    )


@pytest.mark.parametrize(
    "method", ["lora[attn_matrices=['k']]", "lora", "lora[attn_matrices=['q','k','v']]", "ia3"]
)
def test_a_merged_layer_is_changed_where_it_is_asked_for(method, inputs):
    adapted = on_gpt2(method)
    module, layer = first(adapted)
    given = torch.randn(2, 5, 32)
    output = layer(given)

    changed = module(given, None, output, layer)

    letters = adapted.adapters["a"].config.attn_matrices
    for number, letter in enumerate("qkv"):
        block = slice(32 * number, 32 * number + 32)
        moved = (changed[..., block] - output[..., block]).abs().max()
        assert (moved > 0.1) == (letter in letters)
    weight = layer.weight.T + module.change_of_weight(layer)
    bias = layer.bias + module.change_of_bias(layer)
    torch.testing.assert_close(functional.linear(given, weight, bias), changed, atol=1e-5, rtol=0)


def test_lora_adds_its_scaled_product():
    adapted = make_adapted("bert", ["lora[r=4, alpha=12]"])
    module, layer = first(adapted)
    given = torch.randn(2, 5, 32)
    output = layer(given)

    added = module(given, None, output, layer) - output

    torch.testing.assert_close(
        added, 3 * given @ module.lora_A.T @ module.lora_B.T, atol=1e-5, rtol=0
    )


def test_a_gate_stands_in_the_place_of_the_scale():
    adapted = make_adapted("bert", ["lora[r=4, alpha=12, use_gating=True]"])
    module, layer = first(adapted)
    given = torch.randn(2, 5, 32)
    output = layer(given)

    added = module(given, None, output, layer) - output

    score = functional.linear(given, module.gate.weight, module.gate.bias)
    gate = torch.sigmoid(score).mean(dim=1, keepdim=True)
    torch.testing.assert_close(
        added, gate * (given @ module.lora_A.T @ module.lora_B.T), atol=1e-5, rtol=0
    )


def test_dora_gives_every_row_its_length():
    adapted = make_adapted("bert", ["dora[alpha=16]"])
    module, layer = first(adapted)
    given = torch.randn(2, 5, 32)
    product = module.lora_B @ module.lora_A

    changed = module(given, None, layer(given), layer)

    lengths = (layer.weight + product).norm(dim=1)
    expected = module.m.weight.flatten() / lengths * (layer(given) + 2 * given @ product.T)
    torch.testing.assert_close(changed, expected, atol=1e-4, rtol=1e-4)


def test_vera_trains_what_stands_between_shared_maps():
    adapted = make_adapted("bert", ["vera"])
    module, layer = first(adapted)
    shared = adapted.adapters["a"].places["shared"]
    given = torch.randn(2, 5, 32)

    added = module(given, None, layer(given), layer) - layer(given)

    product = module.vera_B @ shared.lora_B @ module.vera_D @ shared.lora_A
    torch.testing.assert_close(added, given @ product.T, atol=1e-4, rtol=1e-4)


def test_ia3_scales_the_bias_too():
    adapted = make_adapted("bert", ["ia3[alpha=3]"])
    module, layer = first(adapted)
    given = torch.randn(2, 5, 32)

    changed = module(given, None, layer(given), layer)

    torch.testing.assert_close(
        changed, 3 * layer(given) * module.lora_B.flatten(), atol=1e-5, rtol=1e-5
    )


def test_mtl_lora_weighs_its_up_projections():
    adapted = make_adapted("bert", ["mtl_lora[n_up_projection=2]"])
    module, layer = first(adapted)
    given = torch.randn(2, 5, 32)

    added = module(given, None, layer(given), layer) - layer(given)

    raised = (module.weights / 0.05).exp()
    up = (raised[0] * module.lora_B[0] + raised[1] * module.lora_B[1]) / raised.sum()
    code = given @ module.lora_A.T * module.task_specific.values
    torch.testing.assert_close(added, code @ up.T, atol=1e-4, rtol=1e-4)


def test_fresh_weights_follow_the_config():
    adapted = compose.attach(make_model())
    for name, method in (
        ("a", "lora[init_weights_seed=5]"),
        ("b", "lora[init_weights_seed=5]"),
        ("c", "lora[init_weights='ia3']"),
        ("d", "vera[vera_d=0.5, vera_b=0.25]"),
    ):
        adapted.add(name, method)
    module, layer = first(adapted)

    assert torch.equal(module.lora_A, first(adapted, "b")[0].lora_A)
    assert module.lora_A.abs().max() > 0.1
    assert (module.lora_B == 0).all()
    assert (first(adapted, "c")[0].lora_B == 1).all()
    assert torch.equal(first(adapted, "d")[0].vera_D, torch.eye(8) * 0.5)
    assert torch.equal(first(adapted, "d")[0].vera_B, torch.eye(32) * 0.25)
    assert layer.weight.shape == (32, 32)


def test_left_out_layers_have_no_adapter():
    adapted = make_adapted("bert", ["lora[leave_out=[0]]"])

    assert {key.split()[0] for key in adapted.adapters["a"].places} == {"1"}


def test_keys_are_those_of_the_library(tmp_path):
    adapted = make_adapted("bert", ["dvora[intermediate_lora=False]"])

    adapted.save("a", tmp_path)

    tensors = load_file(tmp_path / "adapter.safetensors")
    root = "bert.encoder.layer.1.attention.self.value.loras.a."
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    assert shapes[root + "vera_D"] == (8, 8)
    assert shapes[root + "vera_B"] == (32, 32)
    assert shapes[root + "m.weight"] == (32, 1)
    assert shapes["bert.shared_parameters.a.lora_A"] == (8, 32)
    assert shapes["bert.shared_parameters.a.lora_B"] == (32, 8)


@pytest.mark.parametrize(
    ("method", "words"),
    [
        pytest.param("lora[init_weights='odd']", "'odd'", id="initialisation"),
        pytest.param("lora[selfattn_lora=False]", "none of its linear layers", id="nothing"),
        pytest.param("ia3[r=2]", "r=2", id="ia3 of rank 2"),
        pytest.param("ia3[dropout=0.1]", "dropout=0.1", id="ia3 with dropout"),
        pytest.param("ia3[use_dora=True]", "use_dora", id="ia3 as dora"),
        pytest.param("vera[vera_b=None]", "both vera_d and vera_b", id="half of vera"),
        pytest.param("vera[output_lora=True]", "(32, 32)", id="vera over two shapes"),
        pytest.param("mtl_lora[use_dora=True]", "use_dora", id="mtl_lora as dora"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(method, words):
    adapted = compose.attach(make_model())

    with pytest.raises(CompositionError) as refused:
        adapted.add("a", method)

    assert words in str(refused.value)
    assert not adapted.adapters


@pytest.mark.parametrize("method", ["dora", "vera", "mtl_lora"])
def test_merged_layers_refuse_what_their_format_cannot_say(method):
    adapted = compose.attach(gpt2())

    with pytest.raises(CompositionError, match="query, key and value at once"):
        adapted.add("a", method)


def test_another_rank_is_refused_with_both_shapes(tmp_path):
    make_adapted("bert", ["lora[r=4]"]).save("a", tmp_path)
    text = (tmp_path / "adapter_config.json").read_text()
    (tmp_path / "adapter_config.json").write_text(text.replace('"r": 4', '"r": 6'))
    adapted = compose.attach(make_model())

    with pytest.raises(CompositionError, match=r"\(4, 32\).*\(6, 32\)"):
        adapted.load(tmp_path)

    assert not adapted.adapters


@pytest.mark.parametrize(
    ("version", "alpha"),
    [("adapters.1.0.1", 4), ("0.2.2", 4), ("adapters.1.1.0", 12), ("3.2.1", 12)],
)
def test_the_alpha_that_old_versions_ignored_is_ignored(version, alpha, tmp_path):
    make_adapted("bert", ["lora[r=4, alpha=12]"]).save("a", tmp_path)
    config = tmp_path / "adapter_config.json"
    text = config.read_text()
    assert '"version": "adapters.1.3.0"' in text
    config.write_text(text.replace("adapters.1.3.0", version))
    adapted = compose.attach(make_model())

    adapted.load(tmp_path)

    assert adapted.adapters["a"].config.alpha == alpha


def test_grouped_keys_and_values_have_their_own_width():
    config = transformers.LlamaConfig(
        vocab_size=96,
        num_key_value_heads=2,
        **{k: v for k, v in BERT_LIKE.items() if k != "vocab_size"},
    )
    adapted = compose.attach(transformers.LlamaModel(config))

    adapted.add("a", "lora[intermediate_lora=True]")

    places = adapted.adapters["a"].places
    assert places["0 value"].lora_B.shape == (16, 8)
    assert places["0 query"].lora_B.shape == (32, 8)
    # The reference library has the names of the feed-forward layers the other way round.
    assert places["0 intermediate"].lora_A.shape == (8, 64)


@pytest.mark.parametrize("method", METHODS)
def test_half_precision_under_autocast_is_near(method, inputs):
    adapted = make_adapted("bert", [method])
    adapted.activate("a")
    expected = hidden(adapted, inputs)

    with torch.autocast("cpu", torch.bfloat16):
        found = hidden(adapted, inputs)

    torch.testing.assert_close(found.float(), expected, atol=0.2, rtol=0.1)
