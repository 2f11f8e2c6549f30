"""MTL-LoRA: one down-projection, a small matrix of the task, and the mean of several up-projections."""

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn import init

from adapterhub_client.compose.files.entry import Entry
from adapterhub_client.compose.methods import linear
from adapterhub_client.compose.methods.linear import NORMAL_STD, Target
from adapterhub_client.compose.methods.lowrank import Factors, LowRankAdapter
from adapterhub_client.compose.methods.seed import seeded
from adapterhub_client.compose.sites.backbone import Backbone
from adapterhub_client.errors import CompositionError
from adapterhub_client.formats.method import MtlLora

INITIALISATIONS = ("lora", "bert", "ia3", "vera")


class TaskMatrix(nn.Module):
    """What a task has of its own between the two maps: a diagonal, or a full matrix.

    Shapes:
        values: (rank) or (rank, rank)
    """

    def __init__(self, config: MtlLora, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()
        shape = (config.r,) * (1 if config.task_specific_matrix_type == "singular_values" else 2)
        self.values = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))

    def forward(self, down: Tensor) -> Tensor:
        """The matrix behind a map (rank, features in)."""
        if self.values.dim() == 1:
            return self.values.to(down.dtype).unsqueeze(-1) * down
        return self.values.to(down.dtype).T @ down


class MtlLoraAdapter(LowRankAdapter):
    """y + alpha / r * sum_k softmax(w / sharpness)_k B_k T A x.

    Shapes:
        lora_A: (rank, features in); lora_B: (up-projections, features out, rank); weights: (up-projections)

    Source: Yang et al. 2024, section 3.
    """

    def __init__(
        self, config: MtlLora, target: Target, device: torch.device, dtype: torch.dtype
    ) -> None:
        super().__init__(config, target, device, dtype)
        self.sharpness = config.weights_sharpness

        def empty(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(*shape, device=device, dtype=dtype))

        self.lora_A = empty(config.r, target.features_in)
        self.lora_B = empty(config.n_up_projection, target.features_out, config.r)
        self.weights = empty(config.n_up_projection)
        self.task_specific = TaskMatrix(config, device, dtype)

    @property
    def is_computed(self) -> bool:
        """Whether its factors are more than parameters as they are."""
        return True

    def factors(self, dtype: torch.dtype | None = None) -> Factors:
        """The task's matrix behind A, and the weighted mean of all B."""
        dtype = dtype or self.lora_A.dtype
        shares = torch.softmax(self.weights.to(dtype) / self.sharpness, dim=0)
        up = (shares.view(-1, 1, 1) * self.lora_B.to(dtype)).sum(dim=0)
        return Factors(self.task_specific(self.lora_A.to(dtype)), up)

    @torch.no_grad()
    def initialise(self) -> None:
        """Fresh maps, as the config asks for; the task's own matrix begins with ones."""
        how = self.config.init_weights
        init.zeros_(self.lora_B)
        if how == "bert":
            init.normal_(self.lora_A, std=NORMAL_STD)
            init.normal_(self.lora_B, std=NORMAL_STD)
        elif how == "ia3":
            init.ones_(self.lora_A)
        else:
            init.kaiming_uniform_(self.lora_A, a=math.sqrt(5) if how == "lora" else 0)
        init.ones_(self.weights)
        init.ones_(self.task_specific.values)
        linear.open_gate(self.gate)


def check(config: MtlLora, backbone: Backbone) -> None:
    """Refuse what is not supported, or not on this model.

    Raises:
        CompositionError: Names the option.
    """
    asked = {
        "composition_mode='scale'": config.composition_mode == "scale",
        "use_dora": config.use_dora,
        "vera_d and vera_b": config.is_vera,
    }
    for option, is_asked in asked.items():
        if is_asked:
            raise CompositionError(
                f"MTL-LoRA does not go with {option}.", hint="the architecture `lora` does"
            )
    linear.check(config, backbone, INITIALISATIONS)
    for place in linear.places(config, backbone):
        if not linear.target_of(config, backbone, place).is_whole:
            raise CompositionError(
                "MTL-LoRA cannot act at a layer that makes query, key and value at once: "
                "the format has no place for the task's matrices of its parts.",
                hint="use lora there, or intermediate_lora or output_lora without selfattn_lora",
            )


def build(config: MtlLora, backbone: Backbone, *, empty: bool) -> dict[str, nn.Module]:
    """The modules by place, initialised; or empty, on the meta device."""
    like = backbone.reference_parameter
    device = torch.device("meta") if empty else like.device
    modules: dict[str, nn.Module] = {}
    for place in linear.places(config, backbone):
        target = linear.target_of(config, backbone, place)
        module = MtlLoraAdapter(config, target, device, like.dtype)
        if not empty:
            with seeded(config.init_weights_seed):
                module.initialise()
        modules[str(place)] = module
    return modules


def entries(
    config: MtlLora,  # noqa: ARG001 - the protocol's
    modules: Mapping[str, nn.Module],
    backbone: Backbone,
    name: str,
) -> Iterator[Entry]:
    """Every tensor of the adapter, under the names of the `adapters` library."""
    yield from linear.entries(modules, backbone, name)
