"""Heads of transformers classes become flexible ones that compute the same, logits and loss."""

import pytest
import torch
import transformers
from torch import nn

from adapterhub_client.compose import heads
from adapterhub_client.compose.files.checkpoint import fill, head_entries
from adapterhub_client.compose.heads.statics import REFUSED, STATICS
from adapterhub_client.compose.sites import backbone as sites
from adapterhub_client.errors import CompositionError

LABELS = {"vocab_size": 96, "num_labels": 3}
ENCODER = LABELS | {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 40,
}
DECODER = ENCODER | {
    "num_key_value_heads": 2,
    "head_dim": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
BOTH = LABELS | {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": 40,
}
T5 = LABELS | {
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 64,
    "num_layers": 2,
    "num_heads": 4,
    "decoder_start_token_id": 0,
}
GPT2 = LABELS | {
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 40,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
DISTILBERT = LABELS | {
    "dim": 32,
    "n_layers": 2,
    "n_heads": 4,
    "hidden_dim": 64,
    "max_position_embeddings": 40,
}
VIT = {
    "num_labels": 3,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "image_size": 8,
    "patch_size": 4,
}
CONFIGS = {
    "Albert": ("AlbertConfig", ENCODER | {"embedding_size": 16}),
    "Bart": ("BartConfig", BOTH),
    "Bert": ("BertConfig", ENCODER),
    "DebertaV2": ("DebertaV2Config", ENCODER | {"pooler_hidden_size": 32}),
    "DistilBert": ("DistilBertConfig", DISTILBERT),
    "Electra": ("ElectraConfig", ENCODER | {"embedding_size": 16}),
    "GPT2": ("GPT2Config", GPT2),
    "Gemma2": ("Gemma2Config", DECODER | {"final_logit_softcapping": None}),
    "Gemma3": ("Gemma3TextConfig", DECODER),
    "Llama": ("LlamaConfig", DECODER),
    "MBart": ("MBartConfig", BOTH),
    "Mistral": ("MistralConfig", DECODER),
    "Qwen2": ("Qwen2Config", DECODER),
    "Qwen3": ("Qwen3Config", DECODER),
    "Roberta": ("RobertaConfig", ENCODER),
    "T5": ("T5Config", T5),
    "ViT": ("ViTConfig", VIT),
    "XLMRoberta": ("XLMRobertaConfig", ENCODER),
}


# Older releases of transformers script a part of DeBERTa when it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")


def family(model_class):
    return max((name for name in CONFIGS if model_class.startswith(name)), key=len)


def make(model_class, **changes):
    name, options = CONFIGS[family(model_class)]
    options = options | ({"num_labels": 2} if "Question" in model_class else {}) | changes
    torch.manual_seed(1)
    model = getattr(transformers, model_class)(getattr(transformers, name)(**options)).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model


def backbone_of(model):
    """The model's backbone and the tensors outside it; some classes have theirs at the top."""
    if model.base_model is not model:
        prefix = model.base_model_prefix + "."
        state = {k: v for k, v in model.state_dict().items() if not k.startswith(prefix)}
        return sites.Backbone(model), state
    bare = transformers.AutoModel.from_config(model.config).eval()
    inside = set(bare.state_dict())
    bare.load_state_dict({k: v for k, v in model.state_dict().items() if k in inside})
    return sites.Backbone(bare), {k: v for k, v in model.state_dict().items() if k not in inside}


def convert(model_class, model):
    backbone, tensors = backbone_of(model)
    labels = {f"LABEL_{index}": index for index in range(model.config.num_labels)}
    envelope = {"model_class": model_class, "label2id": labels, "num_labels": len(labels)}
    head, moved = heads.from_static(envelope, tensors, backbone)
    own = head.without_tied(moved, "heads.static.")
    fill(head_entries(head, "static"), own, backbone, model_class)
    return head.eval(), backbone


def example(head, config):
    """An input of the kind that a head reads, and what its output is compared with."""
    if head.kind == "image_classification":
        generator = torch.Generator().manual_seed(2)
        return {"pixel_values": torch.randn(3, 3, 8, 8, generator=generator)}, {
            "labels": torch.tensor([0, 1, 2])
        }
    ids = torch.arange(5, 35).reshape(3, 10)
    mask = torch.ones_like(ids)
    if config.is_encoder_decoder:
        ids[:, [4, 9]] = config.eos_token_id
    else:
        mask[1, 7:] = 0
        ids[1, 7:] = config.pad_token_id
    inputs = {"input_ids": ids, "attention_mask": mask}
    known = ids.masked_fill(mask == 0, -100)
    if head.kind == "multiple_choice":
        inputs = {name: value.view(1, 3, 10).repeat(2, 1, 1) for name, value in inputs.items()}
        return inputs, {"labels": torch.tensor([0, 2])}
    if head.kind == "question_answering":
        # The last is outside the input.
        start, end = torch.tensor([0, 1, 20]), torch.tensor([3, 2, 20])
        return inputs, {"start_positions": start, "end_positions": end}
    if head.kind == "tagging":
        return inputs, {"labels": (ids % 3).masked_fill(mask == 0, -100)}
    if head.kind.endswith("_lm"):
        return inputs, {"labels": known}
    return inputs, {"labels": torch.tensor([0, 1, 2])}


def predict(head, backbone, inputs):
    with torch.no_grad():
        named, context = heads.prepare([head], backbone, inputs)
        return heads.answer([head], backbone.module(**named), context)


@pytest.mark.parametrize("model_class", STATICS)
def test_a_converted_head_computes_what_its_class_does(model_class):
    model = make(model_class)
    head, backbone = convert(model_class, model)
    inputs, labels = example(head, model.config)
    if getattr(head.config, "use_pooler", False) and model.base_model.pooler is None:
        # In transformers 5.3 XLM-RoBERTa's class for multiple choice has no pooler, and fails by itself.
        with pytest.raises(CompositionError, match="this model has no pooler"):
            predict(head, backbone, inputs)
        return

    output = predict(head, backbone, inputs | labels)

    with torch.no_grad():
        expected = model(**inputs, **labels)
    for field in ("loss", "logits", "start_logits", "end_logits"):
        if expected.get(field) is not None:
            torch.testing.assert_close(output[field], expected[field])


@pytest.mark.parametrize("task", ["ConditionalGeneration", "QuestionAnswering"])
def test_a_t5_whose_embeddings_are_not_tied_is_not_scaled(task):
    model = make(f"T5For{task}", tie_word_embeddings=False)
    head, backbone = convert(f"T5For{task}", model)
    inputs, labels = example(head, model.config)

    output = predict(head, backbone, inputs | labels)

    with torch.no_grad():
        torch.testing.assert_close(output.loss, model(**inputs, **labels).loss)
    assert not head.tied()


@pytest.mark.parametrize("model_class", REFUSED)
def test_a_class_without_an_equal_is_refused_with_the_reason(model_class):
    backbone, _ = backbone_of(make("BertForTokenClassification"))

    with pytest.raises(CompositionError, match=f"equals that of '{model_class}': ") as error:
        heads.from_static({"model_class": model_class}, {}, backbone)

    assert REFUSED[model_class] in str(error.value)


def test_a_head_whose_logits_are_capped_is_refused():
    model = make("Gemma2ForCausalLM", final_logit_softcapping=30.0)

    with pytest.raises(CompositionError, match=r"config has final_logit_softcapping 30\.0"):
        convert("Gemma2ForCausalLM", model)


def test_a_bias_of_the_final_logits_is_refused():
    model = make("BartForConditionalGeneration")
    model.final_logits_bias += 1

    with pytest.raises(CompositionError, match="'final_logits_bias' is not zero"):
        convert("BartForConditionalGeneration", model)


def test_tensors_without_a_place_are_refused_by_name():
    model = make("BertForTokenClassification")
    model.extra = nn.Linear(2, 2, bias=False)

    with pytest.raises(CompositionError, match=r"no place for extra\.weight"):
        convert("BertForTokenClassification", model)


def test_an_unknown_class_is_refused_with_the_known_ones():
    backbone, _ = backbone_of(make("BertForTokenClassification"))

    with pytest.raises(CompositionError, match="'BertForPoetry' is not supported") as error:
        heads.from_static({"model_class": "BertForPoetry"}, {}, backbone)

    assert "BertForMaskedLM" in error.value.hint
