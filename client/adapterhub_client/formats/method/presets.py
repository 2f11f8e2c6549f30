"""The methods that have a name."""

from adapterhub_client.formats.method import (
    bitfit,
    bottleneck,
    lora,
    prefix_tuning,
    prompt_tuning,
    reft,
    union,
)
from adapterhub_client.formats.method.union import SingleMethod, Union

MethodConfig = SingleMethod | Union

PRESETS: dict[str, MethodConfig] = {
    **bottleneck.PRESETS,
    **prefix_tuning.PRESETS,
    **prompt_tuning.PRESETS,
    **lora.PRESETS,
    **reft.PRESETS,
    **bitfit.PRESETS,
    **union.PRESETS,
}
DEPRECATED = {
    "pfeiffer": "seq_bn",
    "houlsby": "double_seq_bn",
    "parallel": "par_bn",
    "scaled_parallel": "scaled_par_bn",
    "pfeiffer+inv": "seq_bn_inv",
    "houlsby+inv": "double_seq_bn_inv",
}
