"""The kinds of heads: one row each, and new heads from configs."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import torch

from adapterhub_client.compose.heads import (
    config as configs,
)
from adapterhub_client.compose.heads import (
    language,
    layers,
    parsing,
    sequence,
    tokens,
)
from adapterhub_client.compose.heads.foundation import Foundation, foundation_of
from adapterhub_client.compose.heads.head import Head, Kind
from adapterhub_client.compose.sites.backbone import Backbone
from adapterhub_client.errors import CompositionError

_NEW_CAUSAL_LM = {"layers": 2, "activation_function": "gelu", "layer_norm": True, "bias": True}


KINDS: dict[str, Kind] = {
    "classification": Kind(configs.Classification, layers.classifier, sequence.classify),
    "multilabel_classification": Kind(
        configs.MultilabelClassification, layers.classifier, sequence.classify_multilabel
    ),
    "tagging": Kind(configs.Tagging, layers.classifier, tokens.tag),
    "multiple_choice": Kind(
        configs.MultipleChoice, layers.classifier, sequence.choose, label_count="num_choices"
    ),
    "question_answering": Kind(
        configs.QuestionAnswering,
        layers.classifier,
        tokens.answer_questions,
        arguments=("start_positions", "end_positions"),
    ),
    "dependency_parsing": Kind(
        configs.DependencyParsing,
        layers.parser,
        parsing.parse,
        arguments=("word_starts", "labels_arcs", "labels_rels"),
    ),
    "image_classification": Kind(
        configs.ImageClassification, layers.classifier, sequence.classify_image, fresh={"layers": 1}
    ),
    "masked_lm": Kind(configs.MaskedLM, layers.language_model, language.fill_in, label_count=None),
    "causal_lm": Kind(
        configs.CausalLM,
        layers.language_model,
        language.continue_text,
        label_count=None,
        fresh=_NEW_CAUSAL_LM,
    ),
    "seq2seq_lm": Kind(
        configs.SequenceToSequenceLM, layers.language_model, language.decode, label_count=None
    ),
}

# Other names, with what they stand for.
ALIASES: dict[str, tuple[str, dict[str, Any]]] = {
    "multilabel": ("multilabel_classification", {}),
    "qa": ("question_answering", {}),
    "regression": ("classification", {"num_labels": 1}),
}


def build(config: Mapping[str, Any], backbone: Backbone, *, empty: bool) -> Head:
    """A head from the `config` object of its file, initialised; or empty, on the meta device.

    Raises:
        CompositionError: The kind is not supported, or a value has a wrong type.
    """
    kind = _kind(config.get("head_type"))
    try:
        read = msgspec.convert(_with_label_ids(config), kind.config)
    except msgspec.ValidationError as error:
        raise CompositionError(f"The head config is malformed: {error}.") from error
    foundation = foundation_of(backbone)
    if empty:
        foundation = foundation._replace(device=torch.device("meta"))
    head = Head(kind, _complete(read, foundation), foundation)
    if not empty:
        head.initialise()
    return head


def config_of(kind: str, labels: Sequence[str] | None, **options: Any) -> dict[str, Any]:  # noqa: ANN401
    """The config of a new head; without labels it has as many as the options say, named LABEL_0, LABEL_1, ...

    Raises:
        CompositionError: The kind is not supported, has no labels, or has no such option.
    """
    kind, implied = ALIASES.get(kind, (kind, {}))
    rules = _kind(kind)
    known = set(rules.config.__struct_fields__) - {"head_type"}
    if unknown := sorted(set(options) - known):
        raise CompositionError(
            f"A head of the kind {kind!r} has no option {unknown[0]!r}.",
            hint="options: " + ", ".join(sorted(known)),
        )
    config = dict(rules.fresh) | options | implied | {"head_type": kind}
    if rules.label_count is None:
        if labels is not None:
            raise CompositionError(
                f"A head of the kind {kind!r} predicts tokens; it has no labels."
            )
        return config
    count = config.get(rules.label_count, 2) if labels is None else len(labels)
    names = [f"LABEL_{index}" for index in range(count)] if labels is None else labels
    label_ids = {label: index for index, label in enumerate(names)}
    return config | {rules.label_count: count, "label2id": config.get("label2id") or label_ids}


def _kind(name: object) -> Kind:
    if not isinstance(name, str) or name not in KINDS:
        raise CompositionError(
            f"Heads of the kind {name!r} are not supported.",
            hint="known: " + ", ".join([*KINDS, *ALIASES]),
        )
    return KINDS[name]


def _with_label_ids(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config with `label2id`, where an older file has only its inverse."""
    labels = config.get("id2label")
    if config.get("label2id") is not None or not isinstance(labels, Mapping):
        return dict(config)
    numbered = {label: number for number, label in labels.items()}
    return dict(config) | {"label2id": msgspec.convert(numbered, dict[str, int], strict=False)}


def _complete(config: Any, foundation: Foundation) -> Any:  # noqa: ANN401
    """The config with the model's own sizes where it names none."""
    own = {"vocab_size": foundation.vocabulary, "embedding_size": foundation.embedding_size}
    missing = {name: size for name, size in own.items() if getattr(config, name, 0) is None}
    if missing.get("vocab_size", 0) is None:
        raise CompositionError(
            "A head that predicts tokens needs `vocab_size`: this model's config has none."
        )
    return msgspec.structs.replace(config, **missing)
