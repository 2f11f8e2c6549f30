"""LoRA, DoRA and (IA)3 as PEFT writes them: by the live modules they act at, each with its own rank and scale."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from adapterhub_client.compose.errors import IncompatibleAdapter, WrongShape
from adapterhub_client.compose.methods import linear
from adapterhub_client.compose.methods.ia3 import Ia3Adapter
from adapterhub_client.compose.methods.lora import LoraAdapter
from adapterhub_client.compose.shelf import LoadedAdapter
from adapterhub_client.compose.sites import Backbone, Place
from adapterhub_client.compose.spots import Projection
from adapterhub_client.errors import CompositionError
from adapterhub_client.formats.method import Lora, MethodConfig

Options = Mapping[str, Any]
Tensors = Mapping[str, Tensor]

# What does not change what a trained adapter computes; every other option has to be off.
_HARMLESS = {
    "alpha_pattern", "auto_mapping", "base_model_name_or_path", "bias", "corda_config", "ensure_weight_tying",
    "eva_config", "exclude_modules", "fan_in_fan_out", "feedforward_modules", "inference_mode",
    "init_ia3_weights", "init_lora_weights", "layers_pattern", "layers_to_transform", "loftq_config",
    "lora_alpha", "lora_dropout", "lora_ga_config", "megatron_config", "megatron_core", "modules_to_save",
    "peft_type", "peft_version", "qalora_group_size", "r", "rank_pattern", "revision", "runtime_config",
    "target_modules", "task_type", "use_dora", "use_rslora",
}  # fmt: skip
# These take a part of the base's own weights into the adapter, so that it fits no unchanged base.
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
_LORA_KEY = re.compile(r"(?P<path>.+)\.lora_(?P<part>A|B|magnitude_vector)(\.weight)?$")
_IA3_KEY = re.compile(r"(?P<path>.+)\.(?P<part>ia3_l)$")
_LETTERS = {"query": "q", "key": "k", "value": "v"}


class Found(NamedTuple):
    """An adapter of PEFT in our words."""

    config: MethodConfig
    tensors: dict[str, dict[str, Tensor]]
    """by place, and by the names our modules have for them"""
    rest: dict[str, Tensor]
    """what is not of the adapter itself"""


class Written(NamedTuple):
    """An adapter of ours in PEFT's words."""

    config: dict[str, Any]
    tensors: dict[str, Tensor]


class _Parts(NamedTuple):
    place: Place
    tensors: dict[str, Tensor]
    path: str


def read_lora(config: Options, tensors: Tensors, backbone: Backbone, folder: Path) -> Found:
    """LoRA or DoRA; ranks and scales that differ from place to place become the largest rank and one scale.

    Raises:
        CompositionError: It has an option, or acts at a module, that our method has not.
        IncompatibleAdapter: Tensors are missing.
    """
    _require_plain(config, folder)
    begun = str(config.get("init_lora_weights")).lower()
    if begun.startswith(_CHANGES_BASE):
        raise _refusal(folder, "init_lora_weights", begun)
    parts, rest = _sorted(_LORA_KEY, tensors, backbone, folder)
    needed = {"A", "B"} | ({"magnitude_vector"} if config.get("use_dora") else set())
    _require_complete(parts, needed, folder)
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
        **_sites(parts, backbone),
    )
    own = {
        str(p.place): _low_rank(p, rank, scales[p.path] / scale, backbone, folder) for p in parts
    }
    for place in linear.places(chosen, backbone):
        if str(place) not in own:
            own[str(place)] = _idle(chosen, place, backbone)
    return Found(chosen, own, rest)


def read_ia3(config: Options, tensors: Tensors, backbone: Backbone, folder: Path) -> Found:
    """(IA)3 at what modules put out.

    Raises:
        CompositionError: It scales what goes into a module, or acts at one that our method has not.
        IncompatibleAdapter: Tensors are missing.
    """
    _require_plain(config, folder)
    parts, rest = _sorted(_IA3_KEY, tensors, backbone, folder)
    _require_complete(parts, {"ia3_l"}, folder)
    own = {}
    for part in parts:
        target = linear.target_of(_WHOLE, backbone, part.place)
        if part.tensors["ia3_l"].shape == (1, target.features_in):
            raise CompositionError(
                f"'{folder}' scales what goes into {part.path!r} (feedforward_modules); "
                "(IA)3 here scales what comes out.",
                hint="train it with feedforward_modules=[] and the module before as a target",
            )
        _require_shape(
            folder, part.path + ".ia3_l", part.tensors["ia3_l"], (target.features_out, 1)
        )
        own[str(part.place)] = {"lora_B": part.tensors["ia3_l"]}
    chosen = Lora(
        r=1, alpha=1, composition_mode="scale", init_weights="ia3", **_sites(parts, backbone)
    )
    for place in linear.places(chosen, backbone):
        if str(place) not in own:
            features = linear.target_of(_WHOLE, backbone, place).features_out
            own[str(place)] = {"lora_B": torch.ones(features, 1)}
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
        f"{start}{_path(place)}": (place, adapter.places[str(place)])
        for place in linear.linears(backbone)
        if str(place) in adapter.places
    }
    every = [path for path, _ in model.named_modules()]
    common = {
        "fan_in_fan_out": any(
            isinstance(linear.module_at(backbone, place), Conv1D) for place, _ in acting.values()
        ),
        "target_modules": _shortest(list(acting), every),
    }
    if is_scale:
        factors = {f"{path}.ia3_l": _factors(module, name) for path, (_, module) in acting.items()}
        return Written(common | {"peft_type": "IA3", "feedforward_modules": []}, factors)
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


