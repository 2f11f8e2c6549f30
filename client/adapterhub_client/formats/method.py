"""Method configs without torch: what an adapter is made of, its presets, its config string and its config id.

The field names are those of the `config` object in an `adapter_config.json`, so that a config read is a config
written. Only bottleneck adapters have a struct so far; the configs of other methods stay mappings.
"""

import ast
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from adapterhub_client.errors import CompositionError, UsageError

ReductionFactor = int | float | dict[str, int | float]


class Bottleneck(msgspec.Struct, frozen=True, kw_only=True):
    """Project down, activate, project up; where that happens, and how it meets the model's own residuals.

    `reduction_factor` divides the hidden size, for all layers or by layer number with a `default`. The three fields
    without a default are what tells the classic variants apart.

    Source: Houlsby et al. 2019; Pfeiffer et al. 2020; He et al. 2021 (parallel and scaled).
    """

    mh_adapter: bool
    """an adapter after the attention block"""
    output_adapter: bool
    """an adapter after the feed-forward block"""
    reduction_factor: ReductionFactor
    non_linearity: str
    original_ln_before: bool = False
    """feed it what the model's LayerNorm makes of the sum, instead of the block's own output"""
    original_ln_after: bool = True
    """add the model's residual and apply its LayerNorm afterwards"""
    ln_before: bool = False
    ln_after: bool = False
    init_weights: str = "bert"
    init_weights_seed: int | None = None
    is_parallel: bool = False
    scaling: float | str = 1.0
    """a number, `learned` (one parameter) or `channel` (one per feature)"""
    use_gating: bool = False
    residual_before_ln: bool | Literal["post_add"] = True
    adapter_residual_before_ln: bool = False
    inv_adapter: str | None = None
    inv_adapter_reduction_factor: int | float | None = None
    cross_adapter: bool = False
    leave_out: list[int] = []
    dropout: float = 0.0
    phm_layer: bool = False
    phm_dim: int = 4
    factorized_phm_W: bool = True  # noqa: N815 - the name in the file
    shared_W_phm: bool = False  # noqa: N815 - the name in the file
    shared_phm_rule: bool = True
    factorized_phm_rule: bool = False
    phm_c_init: str = "normal"
    phm_init_range: float = 0.0001
    learn_phm: bool = True
    hypercomplex_nonlinearity: str = "glorot-uniform"
    phm_rank: int = 1
    phm_bias: bool = True
    stochastic_depth: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """The `config` object of an `adapter_config.json`."""
        return dict(msgspec.to_builtins(self))

    def width(self, hidden_size: int, layer: int) -> int:
        """The features of the bottleneck in one layer.

        Raises:
            CompositionError: The map of reduction factors has neither this layer nor a default.
        """
        factor = self.reduction_factor
        if isinstance(factor, dict):
            if str(layer) not in factor and "default" not in factor:
                raise CompositionError(
                    f"The reduction factors {factor!r} name neither layer {layer} nor a default.",
                    hint='give a default, such as {"1": 8, "default": 16}',
                )
            factor = factor.get(str(layer), factor.get("default", 1))
        return max(1, int(hidden_size // factor))


class Fusion(msgspec.Struct, frozen=True, kw_only=True):
    """AdapterFusion: which projections it has and where query and residual come from.

    `regularization` is written and never read, as in the reference library.

    Source: Pfeiffer et al. 2021, section 3.
    """

    key: bool = True
    query: bool = True
    value: bool = True
    query_before_ln: bool = False
    """query with the block's own output, instead of what the fused adapters read"""
    regularization: bool = True
    residual_before: bool = False
    """add the residual to every value, instead of to their mixture"""
    temperature: bool = False
    """divide the scores by a temperature that falls from 50 to 1"""
    value_before_softmax: bool = True
    value_initialized: bool | str = True
    """start the value map near the identity"""
    dropout_prob: float | None = None
    """on the scores; None takes the model's own for attention"""

    def to_dict(self) -> dict[str, Any]:
        """The `config` object of an `adapter_fusion_config.json`."""
        return dict(msgspec.to_builtins(self))


FUSIONS = {
    "dynamic": Fusion(),
    "static": Fusion(value=False, regularization=False, value_initialized=False),
}

SEQ_BN = Bottleneck(
    mh_adapter=False,
    output_adapter=True,
    reduction_factor=16,
    non_linearity="relu",
    original_ln_before=True,
)
DOUBLE_SEQ_BN = Bottleneck(
    mh_adapter=True, output_adapter=True, reduction_factor=16, non_linearity="swish"
)
PAR_BN = Bottleneck(
    mh_adapter=False,
    output_adapter=True,
    reduction_factor=2,
    non_linearity="relu",
    init_weights="mam_adapter",
    is_parallel=True,
    scaling=4.0,
)
SCALED_PAR_BN = msgspec.structs.replace(PAR_BN, scaling="learned")

PRESETS: dict[str, Bottleneck] = {
    "seq_bn": SEQ_BN,
    "double_seq_bn": DOUBLE_SEQ_BN,
    "par_bn": PAR_BN,
    "scaled_par_bn": SCALED_PAR_BN,
    "seq_bn_inv": msgspec.structs.replace(
        SEQ_BN, inv_adapter="nice", inv_adapter_reduction_factor=2
    ),
    "double_seq_bn_inv": msgspec.structs.replace(
        DOUBLE_SEQ_BN, inv_adapter="nice", inv_adapter_reduction_factor=2
    ),
    "compacter++": msgspec.structs.replace(
        SEQ_BN, phm_layer=True, reduction_factor=32, non_linearity="gelu"
    ),
    "compacter": msgspec.structs.replace(
        DOUBLE_SEQ_BN, phm_layer=True, reduction_factor=32, non_linearity="gelu"
    ),
}
DEPRECATED = {
    "pfeiffer": "seq_bn",
    "houlsby": "double_seq_bn",
    "parallel": "par_bn",
    "scaled_parallel": "scaled_par_bn",
    "pfeiffer+inv": "seq_bn_inv",
    "houlsby+inv": "double_seq_bn_inv",
}

_PART = re.compile(r"(?P<name>[^\[\]|\n]+)(?:\[(?P<options>.*)\])?")
_OPTION = re.compile(r"(\w+)=")

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
# What tells the presets apart; a width or an activation does not make another method.
_TELLING = (
    "mh_adapter",
    "output_adapter",
    "original_ln_before",
    "is_parallel",
    "inv_adapter",
    "phm_layer",
)


def parse(text: str) -> Bottleneck:
    """Read a config string such as ``seq_bn[reduction_factor=8]``.

    Raises:
        CompositionError: The string is malformed, names an unknown method, or several with ``|``.
    """
    parts = [_parse_part(part) for part in text.split("|")]
    if len(parts) > 1:
        raise CompositionError(
            f"{text!r} unites {len(parts)} methods; unions are not supported yet.",
            hint="give one method",
        )
    return parts[0]


def read(config: Mapping[str, Any]) -> Bottleneck:
    """Read the `config` object of an `adapter_config.json`; keys we do not know are dropped.

    Raises:
        CompositionError: It is another method, or a value has a wrong type.
    """
    architecture = config.get("architecture")
    if architecture is not None:
        raise CompositionError(f"The method {architecture!r} is not supported yet.")
    known = {key: value for key, value in config.items() if key in Bottleneck.__struct_fields__}
    if type(known.get("scaling")) is int:
        known["scaling"] = float(known["scaling"])
    try:
        return msgspec.convert(known, Bottleneck)
    except msgspec.ValidationError as error:
        raise CompositionError(f"The method config is malformed: {error}.") from error


def read_fusion(config: Mapping[str, Any] | str) -> Fusion:
    """Read the `config` object of an `adapter_fusion_config.json`, or a preset's name.

    Raises:
        CompositionError: No preset has the name, or a value has a wrong type.
    """
    if isinstance(config, str):
        if config not in FUSIONS:
            raise CompositionError(
                f"There is no fusion named {config!r}.", hint="known: " + ", ".join(FUSIONS)
            )
        return FUSIONS[config]
    try:
        return msgspec.convert(dict(config), Fusion)
    except msgspec.ValidationError as error:
        raise CompositionError(f"The fusion config is malformed: {error}.") from error


def config_id(config: Mapping[str, Any]) -> str:
    """The reference hub's hash of a config: 16 hex digits, the same for the same method since version 1.

    Whole and decimal numbers differ: a reduction factor of 2 and one of 2.0 have different ids.
    """
    telling = _without_falsy(config)
    for name, default in _UNHASHED.items():
        if name in telling and telling[name] == default:
            del telling[name]
    text = json.dumps(telling, sort_keys=True)
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()[:16]


def method_name(config: Mapping[str, Any]) -> str:
    """The preset a config is nearest to, such as ``seq_bn``; for other methods the name of their architecture."""
    architecture = config.get("architecture")
    if architecture == "lora" and config.get("composition_mode") == "scale":
        return "ia3"
    if architecture is not None:
        return str(architecture)

    def differences(name: str) -> tuple[int, bool]:
        preset = PRESETS[name].to_dict()
        wrong = sum(bool(config.get(key)) != bool(preset[key]) for key in _TELLING)
        return wrong, (config.get("scaling") == "learned") != (preset["scaling"] == "learned")

    return min(PRESETS, key=differences)


def _parse_part(text: str) -> Bottleneck:
    match = _PART.fullmatch(text.strip())
    if not match:
        raise CompositionError(
            f"{text!r} is no method string.", hint="allowed: NAME or NAME[option=value, ...]"
        )
    name = DEPRECATED.get(match["name"], match["name"])
    if name not in PRESETS:
        raise CompositionError(
            f"There is no method named {match['name']!r}.", hint="known: " + ", ".join(PRESETS)
        )
    return _with_options(PRESETS[name], match["options"] or "", text)


def _with_options(preset: Bottleneck, options: str, text: str) -> Bottleneck:
    try:
        given = ast.literal_eval("{" + _OPTION.sub(r"'\1':", options) + "}")
    except (SyntaxError, ValueError) as error:
        raise UsageError(
            f"The options of {text!r} cannot be read.",
            hint="allowed: option=value, ... with Python literals as values",
        ) from error
    unknown = sorted(set(given) - set(Bottleneck.__struct_fields__))
    if unknown:
        raise CompositionError(f"{text!r} has no option named {unknown[0]!r}.")
    return read(preset.to_dict() | given)


def _without_falsy(config: Mapping[str, Any]) -> dict[str, Any]:
    kept = {
        key: _without_falsy(value) if isinstance(value, Mapping) else value
        for key, value in config.items()
    }
    return {key: value for key, value in kept.items() if value}
