"""Folders of PEFT: what it wrote gives its numbers here, and what is written here gives ours there."""

import copy

import pytest
import torch
import transformers
from safetensors.torch import save_file

from adapterhub_client import compose
from adapterhub_client.compose import IncompatibleAdapter
from adapterhub_client.errors import CompositionError, NotAnAdapter
from adapterhub_client.formats import folder as formats

from .conftest import make_adapted, make_model, randomise
from .peft_folders import (
    CLASSIFIER,
    TOLERANCE,
    answer,
    both_ways,
    edit,
    gpt2,
    ia3,
    llama,
    lora,
    options,
    peft,
    same_bits,
    weights,
    written_by_peft,
)

# PEFT's own, on the newest transformers; nothing here gives a cause for any.
pytestmark = pytest.mark.filterwarnings("ignore")

TARGETS = {
    "bert": ["query", "value", "intermediate.dense"],
    "roberta": ["query", "key"],
    "distilbert": ["q_lin", "v_lin", "lin1"],
}


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("auto", [transformers.AutoModel, CLASSIFIER], ids=["bare", "with head"])
def test_lora_is_lossless_both_ways(name, auto, tmp_path, inputs):
    model = make_model(name, auto=auto)

    errors = both_ways(model, lora(TARGETS[name]), tmp_path, inputs)

    assert max(errors) <= TOLERANCE
    assert same_bits(tmp_path)
    kept = ("r", "lora_alpha", "lora_dropout", "use_dora", "bias", "rank_pattern", "alpha_pattern")
    before, after = options(tmp_path), options(tmp_path / "back")
    assert {key: after[key] for key in kept} == {key: before[key] for key in kept}
    ends = {target.rpartition(".")[2] for target in TARGETS[name]}
    assert {target.rpartition(".")[2] for target in after["target_modules"]} == ends


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"rank_pattern": {"query": 2}}, id="rank_pattern"),
        pytest.param({"alpha_pattern": {"layer.1.attention.self.value": 3}}, id="alpha_pattern"),
        pytest.param({"use_rslora": True}, id="rslora"),
        pytest.param({"layers_to_transform": [1]}, id="some layers"),
        pytest.param({"target_modules": r".*layer\.0.*query|.*layer\.1.*value"}, id="a regex"),
        pytest.param({"init_lora_weights": "gaussian"}, id="gaussian"),
    ],
)
def test_lora_of_every_shape_gives_the_same_numbers(changes, tmp_path, inputs):
    config = lora(**{"targets": ["query", "value"]} | {})
    for key, value in changes.items():
        setattr(config, key, value)

    errors = both_ways(make_model(), config, tmp_path, inputs)

    assert max(errors) <= TOLERANCE


@pytest.mark.parametrize(
    ("make", "config"),
    [
        pytest.param(gpt2, lambda: lora(["c_attn"]), id="gpt2 merged lora"),
        pytest.param(gpt2, lambda: ia3(["c_attn", "c_fc"]), id="gpt2 ia3"),
        pytest.param(llama, lambda: lora(["q_proj", "v_proj", "down_proj"]), id="llama lora"),
        pytest.param(llama, lambda: lora(["q_proj", "v_proj"], use_dora=True, lora_alpha=4), id="llama dora"),
    ],
)  # fmt: skip
def test_decoders_are_lossless_both_ways(make, config, tmp_path, inputs):
    errors = both_ways(make(), config(), tmp_path, {"input_ids": inputs["input_ids"]})

    assert max(errors) <= TOLERANCE
    assert same_bits(tmp_path)


@pytest.mark.parametrize("name", TARGETS)
def test_dora_beside_biases_is_lossless_both_ways(name, tmp_path, inputs):
    config = lora(TARGETS[name], use_dora=True, lora_alpha=4)

    errors = both_ways(make_model(name), config, tmp_path, inputs)

    assert max(errors) <= TOLERANCE
    assert same_bits(tmp_path)


