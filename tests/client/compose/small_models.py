"""Tiny models of every architecture, adapters of every method, and batches of any size for them."""

import torch
import transformers
from torch import nn
from transformers.models.t5 import modeling_t5

from adapterhub_client import compose

from .conftest import randomise
from .peer_kinds import ARCHITECTURES, TWO_STACKS

# Every method, in a variant whose weights all have a gradient: rectified units would often be off.
METHODS = {
    "seq_bn": "seq_bn[reduction_factor=4, non_linearity='tanh']",
    "double_seq_bn": "double_seq_bn[reduction_factor=4, non_linearity='tanh']",
    "par_bn": "par_bn[reduction_factor=4, non_linearity='tanh']",
    "gated": "seq_bn[reduction_factor=4, non_linearity='tanh', use_gating=True]",
    "own norms": "double_seq_bn[non_linearity='tanh', ln_before=True, ln_after=True]",
    "adapter plus": (
        "seq_bn[reduction_factor=4, non_linearity='tanh', residual_before_ln=False, "
        "original_ln_after=False, scaling='channel']"
    ),
    "compacter": "compacter[phm_dim=2, reduction_factor=4, non_linearity='tanh']",
    "invertible": "seq_bn_inv[reduction_factor=4, non_linearity='tanh']",
    "lora": "lora[r=2, alpha=4, attn_matrices=['q', 'k', 'v'], intermediate_lora=True]",
    "gated lora": "lora[r=2, use_gating=True]",
    "dora": "dora[r=2]",
    "vera": "vera[r=2]",
    "mtl_lora": "mtl_lora[r=2]",
    "ia3": "ia3",
    "prefix": "prefix_tuning[prefix_length=3, bottleneck_size=8]",
    "flat prefix": "prefix_tuning_flat[prefix_length=3]",
    "prompt": "prompt_tuning[prompt_length=3]",
    "loreft": "loreft[r=2]",
    "noreft": "noreft[r=2]",
    "direft": "direft[r=2]",
    "bitfit": "bitfit",
}

# Before transformers 5.4 or so T5 computed its attention by itself, where no prefix can act.
T5_HAS_PREFIXES = hasattr(modeling_t5, "ALL_ATTENTION_FUNCTIONS")


def model_of(architecture="bert", **changes):
    torch.manual_seed(7)
    class_name, settings, _ = ARCHITECTURES[architecture]
    config = getattr(transformers, class_name)(**settings)
    config.update(changes)
    model = transformers.AutoModel.from_config(config)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.2)
    return model.eval()


def adapted_of(architecture="bert", methods=("seq_bn",), model=None, **changes):
    """Adapters a, b, c, ... with random weights, one for each of the words of `METHODS`."""
    adapted = compose.attach(model or model_of(architecture, **changes))
    for number, method in enumerate(methods):
        name = "abcdefgh"[number]
        adapted.add(name, METHODS.get(method, method))
        randomise(adapted.adapters[name], seed=number + 1, std=0.2)
    return adapted


def batch_of(architecture="bert", rows=3, length=10):
    """A batch whose second row is shorter than the others, where the model has a mask."""
    generator = torch.Generator().manual_seed(rows * 100 + length)
    if architecture == "vit":
        return {"pixel_values": torch.randn(rows, 3, 8, 8, generator=generator)}
    ids = torch.randint(5, 90, (rows, length), generator=generator)
    mask = torch.ones_like(ids)
    mask[1:2, length - 3 :] = 0
    batch = {"input_ids": ids, "attention_mask": mask}
    if architecture in TWO_STACKS:
        batch["decoder_input_ids"] = torch.randint(5, 90, (rows, length), generator=generator)
    return batch
