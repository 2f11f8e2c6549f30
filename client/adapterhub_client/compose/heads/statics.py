"""Which flexible head each head of transformers equals: one row per class, data instead of code."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Static(NamedTuple):
    """One class of transformers, as a flexible head."""

    kind: str
    layers: Mapping[str, str]
    """the names of the modules by their positions in the flexible head"""
    options: Mapping[str, Any] = {}
    """its config; a value `@name` stands for the model config's own"""
    requires: Mapping[str, Any] = {}
    """what the model's config has to say, where anything else makes another head"""
    bias: str | None = None
    """another name of the output embedding's bias"""
    zeros: str | None = None
    """a tensor that a flexible head has no place for, and that has to be all zeros"""
    tokens: bool = False
    """whether it reads hidden states token by token without the scale that flexible heads of T5 apply"""


_DIRECT = {"layers": 1, "activation_function": None}
_POOLED = _DIRECT | {"use_pooler": True}
_LM = {"layers": 2, "layer_norm": True, "bias": True}
_OUTPUT_ONLY = {"layers": 1}


def _transform(path: str, norm: str = "LayerNorm") -> dict[str, str]:
    return {"0": f"{path}.dense", "2": f"{path}.{norm}"}


def _pooled_choices(prefix: str) -> dict[str, Static]:
    return {f"{prefix}ForMultipleChoice": Static("multiple_choice", {"1": "classifier"}, _POOLED)}


def _questions(prefix: str, *, tokens: bool = False) -> dict[str, Static]:
    row = Static("question_answering", {"1": "qa_outputs"}, _DIRECT, tokens=tokens)
    return {f"{prefix}ForQuestionAnswering": row}


def _tokens(prefix: str) -> dict[str, Static]:
    tagging = Static("tagging", {"1": "classifier"}, _DIRECT)
    return {f"{prefix}ForTokenClassification": tagging} | _questions(prefix)


def _two_layers(kind: str, first: str, second: str, activation: str, **options: Any) -> Static:  # noqa: ANN401
    config = {"layers": 2, "activation_function": activation} | options
    return Static(kind, {"1": first, "4": second}, config)


def _bert(prefix: str) -> dict[str, Static]:
    pooled = Static("classification", {"1": "classifier"}, _POOLED)
    return (
        {f"{prefix}ForSequenceClassification": pooled} | _tokens(prefix) | _pooled_choices(prefix)
    )


def _bert_lm(kind: str) -> Static:
    names = _transform("cls.predictions.transform") | {"3": "cls.predictions.decoder"}
    options = _LM | {"activation_function": "@hidden_act"}
    return Static(kind, names, options, bias="cls.predictions.bias")


def _roberta(prefix: str) -> dict[str, Static]:
    names = _transform("lm_head", "layer_norm") | {"3": "lm_head.decoder"}
    options = _LM | {"activation_function": "gelu"}
    return (
        {
            f"{prefix}ForSequenceClassification": _two_layers(
                "classification", "classifier.dense", "classifier.out_proj", "tanh"
            ),
            f"{prefix}ForMaskedLM": Static("masked_lm", names, options, bias="lm_head.bias"),
            f"{prefix}ForCausalLM": Static("causal_lm", names, options, bias="lm_head.bias"),
        }
        | _tokens(prefix)
        | _pooled_choices(prefix)
    )


def _decoder(prefix: str, **requires: Any) -> dict[str, Static]:  # noqa: ANN401
    scored = _DIRECT | {"bias": False, "dropout_prob": 0.0}
    return {
        f"{prefix}ForCausalLM": Static(
            "causal_lm", {"0": "lm_head"}, _OUTPUT_ONLY, requires=requires
        ),
        f"{prefix}ForSequenceClassification": Static("classification", {"1": "score"}, scored),
        f"{prefix}ForTokenClassification": Static("tagging", {"1": "score"}, _DIRECT),
    }


def _sequence_to_sequence(prefix: str, zeros: str | None = None) -> dict[str, Static]:
    return {
        f"{prefix}ForConditionalGeneration": Static(
            "seq2seq_lm", {"0": "lm_head"}, _OUTPUT_ONLY, zeros=zeros
        ),
        f"{prefix}ForSequenceClassification": _two_layers(
            "classification", "classification_head.dense", "classification_head.out_proj", "tanh"
        ),
    } | _questions(prefix, tokens=True)