def test_dora_of_peft_survives_our_own_format_and_merging(tmp_path, inputs):
    theirs = written_by_peft(tmp_path / "peft", make_model(), lora(["query"], use_dora=True))
    adapted = compose.attach(make_model())
    adapted.load(tmp_path / "peft", name="x")
    adapted.save("x", tmp_path / "ours")
    again = compose.attach(make_model())

    again.load(tmp_path / "ours")

    expected = answer(theirs, inputs)
    again.activate("x")
    assert (answer(again, inputs) - expected).abs().max() <= TOLERANCE
    again.deactivate()
    again.fold("x")
    assert (answer(again, inputs) - expected).abs().max() <= TOLERANCE


def test_several_doras_of_peft_side_by_side_are_as_each_alone(tmp_path, inputs):
    adapted = compose.attach(make_model())
    for number, name in enumerate("xy"):
        written_by_peft(tmp_path / name, make_model(), lora(["query"], use_dora=True, r=4 + number))
        adapted.load(tmp_path / name, name=name)
    alone = []
    for name in "xy":
        adapted.activate(name)
        alone.append(answer(adapted, inputs))

    adapted.activate("parallel(x, y)")

    assert (answer(adapted, inputs) - torch.cat(alone)).abs().max() <= TOLERANCE


def test_dora_of_another_scale_gives_the_same_numbers(tmp_path, inputs):
    config = lora(["q_proj"], use_dora=True, lora_alpha=16)

    errors = both_ways(llama(), config, tmp_path, {"input_ids": inputs["input_ids"]})

    assert max(errors) <= TOLERANCE


@pytest.mark.parametrize("name", ["bert", "distilbert"])
def test_ia3_is_lossless_both_ways(name, tmp_path, inputs):
    targets = {"bert": ["key", "value", "intermediate.dense"], "distilbert": ["k_lin", "lin1"]}
    config = ia3(targets[name])

    errors = both_ways(make_model(name), config, tmp_path, inputs)

    assert max(errors) <= TOLERANCE
    assert same_bits(tmp_path)


@pytest.mark.parametrize("auto", [transformers.AutoModel, CLASSIFIER], ids=["bare", "with head"])
def test_a_classifier_that_was_trained_along_comes_as_a_head(auto, tmp_path, inputs):
    whole = make_model(auto=CLASSIFIER)
    theirs = written_by_peft(tmp_path, whole, lora(["query"], task_type="SEQ_CLS"))
    model = copy.deepcopy(whole if auto is CLASSIFIER else whole.base_model)
    if auto is not CLASSIFIER:
        assert model.pooler is not None
    adapted = compose.attach(model)

    adapted.activate(adapted.load(tmp_path, name="x"), head="x")

    assert (answer(adapted, inputs) - answer(theirs, inputs)).abs().max() <= TOLERANCE


def test_a_head_of_the_model_itself_goes_along(tmp_path, inputs):
    adapted = compose.attach(make_model(auto=CLASSIFIER))
    adapted.add("x", "lora[r=4]")
    randomise(adapted.adapters["x"])
    adapted.trainable("x", base_head=True)
    adapted.activate("x")
    with torch.no_grad():
        adapted.model.classifier.bias.add_(1)

    adapted.save("x", tmp_path, format="peft")

    theirs = peft.PeftModel.from_pretrained(make_model(auto=CLASSIFIER), tmp_path).eval()
    assert (answer(theirs, inputs) - answer(adapted, inputs)).abs().max() <= TOLERANCE
    assert options(tmp_path)["modules_to_save"] == ["classifier"]


