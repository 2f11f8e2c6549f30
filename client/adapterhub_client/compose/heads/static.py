"""The head that a transformers class comes with, when another one was loaded for it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from adapterhub_client.compose.errors import IncompatibleAdapter, WrongShape
from adapterhub_client.errors import CompositionError

# The heads of classes that have the backbone's modules beside them, as T5's have.
BESIDE_BACKBONE = ("lm_head", "qa_outputs")


class StaticHead(nn.Module):
    """Tensors that stand in for those of the model's own head while they are active; the model keeps its own.

    What the head shares with the backbone, such as output embeddings, stays shared as long as it is equal.
    """

    kind = "static"

    def __init__(
        self,
        model: nn.Module,
        tensors: Mapping[str, Tensor],
        label_ids: dict[str, int],
        source: Path,
    ) -> None:
        super().__init__()
        own, groups = _own(model), _groups(model)
        missing = sorted(names[0] for names in groups if not set(names) & set(tensors))
        unexpected = sorted(set(tensors) - set(own))
        if missing or unexpected:
            raise IncompatibleAdapter(source, missing=missing, unexpected=unexpected)
        for name, tensor in tensors.items():
            if tensor.shape != own[name].shape:
                raise WrongShape(source, name, tensor.shape, own[name].shape)
        self.label_ids = label_ids
        self.labels = sorted(label_ids, key=label_ids.__getitem__)
        groups += [(name,) for name in _differing(own, groups, tensors, source)]
        self.names = groups
        self.values = nn.ParameterList(_value(names, tensors, own) for names in groups)
        # In a dictionary of the model's own objects, so that they stay a part of the model alone.
        held = {name for names in groups for name in names}
        self._shared = {name: tensor for name, tensor in own.items() if name not in held}

    @classmethod
    def of(cls, model: nn.Module) -> "StaticHead":
        """A copy of what a model's own head is now."""
        tensors = {name: tensor.detach() for name, tensor in _own(model).items()}
        config: Any = model.config
        return cls(model, tensors, dict(config.label2id or {}), Path(type(model).__name__))

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by the names they have in the model, those that are the model's too."""
        return self._held() | {name: tensor.detach() for name, tensor in self._shared.items()}

    def envelope(self, model_class: str) -> dict[str, Any]:
        """What a `head_config.json` says of it."""
        labels = {"label2id": self.label_ids, "num_labels": len(self.label_ids)}
        return labels | {"model_class": model_class}

    def exchange(self, model: nn.Module) -> dict[str, nn.Parameter]:
        """Put these tensors into the model; returns those it had."""
        return exchange(model, self._held())

    def _held(self) -> dict[str, Tensor]:
        pairs = zip(self.names, self.values, strict=True)
        return {name: value for names, value in pairs for name in names}


def has_own_head(model: nn.Module) -> bool:
    """Whether a model is of a class with a head."""
    return bool(_own(model))


def exchange(model: nn.Module, values: Mapping[str, Tensor]) -> dict[str, nn.Parameter]:
    """Put other parameter objects in the places of a model's own; returns those it had."""
    before = {}
    for name, value in values.items():
        path, _, leaf = name.rpartition(".")
        before[name] = model.get_parameter(name)
        setattr(model.get_submodule(path), leaf, value)
    return before


def _own(model: nn.Module) -> dict[str, Tensor]:
    """What is outside the backbone, under every name it has."""
    state = model.state_dict(keep_vars=True)
    if model.base_model is model:
        return {name: t for name, t in state.items() if name.split(".")[0] in BESIDE_BACKBONE}
    prefix = f"{model.base_model_prefix}."
    return {name: tensor for name, tensor in state.items() if not name.startswith(prefix)}


def _groups(model: nn.Module) -> list[tuple[str, ...]]:
    """The names of each parameter that is the head's alone."""
    own = _own(model)
    shared = {id(p) for n, p in model.state_dict(keep_vars=True).items() if n not in own}
    names: dict[int, list[str]] = {}
    for name, tensor in own.items():
        if isinstance(tensor, nn.Parameter) and id(tensor) not in shared:
            names.setdefault(id(tensor), []).append(name)
    return [tuple(group) for group in names.values()]


def _differing(
    own: Mapping[str, Tensor],
    groups: Sequence[Sequence[str]],
    tensors: Mapping[str, Tensor],
    source: Path,
) -> list[str]:
    """The names of what the head shares with the backbone, where a file has something else.

    Raises:
        CompositionError: It is no parameter, so that nothing can stand in for it.
    """
    alone = {name for names in groups for name in names}
    differing = []
    for name, tensor in tensors.items():
        mine = own[name]
        if name in alone or torch.equal(tensor.to(mine.device, mine.dtype), mine):
            continue
        if not isinstance(mine, nn.Parameter):
            raise CompositionError(
                f"{name!r} in '{source}' differs from this model's, and is no parameter.",
                hint="set it in the base model itself",
            )
        differing.append(name)
    return differing


def _value(
    names: Sequence[str], tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]
) -> nn.Parameter:
    found = next(name for name in names if name in tensors)
    mine = own[found]
    return nn.Parameter(tensors[found].to(mine.device, mine.dtype, copy=True))
