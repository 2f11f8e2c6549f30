"""What the layers of each architecture have, spot by spot, checked against what the reference library does there.

Its oddities are part of the files it wrote, so they are here too, each with its reason beside it.
"""

import msgspec

from adapterhub_client.compose.sites.spots import (
    Attention,
    Layers,
    Projection,
    Residual,
    Slot,
    Spot,
)

_RESIDUAL = Residual(name="layer", key="reft_layer")


def _linear(name: str, path: str, key: str | None = None) -> Projection:
    return Projection(name=name, path=path, key=key or path)


def _query_key_value(before: str, *names: str, cross: bool = False) -> tuple[Spot, ...]:
    kind = "cross_" if cross else ""
    return tuple(
        _linear(kind + name, before + path)
        for name, path in zip(("query", "key", "value"), names, strict=True)
    )


def _attention(name: str, path: str, key: str | None = None) -> Attention:
    return Attention(name=name, path=path, key=key or path)


def _bert_like(query: str = "query", key: str = "key", value: str = "value") -> tuple[Spot, ...]:
    return (
        *_query_key_value("attention.self.", query, key, value),
        _attention("self_prefix", "attention.self"),
        Slot(
            name="mh_adapter",
            key="attention.output",
            norm="attention.output.LayerNorm",
            branch="attention.output.dropout",
            skip="attention.output",
            skip_argument=1,
        ),
        _linear("intermediate", "intermediate.dense"),
        _linear("output", "output.dense"),
        Slot(
            name="output_adapter",
            key="output",
            norm="output.LayerNorm",
            branch="output.dropout",
            skip="output",
            skip_argument=1,
        ),
        _RESIDUAL,
    )


BERT = Layers(path="encoder.layer.*", spots=_bert_like())

# Its attention is computed in the module itself, without the attention function prefixes need.
# The embeddings of relative positions go through the same queries and keys as the batch.
DEBERTA = Layers(
    path="encoder.layer.*",
    spots=tuple(
        msgspec.structs.replace(spot, shared_when=("relative_attention", "share_att_key"))
        if spot.name in ("query", "key")
        else spot
        for spot in _bert_like("query_proj", "key_proj", "value_proj")
        if not isinstance(spot, Attention)
    ),
)

DISTILBERT = Layers(
    path="transformer.layer.*",
    spots=(
        *_query_key_value("attention.", "q_lin", "k_lin", "v_lin"),
        _attention("self", "attention"),
        Slot(
            name="mh_adapter",
            key="attention_adapters",
            norm="sa_layer_norm",
            branch="attention",
            skip="attention",
        ),
        _linear("intermediate", "ffn.lin1"),
        _linear("output", "ffn.lin2"),
        Slot(
            name="output_adapter",
            key="output_adapters",
            norm="output_layer_norm",
            branch="ffn",
            skip="ffn",
        ),
        _RESIDUAL,
    ),
)

ALBERT = Layers(
    path="encoder.albert_layer_groups.*.albert_layers.*",
    spots=(
        *_query_key_value("attention.", "query", "key", "value"),
        _attention("self_prefix", "attention"),
        Slot(
            name="mh_adapter",
            key="attention.attention_adapters",
            norm="attention.LayerNorm",
            branch="attention.output_dropout",
            skip="attention",
            is_swapped=True,
        ),
        _linear("intermediate", "ffn"),
        _linear("output", "ffn_output"),
        Slot(
            name="output_adapter",
            key="output_adapters",
            norm="full_layer_layer_norm",
            branch="ffn_output",
            skip="ffn",
        ),
        _RESIDUAL,
    ),
)

GPT2 = Layers(
    path="h.*",
    spots=(
        Projection(name="merged", path="attn.c_attn", key="attn.c_attn", merged=("q", "k", "v")),
        _attention("self_prefix", "attn"),
        Slot(name="mh_adapter", key="attention_adapters", branch="attn", skip="ln_1"),
        _linear("intermediate", "mlp.c_fc"),
        _linear("output", "mlp.c_proj"),
        Slot(name="output_adapter", key="output_adapters", branch="mlp", skip="ln_2"),
        _RESIDUAL,
    ),
)

LLAMA = Layers(
    path="layers.*",
    spots=(
        *_query_key_value("self_attn.", "q_proj", "k_proj", "v_proj"),
        _attention("self_prefix", "self_attn"),
        Slot(
            name="mh_adapter",
            key="attention_adapters",
            branch="self_attn",
            skip="input_layernorm",
        ),
        # The reference library has these two the other way round.
        _linear("intermediate", "mlp.down_proj"),
        _linear("output", "mlp.up_proj"),
        Slot(
            name="output_adapter",
            key="output_adapters",
            branch="mlp",
            skip="post_attention_layernorm",
        ),
        _RESIDUAL,
    ),
)


def _inside(
    attention_norm: str | None, feed_forward_norm: str | None, feed_forward_skip: str
) -> Layers:
    """Decoders whose adapters sit inside the sub-blocks, and read through norms of the last layer."""
    return Layers(
        path="layers.*",
        spots=(
            *_query_key_value("self_attn.", "q_proj", "k_proj", "v_proj"),
            _attention("self_prefix", "self_attn"),
            Slot(
                name="mh_adapter",
                key="attention_adapters",
                branch="self_attn",
                skip="input_layernorm",
                norm_of_last_layer=attention_norm,
                is_inside=True,
            ),
            _linear("intermediate", "mlp.up_proj"),
            _linear("output", "mlp.down_proj"),
            Slot(
                name="output_adapter",
                key="output_adapters",
                branch="mlp",
                skip=feed_forward_skip,
                norm_of_last_layer=feed_forward_norm,
                is_inside=True,
            ),
            _RESIDUAL,
        ),
    )


