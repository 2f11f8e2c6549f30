"""LoRA and DoRA as PEFT writes them: by the live modules they act at, each with its own rank and scale."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from adapterhub_client.compose.files.peftia3 import write_ia3
from adapterhub_client.compose.files.peftplaces import (
    WHOLE,
    Found,
    Options,
    Parts,
    Tensors,
    Written,
    path_of,
    refusal,
    require_complete,
    require_plain,
    require_shape,
    shortest,
    sites,
    sorted_by_place,
)
from adapterhub_client.compose.methods import linear
from adapterhub_client.compose.methods.lora import LoraAdapter
from adapterhub_client.compose.shelf import LoadedAdapter
from adapterhub_client.compose.sites.backbone import Backbone, Place
from adapterhub_client.errors import CompositionError
from adapterhub_client.formats.method import Lora

# These take a part of the base's own weights into the adapter, so that it fits no unchanged base.
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
_LORA_KEY = re.compile(r"(?P<path>.+)\.lora_(?P<part>A|B|magnitude_vector)(\.weight)?$")


def read_lora(config: Options, tensors: Tensors, backbone: Backbone, folder: Path) -> Found:
    """LoRA or DoRA; ranks and scales that differ from place to place become the largest rank and one scale.

    Raises:
        CompositionError: It has an option, or acts at a module, that our method has not.
        IncompatibleAdapter: Tensors are missing.
    """
    require_plain(config, folder)
    begun = str(config.get("init_lora_weights")).lower()
    if begun.startswith(_CHANGES_BASE):
        raise refusal(folder, "init_lora_weights", begun)
    parts, rest = sorted_by_place(_LORA_KEY, tensors, backbone, folder)
    needed = {"A", "B"} | ({"magnitude_vector"} if config.get("use_dora") else set())
    require_complete(parts, needed, folder)
    scales = {part.path: _scale(config, part) for part in parts}
    rank = max(len(part.tensors["A"]) for part in parts)
    is_even = len(set(scales.values())) == 1 and all(len(p.tensors["A"]) == rank for p in parts)
    scale = 1.0 if config.get("use_dora") else next(iter(scales.values()))
    alpha = config.get("lora_alpha") if is_even and not config.get("use_rslora") else None
    if alpha is None or config.get("alpha_pattern") or config.get("use_dora"):
        alpha = scale * rank
    chosen = Lora(
        r=rank,
        alpha=int(alpha) if float(alpha).is_integer() else alpha,
        dropout=float(config.get("lora_dropout") or 0),
        use_dora=bool(config.get("use_dora")),
        dora_keeps_bias=bool(config.get("use_dora"))
        and any(_has_bias(p.place, backbone) for p in parts),
        **sites(parts, backbone),
    )
    own = {
        str(p.place): _low_rank(p, rank, scales[p.path] / scale, backbone, folder) for p in parts
    }
    for place in linear.places(chosen, backbone):
        if str(place) not in own:
            own[str(place)] = _idle(chosen, place, backbone)
    return Found(chosen, own, rest)


def write(
    name: str, adapter: LoadedAdapter, backbone: Backbone, start: str, model: nn.Module
) -> Written:
    """LoRA, DoRA or (IA)3 in PEFT's words; ``start`` is what its paths have before the backbone's.

    Raises:
        CompositionError: PEFT has nothing like it; names the option.
    """
    config = adapter.config
    _require_expressible(name, config)
    is_scale = config.composition_mode == "scale"
    acting = {
        f"{start}{path_of(place)}": (place, adapter.places[str(place)])
        for place in linear.linears(backbone)
        if str(place) in adapter.places
    }
    every = [path for path, _ in model.named_modules()]
    common: dict[str, Any] = {
        "fan_in_fan_out": any(
            isinstance(linear.module_at(backbone, place), Conv1D) for place, _ in acting.values()
        ),
    }
    if is_scale:
        modules = {path: module for path, (_, module) in acting.items()}
        return write_ia3(name, modules, every, common)
    common["target_modules"] = shortest(list(acting), every)
    tensors: dict[str, Tensor] = {}
    ranks: dict[str, int] = {}
    for path, (place, module) in acting.items():
        if config.use_dora and not config.dora_keeps_bias and _has_bias(place, backbone):
            raise CompositionError(
                f"The adapter {name!r} has use_dora at {path!r}, which has a bias: it rescales the bias with the "
                "weight, and PEFT leaves it as it is.",
                hint="set dora_keeps_bias before it is trained, or save it without format='peft'",
            )
        ranks[path] = _write_maps(path, module, tensors)
    differing = {path: rank for path, rank in ranks.items() if rank != config.r}
    # A layer that makes several things has their ranks together, and the scale stays what it was.
    alphas = {path: config.alpha * (rank // config.r) for path, rank in differing.items()}
    options = {
        "peft_type": "LORA",
        "r": config.r,
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "bias": "none",
        "use_dora": config.use_dora,
        "use_rslora": False,
        "rank_pattern": {_as_pattern(path): rank for path, rank in differing.items()},
        "alpha_pattern": {_as_pattern(path): alpha for path, alpha in alphas.items()},
    }
    return Written(common | options, tensors)


def _scale(config: Options, part: Parts) -> float:
    rank = len(part.tensors["A"])
    alpha = _matching(config.get("alpha_pattern") or {}, part.path, config.get("lora_alpha", 8))
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _matching(patterns: Mapping[str, Any], path: str, usual: Any) -> Any:  # noqa: ANN401
    """The value of the first pattern that fits the end of a path."""
    fits = (value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", path))
    return next(fits, usual)


def _low_rank(
    part: Parts, rank: int, factor: float, backbone: Backbone, folder: Path
) -> dict[str, Tensor]:
    """The maps under our names: of the largest rank, with zeros, and for each block of a layer that makes several."""
    target = linear.target_of(WHOLE, backbone, part.place)
    down, up = part.tensors["A"], part.tensors["B"]
    own = len(down)
    require_shape(folder, f"{part.path}.lora_A", down, (own, target.features_in))
    require_shape(folder, f"{part.path}.lora_B", up, (target.features_out, own))
    if own < rank:
        down = torch.cat([down, down.new_zeros(rank - own, target.features_in)])
        up = torch.cat([up, up.new_zeros(target.features_out, rank - own)], dim=1)
    named = {
        "lora_A": torch.cat([down] * target.blocks) if target.blocks > 1 else down,
        "lora_B": up if factor == 1.0 else up * factor,
    }
    if "magnitude_vector" in part.tensors:
        magnitude = part.tensors["magnitude_vector"].reshape(-1, 1)
        require_shape(
            folder, f"{part.path}.lora_magnitude_vector", magnitude, (target.features_out, 1)
        )
        named["m.weight"] = magnitude
    return named


def _idle(config: Lora, place: Place, backbone: Backbone) -> dict[str, Tensor]:
    """Maps that change nothing, at a place that the config names and the file does not."""
    target = linear.target_of(config, backbone, place)
    named = {
        "lora_A": torch.zeros(config.r * len(target.uses), target.features_in),
        "lora_B": torch.zeros(target.own, config.r),
    }
    module = linear.module_at(backbone, place)
    if config.use_dora and module is not None:
        named["m.weight"] = torch.linalg.vector_norm(linear.weight_of(module), dim=1, keepdim=True)
    return named


def _has_bias(place: Place, backbone: Backbone) -> bool:
    module = linear.module_at(backbone, place)
    return module is not None and linear.bias_of(module) is not None


def _require_expressible(name: str, config: Any) -> None:  # noqa: ANN401 - any method's
    if not isinstance(config, Lora):
        raise CompositionError(
            f"The adapter {name!r} is a {type(config).__name__}, which PEFT has not, or computes otherwise.",
            hint="for format='peft' there are LoRA, DoRA, (IA)3, prefixes and prompts; save it without",
        )
    is_scale = config.composition_mode == "scale"
    asked = {
        "use_gating": config.use_gating,
        "vera_d": config.is_vera,
        f"alpha={config.alpha}": is_scale and config.alpha != 1,
        f"alpha={config.alpha} beside r={config.r}": config.use_dora and config.alpha != config.r,
    }
    for option, is_asked in asked.items():
        if is_asked:
            raise CompositionError(
                f"The adapter {name!r} has {option}, which PEFT cannot express here.",
                hint="save it without format='peft'",
            )


def _write_maps(path: str, module: nn.Module, tensors: dict[str, Tensor]) -> int:
    """Write the maps of one place; returns their rank."""
    if not isinstance(module, LoraAdapter):
        raise CompositionError(
            f"{path!r} has a {type(module).__name__}, which PEFT cannot express."
        )
    target, rank = module.target, module.config.r
    blocks = module.lora_A.detach().view(len(target.uses), rank, target.features_in)
    if bool((blocks == blocks[0]).all()):
        # One map down for all that the layer makes, as PEFT has it.
        down, up = blocks[0], linear.spread(module.lora_B.detach().T, target, 0.0).T
    else:
        with torch.no_grad():
            down, up = module.factors()
    tensors[f"{path}.lora_A.weight"], tensors[f"{path}.lora_B.weight"] = down, up
    if module.m is not None:
        tensors[f"{path}.lora_magnitude_vector"] = module.m.weight.detach().flatten()
    return len(down)


def _as_pattern(path: str) -> str:
    return re.escape(path)
