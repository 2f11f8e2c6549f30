"""The methods that have a page: what each trains, where in a block, and the paper that brought it."""

import msgspec

_SEQUENTIAL = "after feed-forward"
_BOTH = ("after attention", "after feed-forward")


class Paper(msgspec.Struct, frozen=True):
    """Where a method was described first."""

    authors: str
    year: int
    title: str
    venue: str
    arxiv: str


class Method(msgspec.Struct, frozen=True, kw_only=True):
    """A method: `places` are where its trained parts are drawn."""

    name: str
    title: str
    says: str
    places: tuple[str, ...]
    paper: Paper
    kin: tuple[str, ...] = ()
    """presets that are the same but for a detail"""


_HOULSBY = Paper(
    "Houlsby et al.",
    2019,
    "Parameter-Efficient Transfer Learning for NLP",
    "ICML",
    "1902.00751",
)
_FUSION = Paper(
    "Pfeiffer et al.",
    2021,
    "AdapterFusion: Non-Destructive Task Composition for Transfer Learning",
    "EACL",
    "2005.00247",
)
_MADX = Paper(
    "Pfeiffer et al.",
    2020,
    "MAD-X: An Adapter-Based Framework for Multi-Task Cross-Lingual Transfer",
    "EMNLP",
    "2005.00052",
)
_UNIFIED = Paper(
    "He et al.",
    2022,
    "Towards a Unified View of Parameter-Efficient Transfer Learning",
    "ICLR",
    "2110.04366",
)
_COMPACTER = Paper(
    "Karimi Mahabadi et al.",
    2021,
    "Compacter: Efficient Low-Rank Hypercomplex Adapter Layers",
    "NeurIPS",
    "2106.04647",
)
_REFT = Paper(
    "Wu et al.",
    2024,
    "ReFT: Representation Finetuning for Language Models",
    "NeurIPS",
    "2404.03592",
)

