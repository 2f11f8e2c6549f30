"""Prediction heads, one class per kind, on top of a backbone's output."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.utils.generic import ModelOutput

from adapterhub_client.compose.methods.activation import activation
from adapterhub_client.compose.sites import Backbone
from adapterhub_client.errors import CompositionError


class Head(Protocol):
    """What every kind of head provides; a module whose tensors `layers.<name>` a file has as `heads.<head>.<name>`."""

    kind: str
    labels: list[str]

    def to_dict(self) -> dict[str, Any]:
        """The `config` object of a `head_config.json`."""

    def predict(self, outputs: Any, labels: Tensor | None) -> ModelOutput:  # noqa: ANN401
        """The head's own output for the backbone's, with a loss where there are labels."""


class Classification(msgspec.Struct, frozen=True, kw_only=True):
    """The config of a classification head, with the names of the file; one label makes it a regression."""

    head_type: str = "classification"
    num_labels: int = 2
    layers: int = 2
    activation_function: str | None = "tanh"
    label2id: dict[str, int] | None = None
    use_pooler: bool = False
    bias: bool = True
    dropout_prob: float | None = None


class ClassificationHead(nn.Module):
    """Classify the first token, or the pooled output.

    Shapes:
        hidden: (batch, length, features)
        logits: (batch, labels)
    """

    kind = "classification"

    def __init__(
        self,
        config: Classification,
        features: int,
        dropout: float,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        self.config = config
        self.labels = _labels(config)
        # The positions in the sequence are the names in a file: 1 and 4 for the usual two layers.
        layers: list[nn.Module] = []
        for layer in range(config.layers):
            is_last = layer == config.layers - 1
            width = config.num_labels if is_last else features
            bias = config.bias if is_last else True
            layers += [
                nn.Dropout(dropout),
                nn.Linear(features, width, bias=bias, device=device, dtype=dtype),
            ]
            if not is_last and config.activation_function:
                layers.append(_Activation(config.activation_function))
        self.layers = nn.Sequential(*layers)

    def to_dict(self) -> dict[str, Any]:
        """The `config` object of a `head_config.json`."""
        return dict(msgspec.to_builtins(self.config))

    @torch.no_grad()
    def initialise(self, std: float) -> None:
        """Small random weights, as the base model's own heads start."""
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=std)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def predict(self, outputs: Any, labels: Tensor | None) -> ModelOutput:  # noqa: ANN401
        """Logits, and the loss where there are labels: cross entropy, or the squared error for one label.

        Raises:
            CompositionError: The head reads the pooled output, and the model has none.
        """
        logits = self.layers(self._first(outputs))
        return SequenceClassifierOutput(
            loss=None if labels is None else self._loss(logits, labels),
            logits=logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def _first(self, outputs: Any) -> Tensor:  # noqa: ANN401
        if not self.config.use_pooler:
            first: Tensor = outputs.last_hidden_state[:, 0]
            return first
        pooled: Tensor | None = getattr(outputs, "pooler_output", None)
        if pooled is None:
            raise CompositionError(
                "The head reads the pooled output, but this model has no pooler.",
                hint="make the head with use_pooler=False, or load the model with its pooler",
            )
        return pooled

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        if self.config.num_labels == 1:
            return functional.mse_loss(logits.view(-1), labels.view(-1).to(logits.dtype))
        return functional.cross_entropy(logits, labels.view(-1))


KINDS: dict[str, tuple[type[Classification], Callable[..., ClassificationHead]]] = {
    "classification": (Classification, ClassificationHead),
}

# How the static heads of transformers are flexible ones: the config, and the names of their layers in order.
STATIC: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "BertForSequenceClassification": (
        {"layers": 1, "activation_function": None, "use_pooler": True},
        {"classifier": "1"},
    ),
    "RobertaForSequenceClassification": (
        {"layers": 2, "activation_function": "tanh"},
        {"classifier.dense": "1", "classifier.out_proj": "4"},
    ),
    "XLMRobertaForSequenceClassification": (
        {"layers": 2, "activation_function": "tanh"},
        {"classifier.dense": "1", "classifier.out_proj": "4"},
    ),
    "DistilBertForSequenceClassification": (
        {"layers": 2, "activation_function": "relu"},
        {"pre_classifier": "1", "classifier": "4"},
    ),
}


def build(config: Mapping[str, Any], backbone: Backbone, *, empty: bool) -> ClassificationHead:
    """A head from the `config` object of its file, initialised; or empty, on the meta device.

    Raises:
        CompositionError: The kind is not supported, or a value has a wrong type.
    """
    kind = config.get("head_type")
    if kind not in KINDS:
        raise CompositionError(
            f"Heads of the kind {kind!r} are not supported yet.", hint="known: " + ", ".join(KINDS)
        )
    struct, head_class = KINDS[kind]
    try:
        read = msgspec.convert(dict(config), struct)
    except msgspec.ValidationError as error:
        raise CompositionError(f"The head config is malformed: {error}.") from error
    like = backbone.reference_parameter
    device = torch.device("meta") if empty else like.device
    head = head_class(read, backbone.hidden_size, _dropout(read, backbone), device, like.dtype)
    if not empty:
        head.initialise(getattr(backbone.config, "initializer_range", 0.02))
    return head


def from_static(
    envelope: Mapping[str, Any], tensors: Mapping[str, Tensor], backbone: Backbone
) -> tuple[ClassificationHead, dict[str, Tensor]]:
    """The flexible head that equals a static one of transformers: empty, with its tensors under their new names.

    Raises:
        CompositionError: No row of the table knows the class.
    """
    model_class = str(envelope["model_class"])
    if model_class not in STATIC:
        raise CompositionError(
            f"The head of {model_class!r} is not supported for {backbone.model_class!r} yet.",
            hint=f"load the base model as {model_class}; known: " + ", ".join(STATIC),
        )
    options, positions = STATIC[model_class]
    label_ids = envelope.get("label2id") or {}
    labels = sorted(label_ids, key=lambda label: int(label_ids[label]))
    count = int(envelope.get("num_labels") or len(labels) or 2)
    config = config_of("classification", labels or None, num_labels=count, **options)
    moved = {
        f"heads.static.{position}.{end}": tensors[f"{layer}.{end}"]
        for layer, position in positions.items()
        for end in ("weight", "bias")
        if f"{layer}.{end}" in tensors
    }
    return build(config, backbone, empty=True), moved


def config_of(kind: str, labels: Sequence[str] | None, **options: Any) -> dict[str, Any]:  # noqa: ANN401
    """The config of a new head; without labels it has as many as `num_labels` says, named LABEL_0, LABEL_1, ..."""
    count = len(labels) if labels is not None else int(options.get("num_labels", 2))
    names = labels if labels is not None else [f"LABEL_{index}" for index in range(count)]
    label_ids = {label: index for index, label in enumerate(names)}
    return options | {"head_type": kind, "num_labels": count, "label2id": label_ids}


class _Activation(nn.Module):
    """A non-linearity by its name, as a layer."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.function = activation(name)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.function(hidden)


def _labels(config: Classification) -> list[str]:
    if config.label2id is None:
        return [f"LABEL_{index}" for index in range(config.num_labels)]
    return sorted(config.label2id, key=config.label2id.__getitem__)


def _dropout(config: Classification, backbone: Backbone) -> float:
    if config.dropout_prob is not None:
        return config.dropout_prob
    row = backbone.architecture
    own = backbone.setting(row.classifier_dropout)
    return own if own is not None else (backbone.setting(row.hidden_dropout) or 0.0)
