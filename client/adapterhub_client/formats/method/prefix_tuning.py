"""Prefix tuning: trained keys and values before those of the input."""

from typing import Any

import msgspec

from adapterhub_client.formats.method.values import LayerNumbers, Rate, Size


class PrefixTuning(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="architecture", tag="prefix_tuning"
):
    """Keys and values put before the input's own, in every attention.

    Source: Li & Liang 2021; gates: Mao et al. 2022 (UniPELT).
    """

    encoder_prefix: bool = True
    cross_prefix: bool = True
    leave_out: LayerNumbers = []
    flat: bool = False
    """train keys and values themselves, instead of what a small network makes them of"""
    prefix_length: Size = 30
    bottleneck_size: Size = 512
    non_linearity: str = "tanh"
    dropout: Rate = 0.0
    use_gating: bool = False
    shared_gating: bool = True
    """one gate for keys and values"""
    init_weights_seed: int | None = None
    counts_positions: bool = False
    """PEFT's prefix, from which the positions of the input count on; a key of ours, written only where it is set"""

    def to_dict(self) -> dict[str, Any]:
        """The `config` object of an `adapter_config.json`."""
        written = dict(msgspec.to_builtins(self))
        if not self.counts_positions:
            del written["counts_positions"]
        return written


PREFIX_TUNING = PrefixTuning()

PRESETS = {
    "prefix_tuning": PREFIX_TUNING,
    "prefix_tuning_flat": PrefixTuning(flat=True),
}
