"""What is compared with the reference library: architectures, methods, compositions, heads; read by both environments.

The library runs in an environment of its own, where our code is not installed: this module imports nothing.
"""

SMALL = {"vocab_size": 96, "max_position_embeddings": 40}
ENCODER = SMALL | {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}
DECODER = ENCODER | {
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "use_cache": False,
}
BOTH = SMALL | {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "use_cache": False,
}
# architecture: the config's class, its settings, the class with heads of its own (the flexible one, where there is one)
ARCHITECTURES = {
    "bert": ("BertConfig", ENCODER, "BertAdapterModel"),
    "roberta": ("RobertaConfig", ENCODER, "RobertaAdapterModel"),
    "xlm-roberta": ("XLMRobertaConfig", ENCODER, "XLMRobertaAdapterModel"),
    "electra": ("ElectraConfig", ENCODER | {"embedding_size": 16}, "ElectraAdapterModel"),
    "distilbert": (
        "DistilBertConfig",
        SMALL | {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64},
        "DistilBertAdapterModel",
    ),
    "albert": (
        "AlbertConfig",
        ENCODER | {"embedding_size": 16, "num_hidden_layers": 4, "num_hidden_groups": 2},
        "AlbertAdapterModel",
    ),
    "deberta-v2": (
        "DebertaV2Config",
        ENCODER
        | {
            "relative_attention": True,
            "pos_att_type": ["p2c", "c2p"],
            "share_att_key": True,
            "norm_rel_ebd": "layer_norm",
            "position_biased_input": False,
            "position_buckets": 8,
            "type_vocab_size": 0,
        },
        "DebertaV2AdapterModel",
    ),
    "gpt2": (
        "GPT2Config",
        {
            "vocab_size": 96,
            "n_positions": 40,
            "n_embd": 32,
            "n_layer": 2,
            "n_head": 4,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "use_cache": False,
        },
        "GPT2AdapterModel",
    ),
    "llama": ("LlamaConfig", DECODER, "LlamaAdapterModel"),
    "mistral": ("MistralConfig", DECODER, "MistralAdapterModel"),
    "qwen2": ("Qwen2Config", DECODER, "Qwen2ForSequenceClassification"),
    "qwen3": ("Qwen3Config", DECODER | {"head_dim": 8}, "Qwen3ForSequenceClassification"),
    "gemma2": (
        "Gemma2Config",
        DECODER | {"head_dim": 8, "query_pre_attn_scalar": 8},
        "Gemma2ForSequenceClassification",
    ),
    "gemma3": (
        "Gemma3TextConfig",
        DECODER | {"head_dim": 8, "query_pre_attn_scalar": 8},
        "Gemma3TextForSequenceClassification",
    ),
    "modernbert": (
        "ModernBertConfig",
        ENCODER
        | {
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "cls_token_id": 1,
            "sep_token_id": 2,
            "reference_compile": False,
        },
        "ModernBertForSequenceClassification",
    ),
    "bart": ("BartConfig", BOTH, "BartAdapterModel"),
    "mbart": ("MBartConfig", BOTH, "MBartAdapterModel"),
    "t5": (
        "T5Config",
        {
            "vocab_size": 96,
            "d_model": 32,
            "d_kv": 8,
            "d_ff": 64,
            "num_layers": 2,
            "num_heads": 4,
            "decoder_start_token_id": 0,
            "use_cache": False,
        },
        "T5AdapterModel",
    ),
    "vit": (
        "ViTConfig",
        {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 64,
            "image_size": 8,
            "patch_size": 4,
        },
        "ViTAdapterModel",
    ),
}
TWO_STACKS = ("bart", "mbart", "t5")
DECLARED = (
    "qwen2",
    "qwen3",
    "gemma2",
    "gemma3",
    "modernbert",
)  # the library knows these by an interface only
GROUPED = (
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "gemma2",
    "gemma3",
)  # fewer key-value heads than heads
MERGED = ("gpt2", "modernbert")  # one linear for query, key and value
WITHOUT_NORM = ("gpt2", "llama", "mistral", "qwen2", "qwen3", "modernbert", "mbart", "t5", "vit")
EAGER = (
    "electra",
    "deberta-v2",
    "gemma2",
    "t5",
)  # there is no sdpa for them in the library's transformers