QWEN = _inside(None, None, "post_attention_layernorm")
GEMMA = _inside(
    "post_attention_layernorm", "post_feedforward_layernorm", "pre_feedforward_layernorm"
)

MODERNBERT = Layers(
    path="layers.*",
    spots=(
        Projection(name="merged", path="attn.Wqkv", key="attn.Wqkv", merged=("q", "k", "v")),
        _attention("self_prefix", "attn"),
        Slot(
            name="mh_adapter",
            key="attention_adapters",
            branch="attn.Wo",
            skip="attn",
            norm_of_last_layer="mlp_norm",
            is_inside=True,
        ),
        _linear("intermediate", "mlp.Wi"),
        _linear("output", "mlp.Wo"),
        Slot(
            name="output_adapter",
            key="output_adapters",
            branch="mlp.Wo",
            skip="mlp",
            is_inside=True,
        ),
        _RESIDUAL,
    ),
)


def bart_like(*, is_decoder: bool, is_post_norm: bool) -> Layers:
    """Dropout is functional here: where the norm takes the sum, f is what the sum has more than x."""

    def slot(name: str, key: str, norm: str, branch: str, skip: str) -> Slot:
        if is_post_norm:
            return Slot(name=name, key=key, norm=norm, skip=skip)
        return Slot(name=name, key=key, branch=branch, skip=skip)

    attention, cross = "self_attn_layer_norm", "encoder_attn_layer_norm"
    last = "final_layer_norm"
    crossing: tuple[Spot, ...] = (
        *_query_key_value("encoder_attn.", "q_proj", "k_proj", "v_proj", cross=True),
        _attention("cross_prefix", "encoder_attn"),
        Slot(
            name="cross_adapter",
            key="cross_attention_adapters",
            norm=cross,
            skip=attention,
            skip_is_output=True,
        )
        if is_post_norm
        else slot("cross_adapter", "cross_attention_adapters", cross, "encoder_attn", cross),
    )
    return Layers(
        path="decoder.layers.*" if is_decoder else "encoder.layers.*",
        is_decoder=is_decoder,
        spots=(
            *_query_key_value("self_attn.", "q_proj", "k_proj", "v_proj"),
            _attention("self_prefix" if is_decoder else "encoder_prefix", "self_attn"),
            slot(
                "mh_adapter",
                "attention_adapters",
                attention,
                "self_attn",
                "self_attn" if is_post_norm else attention,
            ),
            *(crossing if is_decoder else ()),
            _linear("intermediate", "fc1"),
            _linear("output", "fc2"),
            slot("output_adapter", "output_adapters", last, "fc2", "fc1" if is_post_norm else last),
            _RESIDUAL,
        ),
    )


def t5_like(*, is_decoder: bool) -> Layers:
    """T5's encoder or decoder, whose sub-layers add their residual themselves."""

    def slot(name: str, part: str) -> Slot:
        return Slot(name=name, key=part, branch=f"{part}.dropout", skip=part)

    last = "layer.2" if is_decoder else "layer.1"
    crossing: tuple[Spot, ...] = (
        *_query_key_value("layer.1.EncDecAttention.", "q", "k", "v", cross=True),
        _attention("cross_prefix", "layer.1.EncDecAttention"),
        slot("cross_adapter", "layer.1"),
    )
    return Layers(
        path="decoder.block.*" if is_decoder else "encoder.block.*",
        is_decoder=is_decoder,
        spots=(
            *_query_key_value("layer.0.SelfAttention.", "q", "k", "v"),
            _attention("self_prefix" if is_decoder else "encoder_prefix", "layer.0.SelfAttention"),
            slot("mh_adapter", "layer.0"),
            *(crossing if is_decoder else ()),
            _linear("intermediate", f"{last}.DenseReluDense.wi"),
            _linear("intermediate", f"{last}.DenseReluDense.wi_1"),  # where it is gated
            _linear("output", f"{last}.DenseReluDense.wo"),
            slot("output_adapter", last),
            _RESIDUAL,
        ),
    )


VIT = Layers(
    path="layers.*",
    key="encoder.layer.*",
    spots=(
        *(
            _linear(name, f"attention.{path}_proj", f"attention.attention.{name}")
            for name, path in (("query", "q"), ("key", "k"), ("value", "v"))
        ),
        _attention("self_prefix", "attention", "attention.attention"),
        Slot(
            name="mh_adapter", key="attention_adapters", branch="attention", skip="layernorm_before"
        ),
        _linear("intermediate", "mlp.fc1", "intermediate.dense"),
        _linear("output", "mlp.fc2", "output.dense"),
        Slot(
            name="output_adapter",
            key="output.output_adapters",
            branch="mlp",
            skip="layernorm_after",
        ),
        _RESIDUAL,
    ),
)
# As transformers had it up to 5.3, whose names the files keep.
VIT_BEFORE = Layers(
    path="encoder.layer.*",
    spots=(
        *_query_key_value("attention.attention.", "query", "key", "value"),
        _attention("self_prefix", "attention.attention"),
        Slot(
            name="mh_adapter", key="attention_adapters", branch="attention", skip="layernorm_before"
        ),
        _linear("intermediate", "intermediate.dense"),
        _linear("output", "output.dense"),
        Slot(
            name="output_adapter",
            key="output.output_adapters",
            branch="output.dropout",
            skip="layernorm_after",
        ),
        _RESIDUAL,
    ),
)
