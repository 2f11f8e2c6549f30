"""AdapterFusion: the mixture of several adapters, its config and presets."""

from collections.abc import Mapping
from typing import Any

import msgspec

from adapterhub_client.errors import CompositionError


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
