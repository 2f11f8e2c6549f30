"""The head that a transformers class comes with, when another one was loaded for it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from adapterhub_client.compose.errors import IncompatibleAdapter, WrongShape


class StaticHead(nn.Module):
    """Tensors that stand in for those of the model's own head while they are active; the model keeps its own."""

    kind = "static"

    def __init__(
        self,
        model: nn.Module,
        tensors: Mapping[str, Tensor],
        label_ids: dict[str, int],
        source: Path,
    ) -> None:
        super().__init__()
        own = _own(model)
        missing, unexpected = sorted(set(own) - set(tensors)), sorted(set(tensors) - set(own))
        if missing or unexpected:
            raise IncompatibleAdapter(source, missing=missing, unexpected=unexpected)
        for name, tensor in tensors.items():
            if tensor.shape != own[name].shape:
                raise WrongShape(source, name, tensor.shape, own[name].shape)
        self.label_ids = label_ids
        self.labels = sorted(label_ids, key=label_ids.__getitem__)
        self.names = list(tensors)
        self.values = nn.ParameterList(
            tensors[name].to(own[name].device, own[name].dtype, copy=True) for name in self.names
        )

    @classmethod
    def of(cls, model: nn.Module) -> "StaticHead":
        """A copy of what a model's own head is now."""
        tensors = {name: parameter.detach() for name, parameter in _own(model).items()}
        config: Any = model.config
        return cls(model, tensors, dict(config.label2id or {}), Path(type(model).__name__))

    def tensors(self) -> dict[str, Tensor]:
        """The tensors by the names they have in the model."""
        return dict(zip(self.names, self.values, strict=True))

    def envelope(self, model_class: str) -> dict[str, Any]:
        """What a `head_config.json` says of it."""
        labels = {"label2id": self.label_ids, "num_labels": len(self.label_ids)}
        return labels | {"model_class": model_class}

    def exchange(self, model: nn.Module) -> dict[str, nn.Parameter]:
        """Put these tensors into the model; returns those it had."""
        return exchange(model, self.tensors())


def exchange(model: nn.Module, values: Mapping[str, Tensor]) -> dict[str, nn.Parameter]:
    """Put other parameter objects in the places of a model's own; returns those it had."""
    before = {}
    for name, value in values.items():
        path, _, leaf = name.rpartition(".")
        before[name] = model.get_parameter(name)
        setattr(model.get_submodule(path), leaf, value)
    return before


def _own(model: nn.Module) -> dict[str, Tensor]:
    """The parameters outside the backbone."""
    prefix = f"{model.base_model_prefix}."
    return {name: p for name, p in model.named_parameters() if not name.startswith(prefix)}