_WHOLE = Lora(attn_matrices=["q", "k", "v"], intermediate_lora=True, output_lora=True)


def _require_plain(config: Options, folder: Path) -> None:
    """Refuse options that change what is computed, those that nobody knows yet among them."""
    if config.get("bias", "none") != "none":
        raise _refusal(folder, "bias", config["bias"])
    for option, value in config.items():
        if value and option not in _HARMLESS:
            raise _refusal(folder, option, value)


def _refusal(folder: Path, option: str, value: object) -> CompositionError:
    return CompositionError(
        f"'{folder}' has the option {option}={value!r} of PEFT, which none of our methods has.",
        hint="merge it with PEFT, or train it without",
    )


def _sorted(
    pattern: re.Pattern[str], tensors: Tensors, backbone: Backbone, folder: Path
) -> tuple[list[_Parts], dict[str, Tensor]]:
    """The tensors of each place in the backbone's order, and all others."""
    by_path: dict[str, dict[str, Tensor]] = {}
    rest: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        match = pattern.match(key)
        if match:
            by_path.setdefault(match["path"], {})[match["part"]] = tensor
        else:
            rest[key] = tensor
    places = {_path(place): place for place in linear.linears(backbone)}
    for path in by_path:
        if path not in places:
            raise CompositionError(
                f"'{folder}' acts at {path!r}, where adapters on {backbone.name!r} cannot.",
                hint="they act at " + ", ".join(sorted({p.spot.path for p in places.values()})),  # type: ignore[attr-defined]
            )
    if not by_path:
        raise IncompatibleAdapter(folder, unexpected=sorted(rest), missing=["any tensor of it"])
    parts = [_Parts(place, by_path[p], p) for p, place in places.items() if p in by_path]
    return parts, rest


def _require_complete(parts: Sequence[_Parts], needed: set[str], folder: Path) -> None:
    missing = [f"{p.path} ({part})" for p in parts for part in sorted(needed - set(p.tensors))]
    surplus = [f"{p.path} ({part})" for p in parts for part in sorted(set(p.tensors) - needed)]
    if missing or surplus:
        raise IncompatibleAdapter(folder, missing=missing, unexpected=surplus)


def _require_shape(folder: Path, name: str, tensor: Tensor, expected: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != expected:
        raise WrongShape(folder, name, tensor.shape, expected)


def _scale(config: Options, part: _Parts) -> float:
    rank = len(part.tensors["A"])
    alpha = _matching(config.get("alpha_pattern") or {}, part.path, config.get("lora_alpha", 8))
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _matching(patterns: Mapping[str, Any], path: str, usual: Any) -> Any:  # noqa: ANN401
    """The value of the first pattern that fits the end of a path."""
    fits = (value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", path))
    return next(fits, usual)


def _sites(parts: Sequence[_Parts], backbone: Backbone) -> dict[str, Any]:
    """The options of a config that puts adapters at these places, at least."""
    letters, names = set(), set()
    for part in parts:
        spot = part.place.spot
        merged = spot.merged if isinstance(spot, Projection) else ()
        letter = _LETTERS.get(spot.name.removeprefix("cross_"))
        letters |= set(merged) | ({letter} if letter else set())
        names.add(spot.name)
    layers = {part.place.layer for part in parts}
    return {
        "selfattn_lora": bool(letters),
        "attn_matrices": [letter for letter in "qkv" if letter in letters] or ["q", "v"],
        "intermediate_lora": "intermediate" in names,
        "output_lora": "output" in names,
        "leave_out": [n for n in range(len(backbone.layers)) if n not in layers],
    }


def _low_rank(
    part: _Parts, rank: int, factor: float, backbone: Backbone, folder: Path
) -> dict[str, Tensor]:
    """The maps under our names: of the largest rank, with zeros, and for each block of a layer that makes several."""
    target = linear.target_of(_WHOLE, backbone, part.place)
    down, up = part.tensors["A"], part.tensors["B"]
    own = len(down)
    _require_shape(folder, f"{part.path}.lora_A", down, (own, target.features_in))
    _require_shape(folder, f"{part.path}.lora_B", up, (target.features_out, own))
    if own < rank:
        down = torch.cat([down, down.new_zeros(rank - own, target.features_in)])
        up = torch.cat([up, up.new_zeros(target.features_out, rank - own)], dim=1)
    named = {
        "lora_A": torch.cat([down] * target.blocks) if target.blocks > 1 else down,
        "lora_B": up if factor == 1.0 else up * factor,
    }
    if "magnitude_vector" in part.tensors:
        magnitude = part.tensors["magnitude_vector"].reshape(-1, 1)
        _require_shape(
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


def _factors(module: nn.Module, name: str) -> Tensor:
    if not isinstance(module, Ia3Adapter):
        raise CompositionError(
            f"The adapter {name!r} has more than (IA)3, which PEFT cannot express."
        )
    return module.factor().detach().reshape(-1, 1)


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


def _shortest(wanted: Sequence[str], every: Sequence[str]) -> list[str]:
    """The shortest ends of paths by which PEFT finds these modules and no others."""
    others = [f".{path}" for path in every if path not in set(wanted)]
    ends = (
        next((e for e in _ends(path) if not any(o.endswith(f".{e}") for o in others)), path)
        for path in wanted
    )
    return sorted(set(ends))


def _ends(path: str) -> Iterator[str]:
    """The ends of a path, from its last word to the whole."""
    words = path.split(".")
    for count in range(1, len(words) + 1):
        yield ".".join(words[-count:])


def _as_pattern(path: str) -> str:
    return re.escape(path)


def _path(place: Place) -> str:
    spot = place.spot
    own = spot.path if isinstance(spot, Projection) else ""
    return f"{place.root}.{own}"
