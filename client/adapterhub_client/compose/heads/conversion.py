"""A head of a transformers class as the flexible head that equals it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from adapterhub_client.compose.heads.foundation import foundation_of
from adapterhub_client.compose.heads.head import Head
from adapterhub_client.compose.heads.kinds import KINDS, build, config_of
from adapterhub_client.compose.heads.statics import REFUSED, STATICS, Static
from adapterhub_client.compose.sites.backbone import Backbone
from adapterhub_client.errors import CompositionError


def from_static(
    envelope: Mapping[str, Any], tensors: Mapping[str, Tensor], backbone: Backbone
) -> tuple[Head, dict[str, Tensor]]:
    """The flexible head that equals a static one: empty, with its tensors under their new names.

    Raises:
        CompositionError: No flexible head equals it, or nothing is known of its class.
    """
    model_class = str(envelope["model_class"])
    row = _row(model_class, backbone)
    moved = _moved(row, tensors, model_class, backbone)
    return build(_config(row, envelope, backbone), backbone, empty=True), moved


def _row(model_class: str, backbone: Backbone) -> Static:
    hint = f"load the base model as {model_class}"
    if model_class in REFUSED:
        raise _no_equal(model_class, REFUSED[model_class], hint)
    if model_class not in STATICS:
        raise CompositionError(
            f"The head of {model_class!r} is not supported for {backbone.model_class!r} yet.",
            hint=f"{hint}; known: " + ", ".join(STATICS),
        )
    row = STATICS[model_class]
    for name, value in row.requires.items():
        own = getattr(backbone.config, name, value)
        if own != value:
            raise _no_equal(model_class, f"the model's config has {name} {own!r}", hint)
    return row


def _config(row: Static, envelope: Mapping[str, Any], backbone: Backbone) -> dict[str, Any]:
    options = {
        name: getattr(backbone.config, value[1:]) if _is_reference(value) else value
        for name, value in row.options.items()
    }
    count = KINDS[row.kind].label_count
    if count is None:
        return options | {"head_type": row.kind}
    label_ids = envelope.get("label2id") or {}
    labels = sorted(label_ids, key=lambda label: int(label_ids[label]))
    number = int(envelope.get("num_labels") or len(labels) or 2)
    if row.kind == "question_answering":
        # Start and end, whatever the labels of the model's config are.
        number = 2
    named = labels if len(labels) == number else None
    return config_of(row.kind, named, **options, **{count: number})


def _moved(
    row: Static, tensors: Mapping[str, Tensor], model_class: str, backbone: Backbone
) -> dict[str, Tensor]:
    """The tensors by their new names.

    Raises:
        CompositionError: Some have no place in a flexible head.
    """
    foundation = foundation_of(backbone)
    left = dict(tensors)
    moved = {}
    for position, layer in row.layers.items():
        for end in ("weight", "bias"):
            if f"{layer}.{end}" in left:
                moved[f"heads.static.{position}.{end}"] = left.pop(f"{layer}.{end}")
    if row.bias is not None and row.bias in left:
        moved.setdefault(f"heads.static.{max(row.layers)}.bias", left.pop(row.bias))
    if row.zeros is not None and left.pop(row.zeros, torch.zeros(())).any():
        raise _no_equal(model_class, f"{row.zeros!r} is not zero", None)
    if left:
        raise _no_equal(model_class, "it has no place for " + ", ".join(sorted(left)), None)
    if row.tokens and foundation.scale != 1:
        name = f"heads.static.{min(row.layers)}.weight"
        moved[name] = moved[name] / foundation.scale
    return moved


def _is_reference(value: object) -> bool:
    return isinstance(value, str) and value.startswith("@")


def _no_equal(model_class: str, reason: str, hint: str | None) -> CompositionError:
    return CompositionError(
        f"No flexible head equals that of {model_class!r}: {reason}.",
        hint=hint or f"load the base model as {model_class}",
    )
