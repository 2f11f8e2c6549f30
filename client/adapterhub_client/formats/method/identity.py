"""How a config is told apart and named: its id, and the preset it is nearest to."""

import hashlib
import json
from collections.abc import Callable, Hashable, Mapping
from typing import Any

from adapterhub_client.formats.method.presets import PRESETS

# Fields that came with version 3 of the reference library; left out of the hash so that older ids stay valid.
_UNHASHED = {
    "phm_layer": True,
    "phm_dim": 4,
    "factorized_phm_W": True,
    "shared_W_phm": False,
    "shared_phm_rule": True,
    "factorized_phm_rule": False,
    "phm_c_init": "normal",
    "phm_init_range": 0.0001,
    "learn_phm": True,
    "hypercomplex_nonlinearity": "glorot-uniform",
    "phm_rank": 1,
    "phm_bias": True,
    "init_weights": "bert",
    "scaling": 1.0,
}


def config_id(config: Mapping[str, Any]) -> str:
    """The reference hub's hash of a config: 16 hex digits, the same for the same method since version 1.

    Whole and decimal numbers differ: a reduction factor of 2 and one of 2.0 have different ids. The reference library
    has two ids for a union, one of its own object and one of what it writes to a file; ours is the latter.
    """
    telling = _without_falsy(config)
    for name, default in _UNHASHED.items():
        if name in telling and telling[name] == default:
            del telling[name]
    text = json.dumps(telling, sort_keys=True)
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()[:16]


def method_name(config: Mapping[str, Any]) -> str:
    """The preset a config is nearest to, such as ``seq_bn``.

    A union that is no preset is called after its parts, such as ``lora|seq_bn``; a method that we do not know after
    its architecture.
    """
    architecture = config.get("architecture")
    if architecture == "union":
        return _union_name(config)
    if not isinstance(architecture, str | None) or architecture not in _TRAITS:
        return str(architecture) or "unknown"
    traits_of = _TRAITS[architecture]
    traits = traits_of(config)

    def differences(name: str) -> int:
        return sum(a != b for a, b in zip(traits, traits_of(_CONFIGS[name]), strict=True))

    return min(
        (n for n, c in _CONFIGS.items() if c.get("architecture") == architecture), key=differences
    )


def _union_name(config: Mapping[str, Any]) -> str:
    parts = config.get("configs")
    if not isinstance(parts, list) or not all(_is_single(part) for part in parts):
        return "union"
    traits = _union_traits(parts)
    for name in ("mam", "unipelt"):
        if traits == _union_traits(_CONFIGS[name]["configs"]):
            return name
    return "|".join(dict.fromkeys(method_name(part) for part in parts)) or "union"


def _is_single(part: object) -> bool:
    return isinstance(part, Mapping) and part.get("architecture") != "union"


# What tells the presets apart; a width or an activation does not make another method.


def _bottleneck_traits(config: Mapping[str, Any]) -> tuple[Hashable, ...]:
    scaling = config.get("scaling")
    return (
        bool(config.get("mh_adapter")),
        bool(config.get("output_adapter")),
        bool(config.get("original_ln_before")),
        bool(config.get("original_ln_after", True)),
        bool(config.get("residual_before_ln", True)),
        bool(config.get("is_parallel")),
        bool(config.get("inv_adapter")),
        bool(config.get("phm_layer")),
        scaling if isinstance(scaling, str) else None,
    )


def _lora_traits(config: Mapping[str, Any]) -> tuple[Hashable, ...]:
    is_vera = config.get("vera_d") is not None or config.get("vera_b") is not None
    return config.get("composition_mode") == "scale", is_vera, bool(config.get("use_dora"))


def _reft_traits(config: Mapping[str, Any]) -> tuple[Hashable, ...]:
    return bool(config.get("orthogonality")), bool(config.get("subtract_projection", True))


def _union_traits(parts: list[Mapping[str, Any]]) -> list[tuple[str, bool]]:
    return sorted((method_name(part), bool(part.get("use_gating"))) for part in parts)


_TRAITS: dict[str | None, Callable[[Mapping[str, Any]], tuple[Hashable, ...]]] = {
    None: _bottleneck_traits,
    "lora": _lora_traits,
    "mtl_lora": lambda _config: (),
    "prefix_tuning": lambda config: (bool(config.get("flat")),),
    "prompt_tuning": lambda _config: (),
    "reft": _reft_traits,
    "bitfit": lambda _config: (),
}
_CONFIGS = {name: preset.to_dict() for name, preset in PRESETS.items()}


def _without_falsy(config: Mapping[str, Any]) -> dict[str, Any]:
    kept = {
        key: _without_falsy(value) if isinstance(value, Mapping) else value
        for key, value in config.items()
    }
    return {key: value for key, value in kept.items() if value}
