"""ReFT: interventions on the hidden states of a few positions."""

from typing import Any, Literal

import msgspec

from adapterhub_client.formats.method.values import Count, LayerNumbers, Rate, Size


class Reft(msgspec.Struct, frozen=True, kw_only=True, tag_field="architecture", tag="reft"):
    """Change hidden states in a subspace of low rank, at the first and last positions, after whole layers.

    The reference library never writes `subtract_projection`, though it reads it, so that its own DiReFT comes back as
    NoReFT. We write it where it is false; the config id does not see it and is the reference's for both.

    Source: Wu et al. 2024.
    """

    layers: Literal["all"] | LayerNumbers
    prefix_positions: Count
    suffix_positions: Count
    r: Size
    orthogonality: bool
    tied_weights: bool = False
    """one intervention for first and last positions"""
    dropout: Rate = 0.05
    non_linearity: str | None = None
    dtype: str | None = None
    output_reft: bool = True
    init_weights_seed: int | None = None
    subtract_projection: bool = True
    """change only what differs from the projection of the hidden state; false for DiReFT"""

    def to_dict(self) -> dict[str, Any]:
        """The `config` object of an `adapter_config.json`."""
        written = dict(msgspec.to_builtins(self))
        if self.subtract_projection:
            del written["subtract_projection"]
        return written

    def adapts(self, layer: int) -> bool:
        """Whether there is an intervention after this layer."""
        return self.layers == "all" or layer in self.layers


LOREFT = Reft(layers="all", prefix_positions=3, suffix_positions=0, r=1, orthogonality=True)
NOREFT = msgspec.structs.replace(LOREFT, orthogonality=False)

PRESETS = {
    "loreft": LOREFT,
    "noreft": NOREFT,
    "direft": msgspec.structs.replace(NOREFT, subtract_projection=False),
}
