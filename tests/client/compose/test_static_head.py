"""The heads that transformers classes come with: others stand in for them while active."""

import json

import pytest
import torch
import transformers
from torch.nn import functional

from adapterhub_client import compose
from adapterhub_client.compose import IncompatibleAdapter
from adapterhub_client.errors import CompositionError

from .conftest import make_model

LABELS = torch.tensor([0, 1, 2])
SEQUENCE = transformers.AutoModelForSequenceClassification
TOKENS = {
    "masked": transformers.AutoModelForMaskedLM,
    "causal": transformers.AutoModelForCausalLM,
}


def logits(adapted, inputs):
    with torch.no_grad():
        return adapted(**inputs).logits


def static(architecture, seed):
    model = make_model(architecture, auto=SEQUENCE, num_labels=3)
    head = [p for n, p in model.named_parameters() if not n.startswith(model.base_model_prefix)]
    return randomise_all(model, head, seed)


def randomise_all(model, parameters, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in parameters:
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model


def saved_static_head(model, folder):
    """A static head's folder, as the reference library writes it."""
    folder.mkdir()
    prefix = model.base_model_prefix + "."
    tensors = {n: t for n, t in model.state_dict().items() if not n.startswith(prefix)}
    torch.save(tensors, folder / "pytorch_model_head.bin")
    envelope = {
        "model_type": model.config.model_type,
        "hidden_size": 32,
        "model_class": type(model).__name__,
        "name": None,
        "config": None,
        "label2id": {"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2},
        "num_labels": 3,
    }
    (folder / "head_config.json").write_text(json.dumps(envelope))
    return folder


def test_a_static_head_stands_in_while_active_and_the_models_own_comes_back(
    architecture, tmp_path, inputs
):
    theirs, ours = static(architecture, 1), static(architecture, 2)
    folder = saved_static_head(theirs, tmp_path / "head")
    adapted = compose.attach(ours)
    own = logits(adapted, inputs)
    keys = list(ours.state_dict())
    adapted.load_head(folder)
    assert torch.equal(logits(adapted, inputs), own)

    adapted.activate(None)

    with torch.no_grad():
        torch.testing.assert_close(logits(adapted, inputs), theirs(**inputs).logits)
    assert list(ours.state_dict()) == keys
    adapted.trainable(heads=["default"])
    adapted.detach()
    assert torch.equal(logits(adapted, inputs), own)
    assert all(parameter.requires_grad for parameter in ours.parameters())


def test_a_static_head_becomes_a_flexible_one_on_the_bare_model(architecture, tmp_path, inputs):
    theirs = static(architecture, 1)
    folder = saved_static_head(theirs, tmp_path / "head")
    bare = make_model(architecture)
    same = {k: v for k, v in theirs.base_model.state_dict().items() if k in bare.state_dict()}
    bare.load_state_dict(bare.state_dict() | same)
    adapted = compose.attach(bare)

    adapted.load_head(folder, name="theirs")
    adapted.activate(None, head="theirs")

    with torch.no_grad():
        torch.testing.assert_close(logits(adapted, inputs), theirs(**inputs).logits)


def test_a_static_head_is_saved_and_loaded(tmp_path, inputs):
    theirs, ours = static("bert", 1), static("bert", 2)
    adapted = compose.attach(ours)
    name = adapted.load_head(saved_static_head(theirs, tmp_path / "head"))

    adapted.save_head(name, tmp_path / "again")

    other = compose.attach(static("bert", 3))
    other.load_head(tmp_path / "again")
    other.activate(None)
    with torch.no_grad():
        assert torch.equal(logits(other, inputs), theirs(**inputs).logits)


def test_a_static_head_with_other_labels_is_refused_with_both_shapes(tmp_path):
    folder = saved_static_head(static("bert", 1), tmp_path / "head")
    adapted = compose.attach(make_model(auto=SEQUENCE, num_labels=2))

    with pytest.raises(IncompatibleAdapter, match=r"shape \(3, 32\).* asks for \(2, 32\)"):
        adapted.load_head(folder)


def test_the_loss_of_a_static_head_is_the_models_own(inputs):
    model = static("bert", 1)
    adapted = compose.attach(model)
    adapted.add("a")
    adapted.activate("a")

    output = adapted(**inputs, labels=LABELS)

    torch.testing.assert_close(output.loss, functional.cross_entropy(output.logits, LABELS))


def saved_with_static_head(name, seed, folder):
    """An adapter's folder with a static head; the head's weight."""
    theirs = static("bert", seed)
    adapted = compose.attach(theirs)
    adapted.add(name)
    adapted.save(name, folder)
    for file in saved_static_head(theirs, folder / "head").iterdir():
        file.rename(folder / file.name)
    return theirs.classifier.weight


def test_every_adapter_answers_through_its_own_static_head(tmp_path):
    weights = {n: saved_with_static_head(n, seed, tmp_path / n) for seed, n in enumerate("ab")}
    model = static("bert", 5)
    adapted = compose.attach(model)
    for name in "ab":
        adapted.load(tmp_path / name)

    for name in ("a", "b", "a"):
        adapted.activate(name)
        assert torch.equal(model.classifier.weight, weights[name])

    assert sorted(adapted.heads) == ["a", "b"]
    adapted.activate(None)
    assert not torch.equal(model.classifier.weight, weights["a"])


def test_a_static_head_is_activated_by_its_name_alone_or_in_a_list(tmp_path):
    weight = saved_with_static_head("a", 1, tmp_path / "a")
    model = static("bert", 5)
    adapted = compose.attach(model)
    adapted.load(tmp_path / "a", name="mine")

    for head in ("mine", ["mine"]):
        adapted.activate(None, head=head)
        assert torch.equal(model.classifier.weight, weight)
        adapted.deactivate()


def test_the_models_own_head_moves_with_the_model_while_another_stands_in(tmp_path):
    model = static("bert", 1)
    own = model.classifier.weight
    before = own.detach().clone()
    adapted = compose.attach(model)
    adapted.load_head(saved_static_head(static("bert", 2), tmp_path / "head"))
    adapted.activate(None)
    adapted.to(torch.float64)

    adapted.detach()

    assert model.classifier.weight is own
    assert own.dtype == torch.float64
    assert torch.equal(own.float(), before)


@pytest.mark.parametrize("trained", ["a", "fuse(a, b)"])
def test_the_models_own_head_is_saved_with_what_it_was_trained_with(trained, tmp_path, inputs):
    model = static("bert", 1)
    adapted = compose.attach(model)
    for name in "ab":
        adapted.add(name)
        adapted.save(name, tmp_path / name)
    adapted.add_fusion("a", "b")
    adapted.activate(trained)
    adapted.trainable(trained, base_head=True)
    randomise_all(model, [p for p in model.parameters() if p.requires_grad], seed=8)
    expected = logits(adapted, inputs)
    (adapted.save if trained == "a" else adapted.save_fusion)(
        "a" if trained == "a" else "a,b", tmp_path / "trained"
    )

    again = compose.attach(static("bert", 3))
    if trained != "a":
        again.load(tmp_path / "a")
        again.load(tmp_path / "b")
    again.activate(again.load(tmp_path / "trained"))

    assert torch.equal(logits(again, inputs), expected)
    assert not (tmp_path / "b" / "head_config.json").exists()


def test_the_models_own_head_is_not_saved_with_an_adapter_it_was_not_trained_with(tmp_path):
    adapted = compose.attach(static("bert", 1))
    adapted.add("a")
    adapted.add("b")
    adapted.trainable("a", base_head=True)

    adapted.save("b", tmp_path)

    assert not (tmp_path / "head_config.json").exists()


def language_model(seed, embeddings=None):
    """A masked language model whose head has random weights; its embeddings are the tiny model's, or others."""
    model = make_model(auto=transformers.AutoModelForMaskedLM)
    prefix = model.base_model_prefix + "."
    head = [p for n, p in model.named_parameters() if not n.startswith(prefix)]
    randomise_all(model, head, seed)
    if embeddings is not None:
        with torch.no_grad():
            model.get_input_embeddings().weight.mul_(embeddings)
    return model


def test_a_head_that_shares_its_output_embeddings_stands_in_and_they_stay_shared(tmp_path, inputs):
    theirs, ours = language_model(1), language_model(2)
    adapted = compose.attach(ours)
    own = logits(adapted, inputs)
    adapted.load_head(saved_static_head(theirs, tmp_path / "head"))

    adapted.activate(None)

    with torch.no_grad():
        assert torch.equal(logits(adapted, inputs), theirs(**inputs).logits)
    embeddings = ours.get_input_embeddings().weight
    assert ours.get_output_embeddings().weight is embeddings
    assert ours.cls.predictions.bias is ours.cls.predictions.decoder.bias
    assert all(value is not embeddings for value in adapted.heads["default"].parameters())
    adapted.detach()
    assert torch.equal(logits(adapted, inputs), own)


def test_output_embeddings_of_another_model_stand_in_and_the_input_stays(tmp_path, inputs):
    theirs, ours = language_model(1, embeddings=2), language_model(2)
    adapted = compose.attach(ours)
    adapted.load_head(saved_static_head(theirs, tmp_path / "head"))
    before = ours.get_input_embeddings().weight.detach().clone()

    adapted.activate(None)

    torch.testing.assert_close(ours.get_output_embeddings().weight, before * 2)
    assert torch.equal(ours.get_input_embeddings().weight, before)
    adapted.detach()
    assert ours.get_output_embeddings().weight is ours.get_input_embeddings().weight


def test_a_shared_head_is_saved_with_all_its_names(tmp_path):
    theirs = language_model(1)
    adapted = compose.attach(theirs)
    saved_static_head(theirs, tmp_path / "head")
    name = adapted.load_head(tmp_path / "head")

    adapted.save_head(name, tmp_path / "again", format="bin")

    first, second = (
        torch.load(tmp_path / folder / "pytorch_model_head.bin", weights_only=True)
        for folder in ("head", "again")
    )
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_a_static_head_cannot_be_active_beside_others(tmp_path):
    adapted = compose.attach(static("bert", 1))
    adapted.add_head("flexible")
    adapted.load_head(saved_static_head(static("bert", 2), tmp_path / "head"))

    with pytest.raises(CompositionError, match="cannot be active beside other heads"):
        adapted.activate(None, head=["default", "flexible"])


def t5(seed):
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
    config = transformers.T5Config(**sizes, vocab_size=96, decoder_start_token_id=0)
    model = transformers.T5ForConditionalGeneration(config).eval()
    return randomise_all(model, model.parameters(), seed)


def test_a_head_beside_the_backbones_modules_stands_in_too(tmp_path, inputs):
    theirs, ours = t5(1), t5(2)
    call = {"input_ids": inputs["input_ids"], "decoder_input_ids": inputs["input_ids"]}
    tensors = {"lm_head.weight": theirs.lm_head.weight.detach()}
    envelope = {"model_type": "t5", "model_class": "T5ForConditionalGeneration", "config": None}
    (tmp_path / "head_config.json").write_text(json.dumps(envelope))
    torch.save(tensors, tmp_path / "pytorch_model_head.bin")
    adapted = compose.attach(ours)
    own = logits(adapted, call)

    adapted.activate(None, head=adapted.load_head(tmp_path))

    assert torch.equal(ours.lm_head.weight, theirs.lm_head.weight)
    assert not torch.equal(logits(adapted, call), own)
    adapted.detach()
    assert torch.equal(logits(adapted, call), own)
    assert ours.lm_head.weight is ours.get_input_embeddings().weight


def test_a_flexible_head_needs_a_model_that_puts_out_hidden_states(inputs):
    adapted = compose.attach(t5(1))
    adapted.add_head("top", "seq2seq_lm")
    adapted.activate(None, head="top")

    with pytest.raises(CompositionError, match="puts out a Seq2SeqLMOutput") as error:
        adapted(input_ids=inputs["input_ids"])

    assert "AutoModel" in error.value.hint


def test_a_backbone_written_along_with_a_head_is_passed_over(tmp_path, inputs):
    theirs, ours = static("bert", 1), static("bert", 2)
    folder = saved_static_head(theirs, tmp_path / "head")
    torch.save(theirs.state_dict(), folder / "pytorch_model_head.bin")
    before = {name: tensor.clone() for name, tensor in ours.bert.state_dict().items()}
    adapted = compose.attach(ours)

    adapted.activate(None, head=adapted.load_head(folder))

    assert torch.equal(ours.classifier.weight, theirs.classifier.weight)
    assert all(torch.equal(before[n], tensor) for n, tensor in ours.bert.state_dict().items())
