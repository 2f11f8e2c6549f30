"""(IA)3: a learned factor for each feature of what a linear layer puts out, or of what goes into it."""

import torch
from torch import Tensor, nn
from torch.nn import init

from adapterhub_client.compose.methods.linear import (
    NORMAL_STD,
    Gate,
    LinearAdapter,
    Operation,
    Target,
    open_gate,
    spread,
)
from adapterhub_client.errors import CompositionError
from adapterhub_client.formats.method import Lora

INITIALISATIONS = ("ia3", "lora", "bert")


class Ia3Adapter(LinearAdapter):
    """y * l * alpha, the bias of y with it; gated instead of times alpha where there is a gate.

    At a layer's input, y is that input, and the bias stays as it is.

    Shapes:
        lora_B: (features out, 1), the factors l, of the blocks in use; (features in, 1) at the input

    Source: Liu et al. 2022, section 3.3.
    """

    operation: Operation = "scale"

    def __init__(
        self, config: Lora, target: Target, device: torch.device, dtype: torch.dtype
    ) -> None:
        super().__init__(target)
        self.config = config
        self.lora_B = nn.Parameter(torch.empty(target.own, 1, device=device, dtype=dtype))
        self.gate = Gate(target, device, dtype) if config.use_gating else None

    def factor(self) -> Tensor:
        """The factor of each output feature without a gate, (features out)."""
        return self._learned() if self.gate is not None else self._learned() * self.config.alpha

    def hand_on(self, given: Tensor, before: Tensor | None) -> Tensor:
        """The factors, times those of the adapter before."""
        factor = self.factor()
        if self.gate is not None:
            factor = factor * self.gate(given)
        factor = factor if factor.dim() == given.dim() else factor.view(1, 1, -1)
        return factor if before is None else before * factor

    def join(self, output: Tensor, handed: Tensor, linear: nn.Module) -> Tensor:  # noqa: ARG002 - each method's
        """The layer's output, scaled."""
        return output * handed.to(output.dtype)

    def merged(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Weight and bias, scaled."""
        if self.gate is not None:
            raise CompositionError(
                "A gated adapter cannot be merged: how much of it there is depends on the input.",
                hint="keep it beside the model, or train one without `use_gating`",
            )
        factor = self.factor().to(weight.dtype)
        if self.target.is_input:
            return weight * factor, bias
        return weight * factor.unsqueeze(-1), None if bias is None else bias * factor

    @torch.no_grad()
    def initialise(self) -> None:
        """Fresh factors, as the config asks for."""
        match self.config.init_weights:
            case "ia3":
                init.ones_(self.lora_B)
            case "lora":
                init.zeros_(self.lora_B)
            case _:
                init.normal_(self.lora_B, std=NORMAL_STD)
        open_gate(self.gate)

    def _learned(self) -> Tensor:
        return spread(self.lora_B.flatten(), self.target, 1.0)


def check(config: Lora) -> None:
    """Refuse what factors cannot be combined with.

    Raises:
        CompositionError: Names the option.
    """
    asked = {
        f"r={config.r}": config.r > 1,
        f"dropout={config.dropout}": config.dropout > 0,
        "use_dora": config.use_dora,
        "vera_d and vera_b": config.is_vera,
    }
    for option, is_asked in asked.items():
        if is_asked:
            raise CompositionError(
                f"{option} does not go with composition_mode='scale', which has one factor for each feature.",
                hint="leave it out, or use composition_mode='add'",
            )
    chosen = {"intermediate": config.intermediate_lora, "output": config.output_lora}
    for name in config.scaled_inputs:
        if not chosen[name]:
            raise CompositionError(
                f"scaled_inputs names {name!r}, where the config puts no adapter.",
                hint=f"set {name}_lora",
            )
