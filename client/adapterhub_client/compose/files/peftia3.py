"""(IA)3 as PEFT writes it: factors of what modules put out, and of what goes into those of the feed-forward block."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from adapterhub_client.compose.files.peftplaces import (
    WHOLE,
    Found,
    Options,
    Parts,
    Tensors,
    Written,
    path_of,
    require_complete,
    require_plain,
    require_shape,
    shortest,
    sites,
    sorted_by_place,
)
from adapterhub_client.compose.methods import linear
from adapterhub_client.compose.methods.ia3 import Ia3Adapter
from adapterhub_client.compose.sites.backbone import Backbone, Place
from adapterhub_client.compose.sites.spots import Projection
from adapterhub_client.errors import CompositionError
from adapterhub_client.formats.method import Lora

_IA3_KEY = re.compile(r"(?P<path>.+)\.(?P<part>ia3_l)$")
_FEED_FORWARD: tuple[Literal["intermediate", "output"], ...] = ("intermediate", "output")
# What scales what comes out of an attention, feature by feature, can as well scale the values that it mixes.
_BEHIND_VALUES = {
    "attention.self.value": "attention.output.dense",
    "attention.self.value_proj": "attention.output.dense",
    "attention.v_lin": "attention.out_lin",
    "attention.value": "attention.dense",
    "self_attn.v_proj": "self_attn.o_proj",
}


def read_ia3(config: Options, tensors: Tensors, backbone: Backbone, folder: Path) -> Found:
    """(IA)3 at what modules put out, and at what goes into those of the feed-forward block.

    What scales the mixture of values that an attention makes is moved into the values, where it is the same.

    Raises:
        CompositionError: It acts at a module, or at the input of one, where our method does not.
        IncompatibleAdapter: Tensors are missing.
    """
    require_plain(config, folder)
    tensors = _moved_into_values(tensors, backbone)
    parts, rest = sorted_by_place(_IA3_KEY, tensors, backbone, folder)
    require_complete(parts, {"ia3_l"}, folder)
    into = {p.place for p in parts if _is_of_input(p, backbone)}
    inputs = _scaled_inputs(parts, into, folder)
    own = {}
    for part in parts:
        factors = part.tensors["ia3_l"]
        if part.place in into:
            factors = factors.reshape(-1, 1)
        else:
            features = linear.target_of(WHOLE, backbone, part.place).features_out
            require_shape(folder, part.path + ".ia3_l", factors, (features, 1))
        own[str(part.place)] = {"lora_B": factors}
    chosen = Lora(
        r=1,
        alpha=1,
        composition_mode="scale",
        init_weights="ia3",
        scaled_inputs=inputs,
        **sites(parts, backbone),
    )
    for place in linear.places(chosen, backbone):
        if str(place) not in own:
            features = linear.target_of(chosen, backbone, place).own
            own[str(place)] = {"lora_B": torch.ones(features, 1)}
    return Found(chosen, own, rest)


def write_ia3(
    name: str, modules: Mapping[str, nn.Module], every: Sequence[str], common: Mapping[str, Any]
) -> Written:
    """Factors in PEFT's words; by the paths of the modules they act at, out of ``every`` one.

    Raises:
        CompositionError: A module has more than (IA)3.
    """
    factors = {path: _ia3(module, name) for path, module in modules.items()}
    into = [path for path, module in factors.items() if module.target.is_input]
    ends = shortest(into, every, by_word=False)
    others = shortest([path for path in factors if path not in into], every)
    options = {
        "peft_type": "IA3",
        "target_modules": sorted({*ends, *others}),
        "feedforward_modules": ends,
    }
    tensors = {f"{path}.ia3_l": _factors(module) for path, module in factors.items()}
    return Written({**common, **options}, tensors)


def _moved_into_values(tensors: Tensors, backbone: Backbone) -> Tensors:
    """The factors of inputs of attentions' last layers as factors of the values, where these are as many."""
    moved = dict(tensors)
    for place in linear.linears(backbone):
        spot = place.spot
        behind = _BEHIND_VALUES.get(spot.path) if isinstance(spot, Projection) else None
        key = f"{place.root}.{behind}.ia3_l"
        features = linear.target_of(WHOLE, backbone, place).features_out
        if key in moved and moved[key].shape == (1, features):
            value = f"{path_of(place)}.ia3_l"
            factors = moved.pop(key).reshape(-1, 1)
            moved[value] = factors if value not in moved else factors * moved[value]
    return moved


def _is_of_input(part: Parts, backbone: Backbone) -> bool:
    """Whether factors are of what goes into a layer, which the shape says."""
    features = linear.target_of(WHOLE, backbone, part.place).features_in
    return part.tensors["ia3_l"].shape == (1, features)


def _scaled_inputs(
    parts: Sequence[Parts], into: set[Place], folder: Path
) -> list[Literal["intermediate", "output"]]:
    """The names of the layers whose input is scaled.

    Raises:
        CompositionError: They are not of the feed-forward block, or some of a name are and others are not.
    """
    names = {place.spot.name for place in into}
    for part in parts:
        name = part.place.spot.name
        if name in names and (name not in _FEED_FORWARD or part.place not in into):
            raise CompositionError(
                f"'{folder}' scales what goes into some modules such as {part.path!r} (feedforward_modules), "
                "and not into all of them, or not in the feed-forward block.",
                hint="train it with the modules of the feed-forward block as feedforward_modules, in all layers",
            )
    return [name for name in _FEED_FORWARD if name in names]


def _ia3(module: nn.Module, name: str) -> Ia3Adapter:
    if not isinstance(module, Ia3Adapter):
        raise CompositionError(
            f"The adapter {name!r} has more than (IA)3, which PEFT cannot express."
        )
    return module


def _factors(module: Ia3Adapter) -> Tensor:
    return module.factor().detach().reshape((1, -1) if module.target.is_input else (-1, 1))
