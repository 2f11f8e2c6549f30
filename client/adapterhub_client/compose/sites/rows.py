"""The table of sites: one row per architecture."""

import msgspec

from adapterhub_client.compose.sites.layers import (
    ALBERT,
    BERT,
    DEBERTA,
    DISTILBERT,
    GEMMA,
    GPT2,
    LLAMA,
    MODERNBERT,
    QWEN,
    VIT,
    VIT_BEFORE,
    bart_like,
    t5_like,
)
from adapterhub_client.compose.sites.spots import Architecture

_BERT_ROW = Architecture(stacks=(BERT,), adapter_class="BertAdapterModel")
_LLAMA_ROW = Architecture(
    stacks=(LLAMA,),
    adapter_class="LlamaAdapterModel",
    embeddings="embed_tokens",
    attention_dropout="",
    hidden_dropout="",
)
_BART_ROW = Architecture(
    stacks=(
        bart_like(is_decoder=False, is_post_norm=True),
        bart_like(is_decoder=True, is_post_norm=True),
    ),
    adapter_class="BartAdapterModel",
    embeddings="encoder.layernorm_embedding",
    invertible_key="encoder.invertible_adapters",
    attention_dropout="attention_dropout",
    hidden_dropout="dropout",
)


def _changed(row: Architecture, adapter_class: str, **changes: object) -> Architecture:
    return msgspec.structs.replace(row, adapter_class=adapter_class, **changes)


ARCHITECTURES: dict[str, Architecture] = {
    "bert": _BERT_ROW,
    "roberta": _changed(_BERT_ROW, "RobertaAdapterModel"),
    "xlm-roberta": _changed(_BERT_ROW, "XLMRobertaAdapterModel"),
    "electra": _changed(_BERT_ROW, "ElectraAdapterModel"),
    "distilbert": Architecture(
        stacks=(DISTILBERT,),
        adapter_class="DistilBertAdapterModel",
        attention_dropout="attention_dropout",
        hidden_dropout="dropout",
        classifier_dropout="seq_classif_dropout",
    ),
    "albert": Architecture(
        stacks=(ALBERT,),
        adapter_class="AlbertAdapterModel",
        is_layer_shared=True,
        classifier_dropout="classifier_dropout_prob",
    ),
    "deberta-v2": Architecture(
        stacks=(DEBERTA,), adapter_class="DebertaV2AdapterModel", classifier_dropout="cls_dropout"
    ),
    "gpt2": Architecture(
        stacks=(GPT2,),
        adapter_class="GPT2AdapterModel",
        embeddings="drop",
        masks_before_embeddings=True,
        attention_dropout="attn_pdrop",
        hidden_dropout="resid_pdrop",
    ),
    "llama": _LLAMA_ROW,
    "mistral": _changed(_LLAMA_ROW, "MistralAdapterModel"),
    "qwen2": _changed(_LLAMA_ROW, "Qwen2Model", stacks=(QWEN,)),
    "qwen3": _changed(_LLAMA_ROW, "Qwen3Model", stacks=(QWEN,)),
    "gemma2": _changed(_LLAMA_ROW, "Gemma2Model", stacks=(GEMMA,)),
    "gemma3_text": _changed(_LLAMA_ROW, "Gemma3TextModel", stacks=(GEMMA,)),
    "modernbert": Architecture(
        stacks=(MODERNBERT,),
        adapter_class="ModernBertModel",
        attention_dropout="attention_dropout",
        hidden_dropout="",
    ),
    "bart": _BART_ROW,
    "mbart": _changed(
        _BART_ROW,
        "MBartAdapterModel",
        stacks=(
            bart_like(is_decoder=False, is_post_norm=False),
            bart_like(is_decoder=True, is_post_norm=False),
        ),
    ),
    "t5": Architecture(
        stacks=(t5_like(is_decoder=False), t5_like(is_decoder=True)),
        adapter_class="T5AdapterModel",
        embeddings="encoder.embed_tokens",
        invertible_key="encoder.invertible_adapters",
        attention_dropout="",
        hidden_dropout="dropout_rate",
        classifier_dropout="dropout_rate",
    ),
    "vit": Architecture(stacks=(VIT, VIT_BEFORE), adapter_class="ViTAdapterModel"),
}