SEQ = "seq_bn[reduction_factor=2, non_linearity='tanh']"
DOUBLE = "double_seq_bn[reduction_factor=2]"
INVERTIBLE = "seq_bn_inv[reduction_factor=2, non_linearity='tanh']"
LORA = "lora[r=2, alpha=4]"
PREFIX = "prefix_tuning[prefix_length=3, bottleneck_size=8]"
METHODS = {
    "seq_bn": SEQ,
    "double_seq_bn": DOUBLE,
    "par_bn": "par_bn[reduction_factor=4, non_linearity='gelu']",
    "scaled_par_bn": "scaled_par_bn[reduction_factor=4, non_linearity='tanh']",
    "seq_bn_inv": INVERTIBLE,
    "adapter_plus": (
        "seq_bn[reduction_factor=4, non_linearity='gelu', original_ln_after=False, residual_before_ln=False,"
        " init_weights='houlsby', scaling='channel']"
    ),
    "bn_mh": "seq_bn[mh_adapter=True, output_adapter=False, reduction_factor=2, non_linearity='tanh']",
    "bn_cross": "double_seq_bn[cross_adapter=True, reduction_factor=2]",
    "bn_layer_norms": (
        "double_seq_bn[ln_before=True, ln_after=True, use_gating=True, reduction_factor=2]"
    ),
    "bn_post_add": (
        "seq_bn[residual_before_ln='post_add', adapter_residual_before_ln=True, ln_after=True,"
        " reduction_factor=2, non_linearity='gelu']"
    ),
    "bn_leave_out": "double_seq_bn[leave_out=[0], reduction_factor={'1': 4, 'default': 2}]",
    "compacter": "compacter[reduction_factor=4, phm_dim=4]",
    "compacter++": "compacter++[reduction_factor=4, phm_dim=4]",
    "lora": LORA,
    "lora_all": (
        "lora[r=2, alpha=4, attn_matrices=['q', 'k', 'v'], intermediate_lora=True, output_lora=True]"
    ),
    "lora_gated": "lora[r=2, alpha=4, attn_matrices=['q', 'k'], use_gating=True]",
    "ia3": "ia3",
    "dora": "dora[r=2, alpha=4]",
    "vera": "vera[r=2]",
    "prefix_tuning": PREFIX,
    "prefix_tuning_flat": "prefix_tuning[prefix_length=3, flat=True]",
    "prefix_tuning_gated": (
        "prefix_tuning[prefix_length=3, bottleneck_size=8, use_gating=True, shared_gating=False, leave_out=[1]]"
    ),
    "prompt_tuning": "prompt_tuning[prompt_length=3]",
    "prompt_tuning_after_bos": "prompt_tuning[prompt_length=3, combine='prefix_after_bos']",
    "loreft": "loreft[r=2, prefix_positions=2, suffix_positions=1, dropout=0.0]",
    "noreft": "noreft[r=2, prefix_positions=1, suffix_positions=2, tied_weights=True, dropout=0.0]",
    "mam": f"{PREFIX}|par_bn[reduction_factor=4, non_linearity='tanh']",
    "unipelt": (
        "prefix_tuning[prefix_length=3, bottleneck_size=8, use_gating=True]"
        "|seq_bn[reduction_factor=2, non_linearity='tanh', use_gating=True]"
        "|lora[r=2, alpha=4, use_gating=True]"
    ),
}

