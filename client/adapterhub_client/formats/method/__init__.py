"""Method configs without torch: what an adapter is made of, its presets, its config string and its config id.

Every method has a struct in a module of its own. The field names are those of the `config` object in an
`adapter_config.json`, so that a config read is a config written.
"""

from adapterhub_client.formats.method.bitfit import BitFit
from adapterhub_client.formats.method.bottleneck import (
    ADAPTER_PLUS,
    DOUBLE_SEQ_BN,
    PAR_BN,
    SCALED_PAR_BN,
    SEQ_BN,
    Bottleneck,
)
from adapterhub_client.formats.method.fusion import FUSIONS, Fusion, read_fusion
from adapterhub_client.formats.method.identity import config_id, method_name
from adapterhub_client.formats.method.lora import LORA, Lora, MtlLora
from adapterhub_client.formats.method.prefix_tuning import PREFIX_TUNING, PrefixTuning
from adapterhub_client.formats.method.presets import DEPRECATED, PRESETS, MethodConfig
from adapterhub_client.formats.method.prompt_tuning import PromptTuning
from adapterhub_client.formats.method.reading import read
from adapterhub_client.formats.method.reft import LOREFT, NOREFT, Reft
from adapterhub_client.formats.method.strings import parse
from adapterhub_client.formats.method.union import MAM, UNIPELT, SingleMethod, Union

__all__ = [
    "ADAPTER_PLUS",
    "DEPRECATED",
    "DOUBLE_SEQ_BN",
    "FUSIONS",
    "LORA",
    "LOREFT",
    "MAM",
    "NOREFT",
    "PAR_BN",
    "PREFIX_TUNING",
    "PRESETS",
    "SCALED_PAR_BN",
    "SEQ_BN",
    "UNIPELT",
    "BitFit",
    "Bottleneck",
    "Fusion",
    "Lora",
    "MethodConfig",
    "MtlLora",
    "PrefixTuning",
    "PromptTuning",
    "Reft",
    "SingleMethod",
    "Union",
    "config_id",
    "method_name",
    "parse",
    "read",
    "read_fusion",
]
