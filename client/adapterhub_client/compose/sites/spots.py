"""What a row of the table of sites is made of: lists of layers, and the spots inside a layer where adapters act.

All paths of a spot are relative to its layer; the empty path is the layer itself. A `key` is where the `adapters`
library keeps the modules of a spot, which names their tensors in a file.
"""

from typing import Literal

import msgspec

HIDDEN = "hidden_states"
"""what models call the tensor that a layer is given"""


class Spot(msgspec.Struct, frozen=True, kw_only=True):
    """A spot of a layer where something of an adapter can stand."""

    name: str
    key: str


class Slot(Spot, frozen=True, kw_only=True):
    """Where a sub-block's output f joins its residual x: the spot of bottleneck adapters and fusions.

    With ``norm``, the model goes on with LN(f + x) (post-norm). Without, it adds x to f itself (pre-norm), and
    ``branch`` has to be named. Names: `mh_adapter` after attention, `output_adapter` after the feed-forward block,
    `cross_adapter` after cross-attention, as in the configs.
    """

    norm: str | None = None
    """the LayerNorm that takes f + x"""
    branch: str | None = None
    """the module whose output, or its first element, is f; None where f only follows from the sum and x"""
    skip: str
    """the module whose argument is x; not the layer itself, which checkpoints run again without its hooks"""
    skip_argument: int | str = 0
    """the argument's position, or its name; the first one may also be passed by the name `hidden_states`"""
    skip_is_output: bool = False
    """whether x is what that module puts out, instead"""
    is_swapped: bool = False
    """post-norm: the reference library takes f for x and x for f here (ALBERT), and so do its files"""
    norm_of_last_layer: str | None = None
    """pre-norm: a norm of the last layer, through which the reference library lets adapters of all layers read"""
    is_inside: bool = False
    """pre-norm: the adapter's own result is followed by the model's residual whatever `original_ln_after` says"""


class Projection(Spot, frozen=True, kw_only=True):
    """A linear layer: the spot of LoRA, DoRA, VeRA and (IA)³.

    Names: `query`, `key`, `value`, `intermediate`, `output`, and `cross_query`, `cross_key`, `cross_value`; `merged`
    where one layer makes several of query, key and value, whose letters ``merged`` then has in their order.
    """

    path: str
    merged: tuple[Literal["q", "k", "v"], ...] = ()
    shared_when: tuple[str, ...] = ()
    """settings of the model's config with which, if all hold, it is called with other tensors than the batch too"""


class Attention(Spot, frozen=True, kw_only=True):
    """An attention: the spot of prefixes. The name is the location's in files: `self_prefix`, `cross_prefix`, ..."""

    path: str
    """the module that is handed to the attention function"""


class Residual(Spot, frozen=True, kw_only=True):
    """What a layer as a whole puts out: the spot of ReFT."""

    path: str = ""


class Layers(msgspec.Struct, frozen=True, kw_only=True):
    """One list of layers that are alike: an encoder's or a decoder's."""

    path: str
    """each layer inside the backbone, with `*` for its number: `encoder.layer.*`"""
    spots: tuple[Spot, ...]
    key: str | None = None
    """the same in the keys of files, where that differs"""
    is_decoder: bool = False
    """whether it is the decoder beside an encoder"""


class Architecture(msgspec.Struct, frozen=True, kw_only=True):
    """One row: where the layers are, what is in them, and the config's names for what we read from it."""

    stacks: tuple[Layers, ...]
    adapter_class: str
    """the class of `adapters` with flexible heads, which is written into files so that it loads them"""
    embeddings: str = "embeddings"
    """the module whose output is the first hidden state: the spot of prompts and invertible adapters"""
    masks_before_embeddings: bool = False
    """whether the model reads its mask before it runs that module, for a batch of the rows it was called with"""
    invertible_key: str = "invertible_adapters"
    prompt_key: str = "prompt_tuning.prompt_tunings"
    prefix_key: str = "prefix_tuning.prefix_tunings"
    is_layer_shared: bool = False
    """whether one layer is run several times"""
    attention_dropout: str = "attention_probs_dropout_prob"
    hidden_dropout: str = "hidden_dropout_prob"
    classifier_dropout: str = "classifier_dropout"