_ELECTRA_LM = _transform("generator_predictions") | {"3": "generator_lm_head"}
_DISTILBERT_LM = {"0": "vocab_transform", "2": "vocab_layer_norm", "3": "vocab_projector"}

STATICS: dict[str, Static] = (
    _bert("Bert")
    | {"BertForMaskedLM": _bert_lm("masked_lm"), "BertLMHeadModel": _bert_lm("causal_lm")}
    | _roberta("Roberta")
    | _roberta("XLMRoberta")
    | _bert("Albert")
    | {
        "AlbertForMaskedLM": Static(
            "masked_lm",
            _transform("predictions") | {"3": "predictions.decoder"},
            _LM | {"activation_function": "@hidden_act"},
            bias="predictions.bias",
        )
    }
    | _tokens("Electra")
    | {
        "ElectraForSequenceClassification": _two_layers(
            "classification", "classifier.dense", "classifier.out_proj", "gelu"
        ),
        "ElectraForMultipleChoice": _two_layers(
            "multiple_choice", "sequence_summary.summary", "classifier", "@summary_activation"
        )._replace(requires={"summary_type": "first", "summary_use_proj": True}),
        "ElectraForMaskedLM": Static(
            "masked_lm", _ELECTRA_LM, _LM | {"activation_function": "gelu"}
        ),
        "ElectraForCausalLM": Static(
            "causal_lm", _ELECTRA_LM, _LM | {"activation_function": "gelu"}
        ),
    }
    | _tokens("DistilBert")
    | {
        "DistilBertForSequenceClassification": _two_layers(
            "classification", "pre_classifier", "classifier", "relu"
        ),
        "DistilBertForMultipleChoice": _two_layers(
            "multiple_choice", "pre_classifier", "classifier", "relu"
        ),
        "DistilBertForMaskedLM": Static(
            "masked_lm", _DISTILBERT_LM, _LM | {"activation_function": "@activation"}
        ),
    }
    | _tokens("DebertaV2")
    | {
        "DebertaV2ForSequenceClassification": _two_layers(
            "classification", "pooler.dense", "classifier", "@pooler_hidden_act"
        ),
        "DebertaV2ForMultipleChoice": _two_layers(
            "multiple_choice", "pooler.dense", "classifier", "@pooler_hidden_act"
        ),
        "DebertaV2ForMaskedLM": _bert_lm("masked_lm")._replace(requires={"legacy": True}),
    }
    | {
        "GPT2LMHeadModel": Static("causal_lm", {"0": "lm_head"}, _OUTPUT_ONLY),
        "GPT2ForSequenceClassification": Static(
            "classification", {"1": "score"}, _DIRECT | {"bias": False}
        ),
    }
    | _tokens("GPT2")
    | _decoder("Llama")
    | _questions("Llama")
    | _decoder("Mistral")
    | _questions("Mistral")
    | _decoder("Qwen2")
    | _questions("Qwen2")
    | _decoder("Qwen3")
    | _questions("Qwen3")
    | _decoder("Gemma2", final_logit_softcapping=None)
    | {
        "Gemma3ForCausalLM": Static(
            "causal_lm", {"0": "lm_head"}, _OUTPUT_ONLY, requires={"final_logit_softcapping": None}
        ),
        "Gemma3TextForSequenceClassification": Static(
            "classification", {"1": "score"}, _DIRECT | {"bias": False, "dropout_prob": 0.0}
        ),
    }
    | _sequence_to_sequence("Bart", zeros="final_logits_bias")
    | _sequence_to_sequence("MBart", zeros="final_logits_bias")
    | _sequence_to_sequence("T5")
    | {"ViTForImageClassification": Static("image_classification", {"1": "classifier"}, _DIRECT)}
)

# Classes whose heads no flexible head equals, and why.
REFUSED: dict[str, str] = {
    f"ModernBertFor{task}": "it has a norm between its layers, which a flexible head has not"
    for task in (
        "MaskedLM",
        "MultipleChoice",
        "QuestionAnswering",
        "SequenceClassification",
        "TokenClassification",
    )
} | {
    "BartForCausalLM": "it reads a decoder without an encoder",
    "MBartForCausalLM": "it reads a decoder without an encoder",
    "T5ForTokenClassification": "it reads the encoder, and flexible heads read the decoder",
    "BertForPreTraining": "it is two heads in one",
    "AlbertForPreTraining": "it is two heads in one",
    "ElectraForPreTraining": "it tells replaced tokens, which is no kind of flexible head",
    "BertForNextSentencePrediction": "its labels are in the opposite order of a classification's",
}
