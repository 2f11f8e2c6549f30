"""Bottleneck adapters: sequential and parallel, Compacter, AdapterPlus, and the invertible ones of MAD-X."""

from typing import Any, Literal

import msgspec

from adapterhub_client.errors import CompositionError
from adapterhub_client.formats.method.values import Decimal, Factor, LayerNumbers, Rate, Size


class Bottleneck(msgspec.Struct, frozen=True, kw_only=True):
    """Project down, activate, project up; where that happens, and how it meets the model's own residuals.

    `reduction_factor` divides the hidden size, for all layers or by layer number with a `default`. The three fields
    without a default are what tells the classic variants apart.

    Source: Houlsby et al. 2019; Pfeiffer et al. 2020; He et al. 2021 (parallel and scaled); Karimi Mahabadi et al.
    2021 (Compacter); Steitz & Roth 2024 (AdapterPlus).
    """

    mh_adapter: bool
    """an adapter after the attention block"""
    output_adapter: bool
    """an adapter after the feed-forward block"""
    reduction_factor: Factor | dict[str, Factor]
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
    scaling: Decimal | str = 1.0
    """a number, `learned` (one parameter) or `channel` (one per feature)"""
    use_gating: bool = False
    residual_before_ln: bool | Literal["post_add"] = True
    adapter_residual_before_ln: bool = False
    inv_adapter: Literal["nice", "glow"] | None = None
    inv_adapter_reduction_factor: Factor | None = None
    cross_adapter: bool = False
    leave_out: LayerNumbers = []
    dropout: Rate = 0.0
    phm_layer: bool = False
    phm_dim: Size = 4
    factorized_phm_W: bool = True  # noqa: N815 - the name in the file
    shared_W_phm: bool = False  # noqa: N815 - the name in the file
    shared_phm_rule: bool = True
    factorized_phm_rule: bool = False
    phm_c_init: str = "normal"
    phm_init_range: Decimal = 0.0001
    learn_phm: bool = True
    hypercomplex_nonlinearity: str = "glorot-uniform"
    phm_rank: Size = 1
    phm_bias: bool = True
    stochastic_depth: Rate = 0.0

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
# The reference library has this one as a class, without a name for config strings.
ADAPTER_PLUS = Bottleneck(
    mh_adapter=False,
    output_adapter=True,
    reduction_factor=96,
    non_linearity="gelu",
    original_ln_before=True,
    original_ln_after=False,
    residual_before_ln=False,
    init_weights="houlsby",
    scaling="channel",
    stochastic_depth=0.1,
)

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
    "adapter_plus": ADAPTER_PLUS,
}
