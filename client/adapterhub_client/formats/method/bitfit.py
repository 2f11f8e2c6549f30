"""BitFit: train the biases the model has. The reference library does not know it."""

from typing import Any

import msgspec

from adapterhub_client.errors import CompositionError
from adapterhub_client.formats.method.values import LayerNumbers


class BitFit(msgspec.Struct, frozen=True, kw_only=True, tag_field="architecture", tag="bitfit"):
    """Biases of its own for an adapter, instead of the model's; the weights stay as they are.

    Raises:
        CompositionError: No bias at all is asked for.

    Source: Ben Zaken et al. 2022.
    """

    attention: bool = True
    feed_forward: bool = True
    layer_norm: bool = True
    leave_out: LayerNumbers = []

    def __post_init__(self) -> None:
        if not (self.attention or self.feed_forward or self.layer_norm):
            raise CompositionError(
                "A BitFit adapter without any bias would change nothing.",
                hint="keep one of attention, feed_forward and layer_norm",
            )

    def to_dict(self) -> dict[str, Any]:
        """The `config` object of an `adapter_config.json`."""
        return dict(msgspec.to_builtins(self))


PRESETS = {"bitfit": BitFit()}
