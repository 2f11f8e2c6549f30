"""Read the `config` object of an `adapter_config.json` as the struct of its method."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import msgspec

from adapterhub_client.errors import CompositionError
from adapterhub_client.formats.method.bitfit import BitFit
from adapterhub_client.formats.method.bottleneck import Bottleneck
from adapterhub_client.formats.method.lora import Lora, MtlLora
from adapterhub_client.formats.method.prefix_tuning import PrefixTuning
from adapterhub_client.formats.method.presets import MethodConfig
from adapterhub_client.formats.method.prompt_tuning import PromptTuning
from adapterhub_client.formats.method.reft import Reft
from adapterhub_client.formats.method.union import SingleMethod, Union

UNION = "union"
ARCHITECTURES: dict[str, type[SingleMethod]] = {
    "lora": Lora,
    "mtl_lora": MtlLora,
    "prefix_tuning": PrefixTuning,
    "prompt_tuning": PromptTuning,
    "reft": Reft,
    "bitfit": BitFit,
}


def read(config: Mapping[str, Any]) -> MethodConfig:
    """Read a config by its `architecture`; one without is a bottleneck. Keys we do not know are dropped.

    Raises:
        CompositionError: The architecture is unknown, a value has a wrong type or is out of range, or the parts of a
            union do not go together.
    """
    if config.get("architecture") == UNION:
        return Union(configs=[_single(part) for part in _parts(config)])
    return _single(config)


def suggestion(name: str, known: list[str]) -> str:
    """A hint at the nearest of the known names, and at all of them."""
    nearest = get_close_matches(name, known, n=1)
    return (f"did you mean {nearest[0]}? " if nearest else "") + "known: " + ", ".join(known)


def _parts(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    parts = config.get("configs")
    if not isinstance(parts, list) or not all(isinstance(part, Mapping) for part in parts):
        raise CompositionError(
            f"The union's configs are {parts!r}.", hint="`configs` is a list of config objects"
        )
    if any(part.get("architecture") == UNION for part in parts):
        raise CompositionError(
            "A union cannot hold another union.", hint="name all its methods side by side"
        )
    return parts


def _single(config: Mapping[str, Any]) -> SingleMethod:
    struct = _struct(config.get("architecture"))
    known = {key: value for key, value in config.items() if key in struct.__struct_fields__}
    try:
        return msgspec.convert(known, struct)
    except msgspec.ValidationError as error:
        raise CompositionError(f"The method config is malformed: {error}.") from error


def _struct(architecture: object) -> type[SingleMethod]:
    if architecture is None:
        return Bottleneck
    if not isinstance(architecture, str) or architecture not in ARCHITECTURES:
        known = [*ARCHITECTURES, UNION]
        raise CompositionError(
            f"There is no method with the architecture {architecture!r}.",
            hint=suggestion(str(architecture), known) + "; bottleneck adapters name none",
        )
    return ARCHITECTURES[architecture]
