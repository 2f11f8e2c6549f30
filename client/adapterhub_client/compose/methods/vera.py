"""VeRA: random maps that all layers share, frozen, and small matrices between and behind them that are trained."""

from collections.abc import Iterator, Mapping

import torch
from torch import nn

from adapterhub_client.compose.files.entry import Entry
from adapterhub_client.compose.methods.linear import LowRankConfig, Target, open_gate
from adapterhub_client.compose.methods.lowrank import Factors, LowRankAdapter
from adapterhub_client.errors import CompositionError

SHARED = "shared"


class SharedMaps(nn.Module):
    """The two random maps of an adapter, the same in all layers, saved but never trained.

    Shapes:
        lora_A: (rank, features in); lora_B: (features out, rank)
    """

    never_trained = ("lora_A", "lora_B")

    def __init__(self, rank: int, target: Target, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()

        def empty(*shape: int) -> nn.Parameter:
            return nn.Parameter(
                torch.empty(*shape, device=device, dtype=dtype), requires_grad=False
            )

        self.lora_A = empty(rank, target.features_in)
        self.lora_B = empty(target.features_out, rank)


class VeraAdapter(LowRankAdapter):
    """up = vera_B B, down = vera_D A: both trained parts are full matrices in the reference library.

    Shapes:
        vera_D: (rank, rank); vera_B: (features out, features out)

    Source: Kopiczko et al. 2023, section 3.1, where both are diagonal.
    """

    def __init__(
        self,
        config: LowRankConfig,
        target: Target,
        shared: SharedMaps,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        super().__init__(config, target, device, dtype)
        rank, width = config.r, target.features_out
        self.vera_D = nn.Parameter(torch.empty(rank, rank, device=device, dtype=dtype))
        self.vera_B = nn.Parameter(torch.empty(width, width, device=device, dtype=dtype))
        # In a tuple, so that they are not a part of this module: they are kept once.
        self._shared = (shared,)

    @property
    def is_computed(self) -> bool:
        """Whether its factors are more than parameters as they are."""
        return True

    def sources(self) -> list[nn.Parameter]:
        """All parameters its factors depend on."""
        shared = self._shared[0]
        return [self.vera_D, self.vera_B, shared.lora_A, shared.lora_B]

    def factors(self, dtype: torch.dtype | None = None) -> Factors:
        """The two maps, made of the parameters anew; in another dtype, if one is given."""
        own_down, own_up, down, up = self.sources()
        if dtype is None:
            return Factors(own_down @ down, own_up @ up)
        return Factors(own_down.to(dtype) @ down.to(dtype), own_up.to(dtype) @ up.to(dtype))

    @torch.no_grad()
    def initialise(self) -> None:
        """Multiples of the identity, as the config asks for."""
        self.vera_D.copy_(
            torch.eye(len(self.vera_D), device=self.vera_D.device) * (self.config.vera_d or 0.0)
        )
        self.vera_B.copy_(
            torch.eye(len(self.vera_B), device=self.vera_B.device) * (self.config.vera_b or 0.0)
        )
        open_gate(self.gate)


def check(config: LowRankConfig, targets: Mapping[str, Target]) -> None:
    """Refuse what the shared maps do not fit.

    Raises:
        CompositionError: Names both shapes.
    """
    if config.vera_d is None or config.vera_b is None:
        raise CompositionError(
            f"VeRA needs both vera_d and vera_b; they are {config.vera_d!r} and {config.vera_b!r}.",
            hint="vera_d=0.1 and vera_b=0.0 are usual",
        )
    if any(not target.is_whole for target in targets.values()):
        raise CompositionError(
            "VeRA cannot act at a layer that makes query, key and value at once: "
            "its shared maps are for layers of one shape.",
            hint="use lora there, or intermediate_lora or output_lora without selfattn_lora",
        )
    (first, shape), *others = ((place, target[:2]) for place, target in targets.items())
    for place, other in others:
        if other != shape:
            raise CompositionError(
                f"VeRA shares its maps between layers of one shape: {first!r} has {shape}, {place!r} has {other}.",
                hint="choose layers of one shape with attn_matrices, intermediate_lora and output_lora",
            )


def shared_entries(modules: Mapping[str, nn.Module], name: str) -> Iterator[Entry]:
    """The shared maps under the names of the `adapters` library."""
    shared = modules.get(SHARED)
    if isinstance(shared, SharedMaps):
        for own, _ in shared.named_parameters():
            yield Entry(shared, own, (f"shared_parameters.{name}.{own}",))
