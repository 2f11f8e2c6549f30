"""Several methods in one adapter, under one name: MAM and UniPELT."""

from itertools import combinations
from typing import Any

import msgspec

from adapterhub_client.errors import CompositionError
from adapterhub_client.formats.method.bitfit import BitFit
from adapterhub_client.formats.method.bottleneck import PAR_BN, SEQ_BN, Bottleneck
from adapterhub_client.formats.method.lora import Lora, MtlLora
from adapterhub_client.formats.method.prefix_tuning import PrefixTuning
from adapterhub_client.formats.method.prompt_tuning import PromptTuning
from adapterhub_client.formats.method.reft import Reft

SingleMethod = Bottleneck | Lora | MtlLora | PrefixTuning | PromptTuning | Reft | BitFit


class Union(msgspec.Struct, frozen=True, kw_only=True, tag_field="architecture", tag="union"):
    """Methods which are trained, saved and activated as one.

    Raises:
        CompositionError: There are none, one is a union itself, or two would stand at the same places.

    Source: He et al. 2021 (MAM); Mao et al. 2022 (UniPELT).
    """

    configs: list[SingleMethod]

    def __post_init__(self) -> None:
        if not self.configs:
            raise CompositionError("A union needs at least one method.")
        for config in self.configs:
            if isinstance(config, Union):
                raise CompositionError(
                    "A union cannot hold another union.", hint="name all its methods side by side"
                )
        for one, other in combinations(self.configs, 2):
            if _collide(one, other):
                raise CompositionError(
                    f"A union cannot hold {_title(one)} and {_title(other)}: they would stand at the same places.",
                    hint="let one of them leave out the layers of the other (`leave_out`)",
                )

    def to_dict(self) -> dict[str, Any]:
        """The `config` object of an `adapter_config.json`."""
        return {
            "architecture": "union",
            "configs": [config.to_dict() for config in self.configs],
        }


def _collide(one: SingleMethod, other: SingleMethod) -> bool:
    """Whether two parts have the same places, as far as that can be said without the model."""
    if type(one) is not type(other):
        return False
    if getattr(one, "leave_out", []) or getattr(other, "leave_out", []):
        return False
    if isinstance(one, Bottleneck) and isinstance(other, Bottleneck):
        same_attention = one.mh_adapter == other.mh_adapter
        return same_attention or one.output_adapter == other.output_adapter
    return True


def _title(config: SingleMethod) -> str:
    if isinstance(config, Bottleneck):
        slots = [slot for slot in ("mh_adapter", "output_adapter") if getattr(config, slot)]
        return f"a bottleneck with {' and '.join(slots) or 'neither slot'}"
    return repr(config.__struct_config__.tag)


MAM = Union(configs=[PrefixTuning(bottleneck_size=800), PAR_BN])
UNIPELT = Union(
    configs=[
        PrefixTuning(prefix_length=10, use_gating=True),
        msgspec.structs.replace(SEQ_BN, use_gating=True),
        Lora(alpha=2, use_gating=True),
    ]
)

PRESETS = {"mam": MAM, "unipelt": UNIPELT}
