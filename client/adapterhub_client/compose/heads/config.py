"""The configs of heads, one struct per kind, with the names of the `config` object of a `head_config.json`."""

from typing import Annotated

import msgspec

Count = Annotated[int, msgspec.Meta(ge=1)]
Probability = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Classification(msgspec.Struct, frozen=True, kw_only=True):
    """One label for an input; one output makes it a regression."""

    head_type: str = "classification"
    num_labels: Count = 2
    layers: Count = 2
    activation_function: str | None = "tanh"
    label2id: dict[str, int] | None = None
    use_pooler: bool = False
    bias: bool = True
    dropout_prob: Probability | None = None


class MultilabelClassification(msgspec.Struct, frozen=True, kw_only=True):
    """Any number of labels for an input."""

    head_type: str = "multilabel_classification"
    num_labels: Count = 2
    layers: Count = 2
    activation_function: str | None = "tanh"
    label2id: dict[str, int] | None = None
    use_pooler: bool = False
    bias: bool = True
    dropout_prob: Probability | None = None


class ImageClassification(msgspec.Struct, frozen=True, kw_only=True):
    """One label for an image, or any number where it is `multilabel`."""

    head_type: str = "image_classification"
    num_labels: Count = 2
    layers: Count = 2
    activation_function: str | None = "tanh"
    multilabel: bool = False
    label2id: dict[str, int] | None = None
    use_pooler: bool = False
    bias: bool = True
    dropout_prob: Probability | None = None


class MultipleChoice(msgspec.Struct, frozen=True, kw_only=True):
    """One of several inputs."""

    head_type: str = "multiple_choice"
    num_choices: Count = 2
    layers: Count = 2
    activation_function: str | None = "tanh"
    label2id: dict[str, int] | None = None
    use_pooler: bool = False
    dropout_prob: Probability | None = None


class Tagging(msgspec.Struct, frozen=True, kw_only=True):
    """One label for every token."""

    head_type: str = "tagging"
    num_labels: Count = 2
    layers: Count = 1
    activation_function: str | None = "tanh"
    label2id: dict[str, int] | None = None
    dropout_prob: Probability | None = None


class QuestionAnswering(msgspec.Struct, frozen=True, kw_only=True):
    """Where an answer starts and ends; the two labels are start and end."""

    head_type: str = "question_answering"
    num_labels: Annotated[int, msgspec.Meta(ge=2, le=2)] = 2
    layers: Count = 1
    activation_function: str | None = "tanh"
    label2id: dict[str, int] | None = None
    dropout_prob: Probability | None = None


class DependencyParsing(msgspec.Struct, frozen=True, kw_only=True):
    """The head of every word, and the label of the arc to it."""

    head_type: str = "dependency_parsing"
    num_labels: Count = 2
    label2id: dict[str, int] | None = None


class MaskedLM(msgspec.Struct, frozen=True, kw_only=True):
    """The token at every position."""

    head_type: str = "masked_lm"
    vocab_size: Count | None = None
    embedding_size: Count | None = None
    layers: Count = 2
    activation_function: str | None = "gelu"
    layer_norm: bool = True
    bias: bool = True
    shift_labels: bool = False
    label2id: None = None


class CausalLM(msgspec.Struct, frozen=True, kw_only=True):
    """The token after every position."""

    head_type: str = "causal_lm"
    vocab_size: Count | None = None
    embedding_size: Count | None = None
    layers: Count = 1
    activation_function: str | None = None
    layer_norm: bool = False
    bias: bool = False
    shift_labels: bool = True
    label2id: None = None
    dropout_prob: Probability | None = None


class SequenceToSequenceLM(msgspec.Struct, frozen=True, kw_only=True):
    """The token after every position of a decoder, whose input is the labels, shifted."""

    head_type: str = "seq2seq_lm"
    vocab_size: Count | None = None
    layers: Count = 1
    activation_function: str | None = None
    layer_norm: bool = False
    bias: bool = False
    shift_labels: bool = False
    label2id: None = None


Config = (
    Classification
    | MultilabelClassification
    | ImageClassification
    | MultipleChoice
    | Tagging
    | QuestionAnswering
    | DependencyParsing
    | MaskedLM
    | CausalLM
    | SequenceToSequenceLM
)
