"""Tiny transformers with random weights, one per architecture, and adapters strong enough to be seen."""

import os
from pathlib import Path

import pytest
import torch
import transformers
from torch import nn

from adapterhub_client import compose

torch.set_num_threads(1)
transformers.logging.disable_progress_bar()
transformers.logging.set_verbosity_error()

SMALL = {"vocab_size": 96, "max_position_embeddings": 40}
BERT_LIKE = SMALL | {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}
CONFIGS = {
    "bert": lambda: transformers.BertConfig(**BERT_LIKE),
    "roberta": lambda: transformers.RobertaConfig(**BERT_LIKE),
    "xlm-roberta": lambda: transformers.XLMRobertaConfig(**BERT_LIKE),
    "distilbert": lambda: transformers.DistilBertConfig(
        **SMALL, dim=32, n_layers=2, n_heads=4, hidden_dim=64
    ),
}


def shared_folder():
    named = os.environ.get("ADAPTERHUB_SHARED")
    return Path(named) if named else Path(__file__).resolve().parents[3].parent / "shared"


def make_model(architecture="bert", auto=transformers.AutoModel, **changes):
    torch.manual_seed(7)
    config = CONFIGS[architecture]()
    config.update(changes)
    model = auto.from_config(config)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.2)
    return model.eval()


def randomise(module, seed=0, std=0.3):
    """Weights of every kind that move the output, unlike the near-identity of a fresh adapter."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)
    return module


def make_adapted(architecture="bert", methods=(), **options):
    """Adapters a, b, c, ... with random weights, one per method."""
    adapted = compose.attach(make_model(architecture, **options))
    for index, method in enumerate(methods):
        name = "abcdefgh"[index]
        adapted.add(name, method)
        randomise(adapted.adapters[name], seed=index + 1)
    return adapted


def fused(adapted, *names, config="dynamic", seed=99):
    name = adapted.add_fusion(*names, config=config)
    randomise(adapted.fusions[name], seed=seed, std=0.08)
    return name


def hidden(adapted, inputs):
    """The last hidden state, without gradients."""
    with torch.no_grad():
        return adapted(**inputs).last_hidden_state


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(5, 90, (3, 10), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    return {"input_ids": ids, "attention_mask": mask}


@pytest.fixture(params=sorted(CONFIGS))
def architecture(request):
    return request.param
