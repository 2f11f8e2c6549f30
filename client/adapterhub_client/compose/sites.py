"""Where adapters attach: one table row per architecture, data instead of code.

A row names, per transformer layer, the places that can hold an adapter. At each place three things are known: ``f``,
what the sub-block put out; ``x``, the residual it is added to; and the LayerNorm that takes their sum. They are read
with hooks on the modules named here, so an architecture whose modules do the same under other names is one more row.
"""

from collections.abc import Iterator
from typing import Any

import msgspec
from torch import nn

from adapterhub_client.compose.errors import UnknownSite


class Slot(msgspec.Struct, frozen=True, kw_only=True):
    """A place for adapters inside a layer; all paths are relative to the layer."""

    name: str
    """`mh_adapter` after attention, `output_adapter` after the feed-forward block, as in the configs"""
    key: str
    """where `adapters` keeps the modules of this place, which names their tensors in a file"""
    norm: str
    """the LayerNorm that takes f + x"""
    branch: str
    """the module whose output is f"""
    skip: str
    """the module whose positional argument is x"""
    skip_argument: int


class Architecture(msgspec.Struct, frozen=True, kw_only=True):
    """One row: where the layers are, their slots, and the config's names for what we read from it."""

    layers: str
    """the path of the list of layers inside the backbone"""
    slots: tuple[Slot, ...]
    adapter_class: str
    """the class of `adapters` with flexible heads, which is written into files so that it loads them"""
    attention_dropout: str = "attention_probs_dropout_prob"
    hidden_dropout: str = "hidden_dropout_prob"
    classifier_dropout: str = "classifier_dropout"


_BERT_SLOTS = (
    Slot(
        name="mh_adapter",
        key="attention.output",
        norm="attention.output.LayerNorm",
        branch="attention.output.dropout",
        skip="attention.output",
        skip_argument=1,
    ),
    Slot(
        name="output_adapter",
        key="output",
        norm="output.LayerNorm",
        branch="output.dropout",
        skip="output",
        skip_argument=1,
    ),
)
_DISTILBERT_SLOTS = (
    Slot(
        name="mh_adapter",
        key="attention_adapters",
        norm="sa_layer_norm",
        branch="attention",
        skip="attention",
        skip_argument=0,
    ),
    Slot(
        name="output_adapter",
        key="output_adapters",
        norm="output_layer_norm",
        branch="ffn",
        skip="ffn",
        skip_argument=0,
    ),
)

ARCHITECTURES: dict[str, Architecture] = {
    "bert": Architecture(
        layers="encoder.layer", slots=_BERT_SLOTS, adapter_class="BertAdapterModel"
    ),
    "roberta": Architecture(
        layers="encoder.layer", slots=_BERT_SLOTS, adapter_class="RobertaAdapterModel"
    ),
    "xlm-roberta": Architecture(
        layers="encoder.layer", slots=_BERT_SLOTS, adapter_class="XLMRobertaAdapterModel"
    ),
    "distilbert": Architecture(
        layers="transformer.layer",
        slots=_DISTILBERT_SLOTS,
        adapter_class="DistilBertAdapterModel",
        attention_dropout="attention_dropout",
        hidden_dropout="dropout",
        classifier_dropout="seq_classif_dropout",
    ),
}


class Place(msgspec.Struct, frozen=True):
    """One slot of one layer."""

    layer: int
    slot: Slot

    def __str__(self) -> str:
        return f"{self.layer} {self.slot.name}"


class Backbone:
    """A transformer seen through its row: its layers, its places, and the facts files state about it."""

    def __init__(self, model: nn.Module) -> None:
        config: Any = model.config
        self.model_type: str = config.model_type
        if self.model_type not in ARCHITECTURES:
            raise UnknownSite(
                f"There is no table of sites for the architecture {self.model_type!r}.",
                hint="known: " + ", ".join(ARCHITECTURES),
            )
        self.config = config
        self.architecture = ARCHITECTURES[self.model_type]
        self.prefix: str = model.base_model_prefix  # type: ignore[assignment]
        self.module: nn.Module = model.base_model  # type: ignore[assignment]
        self.has_static_head = self.module is not model
        self.model_class = type(model).__name__
        layers = self.module.get_submodule(self.architecture.layers)
        self.layers: list[nn.Module] = list(layers.children())
        self.hidden_size: int = config.hidden_size

    @property
    def name(self) -> str:
        """What people call the base model."""
        return str(getattr(self.config, "name_or_path", "") or self.model_type)

    @property
    def reference_parameter(self) -> nn.Parameter:
        """A floating-point parameter whose device and dtype new modules take."""
        return next(
            parameter
            for layer in self.layers
            for parameter in layer.parameters()
            if parameter.is_floating_point()
        )

    def places(self) -> Iterator[Place]:
        """Every place of every layer, in the order a forward pass reaches them."""
        for layer in range(len(self.layers)):
            for slot in self.architecture.slots:
                yield Place(layer, slot)

    def path(self, place: Place) -> str:
        """The place's path inside the backbone, as it stands in the keys of files."""
        return f"{self.architecture.layers}.{place.layer}.{place.slot.key}"

    def setting(self, name: str) -> float | None:
        """A number of the model's config under the architecture's own name for it."""
        value = getattr(self.config, name, None)
        return None if value is None else float(value)