@pytest.mark.parametrize(
    ("method", "option"),
    [
        pytest.param("seq_bn", "Bottleneck", id="a bottleneck"),
        pytest.param("lora[use_gating=True]", "use_gating", id="gating"),
        pytest.param("dora", "use_dora", id="dora with biases"),
        pytest.param("dora[alpha=16]", "alpha=16 beside r=8", id="dora of another scale"),
        pytest.param("vera", "vera_d", id="vera"),
        pytest.param("ia3[alpha=2]", "alpha=2", id="ia3 with an alpha"),
        pytest.param("lora|seq_bn", "Union", id="a union"),
        pytest.param("prefix_tuning_flat", "counts_positions=False", id="a prefix"),
        pytest.param("prompt_tuning", "is_input=False", id="a prompt"),
    ],
)
def test_what_peft_cannot_express_is_refused_and_nothing_is_written(method, option, tmp_path):
    adapted = make_adapted("bert", [method])

    with pytest.raises(CompositionError, match=option):
        adapted.save("a", tmp_path, format="peft")

    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("config", "fact"),
    [
        pytest.param(lambda: lora(["query"], bias="all"), "bias='all'", id="bias"),
        pytest.param(lambda: lora(["output.dense"]), "'encoder.layer.0.attention.output.dense'", id="module"),
        pytest.param(lambda: lora(["query", "word_embeddings"]), "lora_embedding", id="embeddings"),
        pytest.param(lambda: ia3(["key", "value"], ["key"]), "feedforward_modules", id="ia3 of a key's input"),
        pytest.param(
            lambda: ia3(["0.output.dense", "1.output.dense"], ["0.output.dense"]),
            "not into all of them", id="ia3 of some inputs",
        ),
        pytest.param(lambda: peft.LoHaConfig(target_modules=["query"]), "LOHA", id="another method"),
    ],
)  # fmt: skip
def test_what_we_cannot_express_is_refused_and_nothing_is_loaded(config, fact, tmp_path):
    written_by_peft(tmp_path, make_model(), config())
    adapted = make_adapted("bert")

    with pytest.raises(CompositionError, match=fact):
        adapted.load(tmp_path)

    assert not {**adapted.adapters, **adapted.heads}


@pytest.mark.parametrize(
    ("changes", "fact"),
    [
        pytest.param({"init_lora_weights": "pissa"}, "init_lora_weights='pissa'", id="pissa"),
        pytest.param({"use_tomorrow": 3}, "use_tomorrow=3", id="an option of tomorrow"),
        pytest.param({"peft_type": "MAGIC"}, "MAGIC", id="a method of tomorrow"),
    ],
)
def test_options_that_nobody_knows_are_refused(changes, fact, tmp_path):
    written_by_peft(tmp_path, make_model(), lora(["query"]))
    edit(tmp_path, **changes)

    with pytest.raises(CompositionError, match=fact):
        make_adapted("bert").load(tmp_path)


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        pytest.param(lambda t, k: t.pop(k), r"1 missing: .*query \(A\)", id="missing"),
        pytest.param(lambda t, k: t.update({k + ".more": t[k] + 1}), "lora_A.weight.more", id="extra"),
        pytest.param(lambda t, k: t.update({k: t[k][:, :8]}), r"\(4, 8\).* asks for \(4, 32\)", id="shape"),
        pytest.param(lambda t, k: t.update({k: t[k] * float("nan")}), "NaN", id="nan"),
    ],
)  # fmt: skip
def test_tensors_that_do_not_fit_are_refused_and_nothing_is_loaded(change, fact, tmp_path):
    written_by_peft(tmp_path, make_model(), lora(["query"]))
    tensors = {key: value.contiguous() for key, value in weights(tmp_path).items()}
    change(tensors, min(tensors))
    save_file(
        {k: v.contiguous() for k, v in tensors.items()}, tmp_path / "adapter_model.safetensors"
    )
    adapted = make_adapted("bert")

    with pytest.raises(IncompatibleAdapter, match=fact):
        adapted.load(tmp_path)

    assert not adapted.adapters


def test_a_folder_without_weights_is_no_adapter(tmp_path):
    written_by_peft(tmp_path, make_model(), lora(["query"]))
    (tmp_path / "adapter_model.safetensors").unlink()

    with pytest.raises(NotAnAdapter):
        make_adapted("bert").load(tmp_path)


def test_what_is_written_can_be_published_as_peft(tmp_path):
    adapted = make_adapted("bert", ["lora"])
    adapted.save("a", tmp_path, format="peft")

    content = formats.inspect(tmp_path)

    assert content.method.format == "peft"
    assert content.method.name == "lora"
    assert {"adapter_config.json", "adapter_model.safetensors"} <= set(content.files)
