"""What PEFT's adapters of linear layers have in common: their options, and the modules they act at."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from adapterhub_client.compose.errors import IncompatibleAdapter, WrongShape
from adapterhub_client.compose.methods import linear
from adapterhub_client.compose.sites.backbone import Backbone, Place
from adapterhub_client.compose.sites.spots import Projection
from adapterhub_client.errors import CompositionError
from adapterhub_client.formats.method import Lora, MethodConfig

Options = Mapping[str, Any]
Tensors = Mapping[str, Tensor]

WHOLE = Lora(attn_matrices=["q", "k", "v"], intermediate_lora=True, output_lora=True)
# What does not change what a trained adapter computes; every other option has to be off.
_HARMLESS = {
    "alpha_pattern", "auto_mapping", "base_model_name_or_path", "bias", "corda_config", "ensure_weight_tying",
    "eva_config", "exclude_modules", "fan_in_fan_out", "feedforward_modules", "inference_mode",
    "init_ia3_weights", "init_lora_weights", "layers_pattern", "layers_to_transform", "loftq_config",
    "lora_alpha", "lora_dropout", "lora_ga_config", "megatron_config", "megatron_core", "modules_to_save",
    "peft_type", "peft_version", "qalora_group_size", "r", "rank_pattern", "revision", "runtime_config",
    "target_modules", "task_type", "use_dora", "use_rslora",
}  # fmt: skip
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


class Parts(NamedTuple):
    """The tensors at one place, by the ends of their names, and its path in the file."""

    place: Place
    tensors: dict[str, Tensor]
    path: str


def require_plain(config: Options, folder: Path) -> None:
    """Refuse options that change what is computed, those that nobody knows yet among them."""
    if config.get("bias", "none") != "none":
        raise refusal(folder, "bias", config["bias"])
    for option, value in config.items():
        if value and option not in _HARMLESS:
            raise refusal(folder, option, value)


def refusal(folder: Path, option: str, value: object) -> CompositionError:
    """What says that an option cannot be read."""
    return CompositionError(
        f"'{folder}' has the option {option}={value!r} of PEFT, which none of our methods has.",
        hint="merge it with PEFT, or train it without",
    )


def sorted_by_place(
    pattern: re.Pattern[str], tensors: Tensors, backbone: Backbone, folder: Path
) -> tuple[list[Parts], dict[str, Tensor]]:
    """The tensors of each place in the backbone's order, and all others."""
    by_path: dict[str, dict[str, Tensor]] = {}
    rest: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        match = pattern.match(key)
        if match:
            by_path.setdefault(match["path"], {})[match["part"]] = tensor
        else:
            rest[key] = tensor
    places = {path_of(place): place for place in linear.linears(backbone)}
    for path in by_path:
        if path not in places:
            raise CompositionError(
                f"'{folder}' acts at {path!r}, where adapters on {backbone.name!r} cannot.",
                hint="they act at " + ", ".join(sorted({p.spot.path for p in places.values()})),  # type: ignore[attr-defined]
            )
    if not by_path:
        raise IncompatibleAdapter(folder, unexpected=sorted(rest), missing=["any tensor of it"])
    parts = [Parts(place, by_path[p], p) for p, place in places.items() if p in by_path]
    return parts, rest


def require_complete(parts: Sequence[Parts], needed: set[str], folder: Path) -> None:
    """Refuse places that have other tensors than these.

    Raises:
        IncompatibleAdapter: Names what is missing, and what is too much.
    """
    missing = [f"{p.path} ({part})" for p in parts for part in sorted(needed - set(p.tensors))]
    surplus = [f"{p.path} ({part})" for p in parts for part in sorted(set(p.tensors) - needed)]
    if missing or surplus:
        raise IncompatibleAdapter(folder, missing=missing, unexpected=surplus)


def require_shape(folder: Path, name: str, tensor: Tensor, expected: tuple[int, ...]) -> None:
    """Refuse a tensor of another shape.

    Raises:
        WrongShape: Names both.
    """
    if tuple(tensor.shape) != expected:
        raise WrongShape(folder, name, tensor.shape, expected)


def sites(parts: Sequence[Parts], backbone: Backbone) -> dict[str, Any]:
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


def shortest(wanted: Sequence[str], every: Sequence[str], *, by_word: bool = True) -> list[str]:
    """The shortest ends of paths by which PEFT finds these modules and no others, comparing whole words or not."""
    others = [f".{path}" for path in every if path not in set(wanted)]
    dot = "." if by_word else ""
    ends = (
        next((e for e in _ends(path) if not any(o.endswith(dot + e) for o in others)), path)
        for path in wanted
    )
    return sorted(set(ends))


def path_of(place: Place) -> str:
    """The module of a place inside the backbone."""
    spot = place.spot
    own = spot.path if isinstance(spot, Projection) else ""
    return f"{place.root}.{own}"


def _ends(path: str) -> Iterator[str]:
    """The ends of a path, from its last word to the whole."""
    words = path.split(".")
    for count in range(1, len(words) + 1):
        yield ".".join(words[-count:])
