"""An adapted model as a function of tensors, which `torch.export` takes whole."""

import inspect
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from adapterhub_client.errors import CompositionError

if TYPE_CHECKING:
    from adapterhub_client.compose.attachment import Adapted


class Exportable(nn.Module):
    """What is active now, from tensors in the order of ``names`` to the output's tensors by name.

    Several heads answer as `heads.0.logits`, `heads.1.logits`, ...; caches of keys and values are left out. What is
    kept of parameters, such as a compiled fusion, goes into the graph as it is, and is not formed in it again.

    Shapes:
        inputs, result: as the model's
    """

    def __init__(self, adapted: "Adapted", names: Sequence[str]) -> None:
        super().__init__()
        self.adapted, self.names = adapted, tuple(names)
        taken = inspect.signature(adapted.backbone.module.forward).parameters
        self._options = {"use_cache": False} if "use_cache" in taken else {}
        self.train(adapted.training)

    def forward(self, *inputs: Tensor) -> dict[str, Tensor]:
        """Run the model with what is active."""
        named: dict[str, Any] = dict(zip(self.names, inputs, strict=True))
        return dict(_tensors(self.adapted(**named, **self._options), ""))


def exportable(adapted: "Adapted", names: Sequence[str]) -> Exportable:
    """The module to export, with everything in it that can be formed beforehand.

    Raises:
        CompositionError: It is being trained, or no inputs are named.
    """
    if adapted.training:
        raise CompositionError(
            "What is exported is for use, and this is being trained.", hint="call `eval()` first"
        )
    if not names:
        raise CompositionError(
            "An exported model needs its inputs by name.",
            hint='give them in their order: "input_ids", "attention_mask"',
        )
    adapted.activation.forget()
    adapted.activation.warm()
    return Exportable(adapted, names)


def _tensors(output: Any, path: str) -> Iterator[tuple[str, Tensor]]:  # noqa: ANN401 - outputs nest
    if isinstance(output, Tensor):
        yield path, output
    elif isinstance(output, dict):
        for name, part in output.items():
            yield from _tensors(part, f"{path}.{name}" if path else name)
    elif isinstance(output, list | tuple):
        for number, part in enumerate(output):
            yield from _tensors(part, f"{path}.{number}")
