"""The table of sites: one row per architecture."""

from adapterhub_client.compose.spots import (
    Architecture,
    Attention,
    Layers,
    Projection,
    Residual,
    Slot,
    Spot,
)


def _projections(prefix: str, query: str, key: str, value: str) -> tuple[Spot, ...]:
    names = {"query": query, "key": key, "value": value}
    return tuple(
        Projection(name=name, path=prefix + path, key=prefix + path) for name, path in names.items()
    )


_BERT_LAYERS = Layers(
    path="encoder.layer.*",
    spots=(
        *_projections("attention.self.", "query", "key", "value"),
        Attention(name="self_prefix", path="attention.self", key="attention.self"),
        Slot(
            name="mh_adapter",
            key="attention.output",
            norm="attention.output.LayerNorm",
            branch="attention.output.dropout",
            skip="attention.output",
            skip_argument=1,
        ),
        Projection(name="intermediate", path="intermediate.dense", key="intermediate.dense"),
        Projection(name="output", path="output.dense", key="output.dense"),
        Slot(
            name="output_adapter",
            key="output",
            norm="output.LayerNorm",
            branch="output.dropout",
            skip="output",
            skip_argument=1,
        ),
        Residual(name="layer", key="reft_layer"),
    ),
)
_DISTILBERT_LAYERS = Layers(
    path="transformer.layer.*",
    spots=(
        *_projections("attention.", "q_lin", "k_lin", "v_lin"),
        Attention(name="self", path="attention", key="attention"),
        Slot(
            name="mh_adapter",
            key="attention_adapters",
            norm="sa_layer_norm",
            branch="attention",
            skip="attention",
        ),
        Projection(name="intermediate", path="ffn.lin1", key="ffn.lin1"),
        Projection(name="output", path="ffn.lin2", key="ffn.lin2"),
        Slot(
            name="output_adapter",
            key="output_adapters",
            norm="output_layer_norm",
            branch="ffn",
            skip="ffn",
        ),
        Residual(name="layer", key="reft_layer"),
    ),
)

ARCHITECTURES: dict[str, Architecture] = {
    "bert": Architecture(stacks=(_BERT_LAYERS,), adapter_class="BertAdapterModel"),
    "roberta": Architecture(stacks=(_BERT_LAYERS,), adapter_class="RobertaAdapterModel"),
    "xlm-roberta": Architecture(stacks=(_BERT_LAYERS,), adapter_class="XLMRobertaAdapterModel"),
    "distilbert": Architecture(
        stacks=(_DISTILBERT_LAYERS,),
        adapter_class="DistilBertAdapterModel",
        attention_dropout="attention_dropout",
        hidden_dropout="dropout",
        classifier_dropout="seq_classif_dropout",
    ),
}