METHODS = (
    Method(
        name="seq_bn",
        title="Sequential bottleneck",
        says="Each block gets one small network after its feed-forward part: down to a few features, a "
        "non-linearity, up again, added to what came in. The usual choice for AdapterFusion.",
        places=(_SEQUENTIAL,),
        paper=_FUSION,
        kin=("pfeiffer",),
    ),
    Method(
        name="double_seq_bn",
        title="Two bottlenecks a block",
        says="The first adapters for transformers: a bottleneck after attention and another after the "
        "feed-forward part. Twice the parameters, often a little better.",
        places=_BOTH,
        paper=_HOULSBY,
        kin=("houlsby",),
    ),
    Method(
        name="par_bn",
        title="Parallel bottleneck",
        says="A bottleneck beside the feed-forward part: both read the same input, and their outputs are added. "
        "`scaled_par_bn` multiplies the adapter's by a factor, which may be learnt.",
        places=("beside feed-forward",),
        paper=_UNIFIED,
        kin=("scaled_par_bn", "parallel", "scaled_parallel"),
    ),
    Method(
        name="adapter_plus",
        title="Adapter+",
        says="A bottleneck after the feed-forward part whose output is scaled channel by channel, found by "
        "comparing placements for vision transformers.",
        places=(_SEQUENTIAL,),
        paper=Paper("Steitz and Roth", 2024, "Adapters Strike Back", "CVPR", "2406.06820"),
    ),
    Method(
        name="seq_bn_inv",
        title="Bottleneck with invertible adapters",
        says="For languages: beside the bottlenecks, an invertible network maps the embeddings of a new language "
        "and maps back before the output. `double_seq_bn_inv` has two bottlenecks a block.",
        places=(_SEQUENTIAL, "invertible"),
        paper=_MADX,
        kin=("double_seq_bn_inv", "pfeiffer+inv", "houlsby+inv"),
    ),
    Method(
        name="compacter",
        title="Compacter",
        says="Bottlenecks whose matrices are sums of Kronecker products: small ones that all blocks share, times "
        "low-rank ones of their own. `compacter++` has one a block instead of two.",
        places=_BOTH,
        paper=_COMPACTER,
        kin=("compacter++",),
    ),
    Method(
        name="lora",
        title="LoRA",
        says="A low-rank pair of matrices beside a frozen one, mostly query and value of attention. It can be "
        "added into the weights, and then costs nothing.",
        places=("low rank",),
        paper=Paper(
            "Hu et al.",
            2022,
            "LoRA: Low-Rank Adaptation of Large Language Models",
            "ICLR",
            "2106.09685",
        ),
        kin=("mtl_lora",),
    ),
    Method(
        name="dora",
        title="DoRA",
        says="LoRA changes the direction of each weight vector; its length is a parameter of its own.",
        places=("directions",),
        paper=Paper(
            "Liu et al.", 2024, "DoRA: Weight-Decomposed Low-Rank Adaptation", "ICML", "2402.09353"
        ),
    ),
    Method(
        name="vera",
        title="VeRA",
        says="The low-rank pair is random, frozen and shared by all layers; trained are two vectors that scale it.",
        places=("shared pairs",),
        kin=("dvora",),
        paper=Paper(
            "Kopiczko et al.",
            2024,
            "VeRA: Vector-based Random Matrix Adaptation",
            "ICLR",
            "2310.11454",
        ),
    ),
    Method(
        name="ia3",
        title="(IA)³",
        says="Three vectors a block scale the keys, the values and the inner features of the feed-forward part. "
        "Some hundred thousand parameters for a large model.",
        places=("vectors",),
        paper=Paper(
            "Liu et al.",
            2022,
            "Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning",
            "NeurIPS",
            "2205.05638",
        ),
    ),
    Method(
        name="prefix_tuning",
        title="Prefix tuning",
        says="Trained keys and values stand before those of the input in every attention; the text attends to them "
        "as to words that were never written. `prefix_tuning_flat` trains them without a network behind.",
        places=("prefix",),
        paper=Paper(
            "Li and Liang",
            2021,
            "Prefix-Tuning: Optimizing Continuous Prompts for Generation",
            "ACL",
            "2101.00190",
        ),
        kin=("prefix_tuning_flat",),
    ),
    Method(
        name="prompt_tuning",
        title="Prompt tuning",
        says="Some trained vectors stand before the embeddings of the input, and nothing else is new. It wants a "
        "large model.",
        places=("prompt",),
        paper=Paper(
            "Lester et al.",
            2021,
            "The Power of Scale for Parameter-Efficient Prompt Tuning",
            "EMNLP",
            "2104.08691",
        ),
    ),
    Method(
        name="loreft",
        title="ReFT",
        says="The hidden states of some positions, mostly the first and the last, are edited in a small subspace. "
        "`noreft` and `direft` leave out constraints that `loreft` has.",
        places=("representations",),
        paper=_REFT,
        kin=("noreft", "direft"),
    ),
    Method(
        name="bitfit",
        title="BitFit",
        says="Only the biases are trained, a tenth of a per cent of the model.",
        places=("biases",),
        paper=Paper(
            "Ben Zaken et al.",
            2022,
            "BitFit: Simple Parameter-Efficient Fine-Tuning for Transformer-based Masked Language-Models",
            "ACL",
            "2106.10199",
        ),
    ),
    Method(
        name="mam",
        title="Mix and match",
        says="A short prefix in attention and a scaled parallel bottleneck beside the feed-forward part.",
        places=("prefix", "beside feed-forward"),
        paper=_UNIFIED,
    ),
    Method(
        name="unipelt",
        title="UniPELT",
        says="LoRA, a prefix and a bottleneck together, each behind a gate that learns how much it is needed.",
        places=("low rank", "prefix", _SEQUENTIAL, "gates"),
        paper=Paper(
            "Mao et al.",
            2022,
            "UniPELT: A Unified Framework for Parameter-Efficient Language Model Tuning",
            "ACL",
            "2110.07577",
        ),
    ),
    Method(
        name="fusion",
        title="AdapterFusion",
        says="Several adapters stay as they are; an attention in each block learns, for each token, how to mix what "
        "they say.",
        places=("fusion",),
        paper=_FUSION,
    ),
)


def method(name: str) -> Method | None:
    """The method of a name, or of a preset that is nearly the same."""
    return next((each for each in METHODS if name == each.name or name in each.kin), None)