# kind: the tree of blocks, the method of each adapter in the order a, b, c (lang is invertible), the fusion's config
COMPOSITIONS = {
    "stack": (("Stack", "a", "b"), SEQ),
    "stack_houlsby": (("Stack", "a", "b"), DOUBLE),
    "stack_madx": (("Stack", "lang", "a"), SEQ),
    "stack_fuse": (("Stack", "lang", ("Fuse", "a", "b")), SEQ, "dynamic"),
    "fuse3": (("Fuse", "a", "b", "c"), SEQ, "dynamic"),
    "fuse3_static": (("Fuse", "a", "b", "c"), SEQ, "static"),
    "fuse2_houlsby": (("Fuse", "a", "b"), DOUBLE, "dynamic"),
    "split": (("Split", "a", "b"), SEQ),
    "batchsplit": (("BatchSplit", "a", "b"), SEQ),
    "parallel": (("Parallel", "a", "b"), SEQ),
    "average": (("Average", "a", "b"), SEQ),
    "stack_lora": (("Stack", "a", "b"), LORA),
    "batchsplit_lora": (("BatchSplit", "a", "b"), LORA),
    "parallel_lora": (("Parallel", "a", "b"), LORA),
    "average_lora": (("Average", "a", "b"), LORA),
    "stack_prefix": (("Stack", "a", "b"), PREFIX),
    "batchsplit_prefix": (("BatchSplit", "a", "b"), PREFIX),
    "parallel_prefix": (("Parallel", "a", "b"), PREFIX),
}

# kind: the library's type of head, what it is made with, the adapter's method
HEADS = {
    "classification": ("classification", {"num_labels": 3}, SEQ),
    "tagging": ("tagging", {"num_labels": 5}, SEQ),
    "qa": ("question_answering", {"num_labels": 2}, SEQ),
    "masked_lm": ("masked_lm", {}, INVERTIBLE),
    "causal_lm": ("causal_lm", {}, INVERTIBLE),
    "seq2seq_lm": ("seq2seq_lm", {}, INVERTIBLE),
    "image_classification": ("image_classification", {"num_labels": 3}, SEQ),
}


def heads(architecture):
    """The kinds of head to compare on an architecture."""
    if architecture in DECLARED:
        return ("static",)
    if architecture == "vit":
        return ("image_classification",)
    last = {"gpt2": "causal_lm", "llama": "causal_lm", "mistral": "causal_lm"}
    if architecture in TWO_STACKS:
        return ("classification", "qa", "seq2seq_lm")
    return ("classification", "tagging", "qa", last.get(architecture, "masked_lm"))


def kinds(architecture):
    """Everything that is tried on an architecture, also what the library will refuse."""
    methods = [
        f"method:{kind}" for kind in METHODS if kind != "bn_cross" or architecture in TWO_STACKS
    ]
    blocks = [f"comp:{kind}" for kind in COMPOSITIONS]
    return ["base", *methods, *blocks, *(f"head:{kind}" for kind in heads(architecture))]


def refused(architecture):
    """What the library does not do on an architecture: it says so, or it raises something else."""
    kinds = set()
    if architecture in WITHOUT_NORM:
        kinds.add("method:bn_post_add")
    if architecture in (*TWO_STACKS, *DECLARED, *GROUPED, *MERGED):
        kinds |= {"method:prompt_tuning", "method:prompt_tuning_after_bos"}
    if architecture in DECLARED:
        kinds |= {"method:adapter_plus", "method:mam", "method:unipelt"}
        kinds |= {f"method:prefix_tuning{rest}" for rest in ("", "_flat", "_gated")}
        kinds |= {f"comp:{block}_prefix" for block in ("stack", "batchsplit", "parallel")}
        kinds |= {"comp:parallel", "comp:parallel_lora"}
    if architecture in MERGED:
        kinds |= {"method:dora", "method:vera"}
        kinds |= {f"comp:{block}_lora" for block in ("stack", "batchsplit", "parallel", "average")}
    if architecture in GROUPED:
        kinds |= {"method:vera", "comp:stack_lora"}
    if architecture == "deberta-v2":
        kinds |= {"comp:batchsplit_lora", "comp:parallel_lora"}
    if architecture == "mbart":
        kinds.add("comp:parallel_lora")
    if architecture == "vit":
        kinds |= {"method:seq_bn_inv", "comp:parallel_lora"}
    return kinds
