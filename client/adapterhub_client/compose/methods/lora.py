"""LoRA, and by its config (IA)3, VeRA, DoRA and DVoRA: each is an option of it in the files."""

import math
from collections.abc import Iterator, Mapping

import torch
from torch import nn
from torch.nn import init

from adapterhub_client.compose.files.entry import Entry
from adapterhub_client.compose.methods import ia3, linear, vera
from adapterhub_client.compose.methods.linear import NORMAL_STD, LowRankConfig, Target
from adapterhub_client.compose.methods.lowrank import Factors, LowRankAdapter
from adapterhub_client.compose.methods.seed import seeded
from adapterhub_client.compose.sites.backbone import Backbone
from adapterhub_client.errors import CompositionError
from adapterhub_client.formats.method import Lora

INITIALISATIONS = ("lora", "bert", "ia3", "vera")


class LoraAdapter(LowRankAdapter):
    """y + alpha / r * B A x.

    Shapes:
        lora_A: (rank, features in), for each block in use one after the other
        lora_B: (features out, rank), of the blocks in use

    Source: Hu et al. 2021, section 4.1.
    """

    def __init__(
        self, config: LowRankConfig, target: Target, device: torch.device, dtype: torch.dtype
    ) -> None:
        super().__init__(config, target, device, dtype)
        ranks = config.r * len(target.uses)
        self.lora_A = nn.Parameter(
            torch.empty(ranks, target.features_in, device=device, dtype=dtype)
        )
        self.lora_B = nn.Parameter(torch.empty(target.own, config.r, device=device, dtype=dtype))

    def factors(self, dtype: torch.dtype | None = None) -> Factors:
        """The two maps; B of each block beside the others, with zeros elsewhere."""
        target, rank = self.target, self.config.r
        to = dtype or self.lora_A.dtype
        down, up = self.lora_A.to(to), self.lora_B.to(to)
        if target.is_whole:
            return Factors(down, up)
        used = len(target.uses)
        blocks = torch.block_diag(*up.view(used, target.block, rank))  # type: ignore[no-untyped-call]
        return Factors(down, linear.spread(blocks.T, target, 0.0).T)

    @torch.no_grad()
    def initialise(self) -> None:
        """Fresh maps, as the config asks for."""
        fill_maps(self.lora_A, self.lora_B, self.config.init_weights)
        linear.open_gate(self.gate)


def fill_maps(down: nn.Parameter, up: nn.Parameter, how: str) -> None:
    """Fresh values for two maps: `lora` begins with a product of zero."""
    match how:
        case "lora":
            init.kaiming_uniform_(down, a=math.sqrt(5))
            init.zeros_(up)
        case "bert":
            init.normal_(down, std=NORMAL_STD)
            init.normal_(up, std=NORMAL_STD)
        case "ia3":
            init.ones_(down)
            init.ones_(up)
        case _:
            init.kaiming_uniform_(down)
            init.kaiming_uniform_(up)


def check(config: Lora, backbone: Backbone) -> None:
    """Refuse what is not supported, or not on this model.

    Raises:
        CompositionError: Names the option, or both sides of the conflict.
    """
    is_scale = config.composition_mode == "scale"
    linear.check(config, backbone, ia3.INITIALISATIONS if is_scale else INITIALISATIONS)
    if is_scale:
        ia3.check(config)
        return
    if config.scaled_inputs:
        raise CompositionError(
            f"scaled_inputs={config.scaled_inputs} does not go with composition_mode='add', which scales nothing.",
            hint="leave it out, or use composition_mode='scale'",
        )
    targets = _targets(config, backbone)
    if config.is_vera:
        vera.check(config, targets)
    if config.use_dora:
        _check_magnitude(config, backbone, targets)


def build(config: Lora, backbone: Backbone, *, empty: bool) -> dict[str, nn.Module]:
    """The modules by place, initialised; or empty, on the meta device."""
    like = backbone.reference_parameter
    device = torch.device("meta") if empty else like.device
    modules: dict[str, nn.Module] = {}
    if config.is_vera:
        first = next(iter(_targets(config, backbone).values()))
        shared = vera.SharedMaps(config.r, first, device, like.dtype)
        modules[vera.SHARED] = shared
        if not empty:
            _fill_shared(config, shared)
    for place in linear.places(config, backbone):
        target = linear.target_of(config, backbone, place)
        module = _module(config, target, modules, device, like.dtype)
        if not empty:
            _initialise(module, config, backbone.at(place, place.spot.path))  # type: ignore[attr-defined]
        modules[str(place)] = module
    return modules


def entries(
    config: Lora,  # noqa: ARG001 - the protocol's
    modules: Mapping[str, nn.Module],
    backbone: Backbone,
    name: str,
) -> Iterator[Entry]:
    """Every tensor of the adapter, under the names of the `adapters` library."""
    yield from linear.entries(modules, backbone, name)
    yield from vera.shared_entries(modules, name)


def _module(
    config: Lora,
    target: Target,
    modules: Mapping[str, nn.Module],
    device: torch.device,
    dtype: torch.dtype,
) -> LoraAdapter | vera.VeraAdapter | ia3.Ia3Adapter:
    if config.composition_mode == "scale":
        return ia3.Ia3Adapter(config, target, device, dtype)
    shared = modules.get(vera.SHARED)
    if isinstance(shared, vera.SharedMaps):
        return vera.VeraAdapter(config, target, shared, device, dtype)
    return LoraAdapter(config, target, device, dtype)


@torch.no_grad()
def _initialise(
    module: LoraAdapter | vera.VeraAdapter | ia3.Ia3Adapter, config: Lora, layer: nn.Module
) -> None:
    with seeded(config.init_weights_seed):
        module.initialise()
    if isinstance(module, LowRankAdapter) and module.m is not None:
        module.m.initialise(layer)


@torch.no_grad()
def _fill_shared(config: Lora, shared: vera.SharedMaps) -> None:
    with seeded(config.init_weights_seed):
        fill_maps(shared.lora_A, shared.lora_B, config.init_weights)


def _targets(config: Lora, backbone: Backbone) -> dict[str, Target]:
    return {
        str(place): linear.target_of(config, backbone, place)
        for place in linear.places(config, backbone)
    }


def _check_magnitude(config: Lora, backbone: Backbone, targets: Mapping[str, Target]) -> None:
    """Refuse DoRA where there is no weight to take apart."""
    if any(not target.is_whole for target in targets.values()):
        raise CompositionError(
            "DoRA cannot act at a layer that makes query, key and value at once: "
            "the format has no magnitudes for its parts.",
            hint="use lora there, or intermediate_lora or output_lora without selfattn_lora",
        )
    for place in linear.places(config, backbone):
        module = linear.module_at(backbone, place)
        if module is not None:
            linear.weight_of(module)
