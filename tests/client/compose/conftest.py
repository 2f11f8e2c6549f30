"""Tiny transformers with random weights, one per architecture, and adapters strong enough to be seen."""

import os
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from torch import nn

from adapterhub_client import compose, wire
from adapterhub_client.errors import Ambiguous
from adapterhub_client.formats import method as formats

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


class Library:
    """Stands in for a hub: published folders, each with its manifest, by pinned and by plain reference."""

    def __init__(self, root):
        self.root = root
        self.folders = {}
        self.pulled = []

    def publish(self, reference, folder, *, format="adapters", root=None):  # noqa: A002 - the manifest's word
        task, _, rest = reference.partition("/")
        name, _, org = rest.partition("@")
        manifest = wire.Manifest(
            reference=wire.Name(task=task, name=name, org=org),
            base=wire.Base(name="tiny", architecture="bert", fingerprint=root),
            method=wire.Method(
                name="seq_bn", config_id=formats.config_id(formats.SEQ_BN.to_dict()), format=format
            ),
        )
        kept = self.root / f"{task}-{name}-{org}-{len(self.folders)}"
        shutil.copytree(folder, kept)
        (kept / "manifest.json").write_bytes(wire.canonical(manifest))
        self.folders[reference] = kept
        self.folders[f"{reference}:{wire.digest(manifest)}"] = kept
        return wire.digest(manifest)

    def pull(self, reference, *, base, allow_base_mismatch):
        assert base.root.startswith("sha256:")
        assert not allow_base_mismatch
        self.pulled.append(reference)
        if reference not in self.folders:
            raise Ambiguous(f"{reference} has several versions.")
        return self.folders[reference]


@pytest.fixture
def library(tmp_path):
    return Library(tmp_path / "library")


@pytest.fixture
def published(library, tmp_path):
    """Two adapters, published: nli/mnli@ukp and sts/qqp@ukp."""
    adapted = make_adapted("bert", ["seq_bn", "double_seq_bn"])
    digests = {}
    for name, reference in (("a", "nli/mnli@ukp"), ("b", "sts/qqp@ukp")):
        adapted.save(name, tmp_path / name)
        digests[reference] = library.publish(reference, tmp_path / name)
    return digests


def attached(library):
    return compose.attach(make_model(), hub=library)


def published_fusion(library, tmp_path, expression="fuse(mnli, qqp)"):
    """A fusion over the two, trained on another machine and published; the logits it gives."""
    adapted = attached(library)
    adapted.load("nli/mnli@ukp", name="mnli")
    adapted.load("sts/qqp@ukp", name="qqp")
    adapted.add_fusion("mnli", "qqp")
    randomise(adapted.fusions["mnli,qqp"], seed=5, std=0.1)
    adapted.add_head("rte", labels=["no", "yes"])
    adapted.activate(expression, head="rte")
    adapted.save_fusion("mnli,qqp", tmp_path / "fusion", head="rte")
    return adapted
