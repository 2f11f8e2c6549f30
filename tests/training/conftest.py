import json
import shutil

import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizerFast

from adapterhub_training import experiment, run
from adapterhub_training.progress import Quiet

WORDS = ["the", "a", "cat", "dog", "bird", "sleeps", "runs", "sings", "well", "badly", "not", "."]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Nothing is kept in the cache of whoever runs the tests."""
    monkeypatch.setenv("ADAPTERHUB_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory):
    """A base model of two layers and 32 features with a tokenizer for a dozen words, in a folder."""
    folder = tmp_path_factory.mktemp("base")
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    BertModel(
        BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            max_position_embeddings=64,
            initializer_range=0.5,  # large, or random layers tell all texts the same
        )
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def half_base(tiny_base, tmp_path_factory):
    """The same base in float16."""
    folder = tmp_path_factory.mktemp("half") / "model"
    shutil.copytree(tiny_base, folder)
    BertModel.from_pretrained(tiny_base, dtype=torch.float16).save_pretrained(folder)
    return folder


@pytest.fixture
def moods(tmp_path_factory):
    """A task that a tiny model learns: is it done well or badly; a test may write into it."""
    folder = tmp_path_factory.mktemp("moods")
    rows = [
        {"text": f"{article} {animal} {deed} {how} .", "label": how}
        for article in ("the", "a")
        for animal in ("cat", "dog", "bird")
        for deed in ("sleeps", "runs", "sings")
        for how in ("well", "badly")
    ]
    write_splits(folder, rows[:24], rows[24:], rows[24:])
    return folder


@pytest.fixture
def experiment_file(tmp_path, tiny_base, moods):
    """An adapter experiment on the tiny base; a few seconds of training."""
    path = tmp_path / "moods.toml"
    path.write_text(f"""
[task]
name = "moods"
data = "{moods}"

[base]
path = "{tiny_base}"

[method]
mode = "adapter"
config = "seq_bn[reduction_factor=2]"

[training]
epochs = 3
batch_size = 8
learning_rate = 1e-2
dropout = false
max_length = 64
device = "cpu"

[output]
folder = "{tmp_path / "run"}"
reference = "moods/tiny@demo"
""")
    return path


@pytest.fixture
def train(experiment_file):
    """Run the experiment with some settings changed."""

    def train(*overrides, overwrite=False):
        wanted = experiment.read(experiment_file, overrides)
        (results,) = run.run(wanted, Quiet(), overwrite=overwrite)
        return results

    return train


def write_splits(folder, train, validation, test=None):
    for split, rows in (("train", train), ("validation", validation), ("test", test)):
        if rows:
            lines = "".join(json.dumps(row) + "\n" for row in rows)
            (folder / f"{split}.jsonl").write_text(lines)
