"""What is trained in each mode, what is written, and that it can be used again."""

import json

import pytest
import torch
from safetensors.torch import load_file

from adapterhub_client.formats import folder as folders
from adapterhub_training import experiment, run, saved
from adapterhub_training.errors import BadExperiment
from adapterhub_training.kinds import Row
from adapterhub_training.progress import Quiet

HEAD = 32 * 32 + 32 + 32 * 2 + 2


def test_full_fine_tuning_trains_all_of_the_base_and_keeps_it(train, tmp_path, tiny_base):
    results = train("method.mode=full", "method={mode='full'}", "training.learning_rate=1e-3")

    folder = tmp_path / "run"
    before, after = (load_file(f / "model.safetensors") for f in (tiny_base, folder / "model"))
    assert results.parameters_trained == results.parameters_base + HEAD
    assert any(not torch.equal(before[name], after[name]) for name in before)
    reached, _ = saved.load(folder).evaluate()
    assert reached.loss == pytest.approx(results.best.reported.loss, abs=1e-5)
    assert not (folder / "push.json").exists()


def test_top_layers_are_trained_and_what_is_below_stays(train, tmp_path, tiny_base):
    train("method={mode='top-layers', layers=1}", "training.learning_rate=1e-2")

    before, after = (
        load_file(f / "model.safetensors") for f in (tiny_base, tmp_path / "run" / "model")
    )
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith("encoder.layer.1.") for name in changed)


def test_more_top_layers_than_there_are_are_refused(train):
    with pytest.raises(BadExperiment, match=r"`method\.layers` is 3, but the base has 2 layers"):
        train("method={mode='top-layers', layers=3}")


def test_an_adapter_can_be_left_out_of_the_lowest_layers(train, tmp_path):
    results = train("method.drop_layers=1")

    weights = load_file(tmp_path / "run" / "adapter" / "adapter.safetensors")
    assert all("layer.1." in name for name in weights)
    assert results.method == "seq_bn[reduction_factor=2] without the lowest 1 layers"
    reached, _ = saved.load(tmp_path / "run").evaluate()
    assert reached.loss == pytest.approx(results.best.reported.loss, abs=1e-5)


@pytest.mark.parametrize(
    "config",
    [
        "compacter[phm_dim=2,reduction_factor=2]",
        "double_seq_bn",
        "par_bn",
        "lora",
        "ia3",
        "prefix_tuning",
        "loreft",
    ],
)
def test_every_method_is_trained_saved_and_found_again(train, tmp_path, config):
    results = train(f"method.config={config}", "training.epochs=2")

    reached, _ = saved.load(tmp_path / "run").evaluate()
    assert reached.loss == pytest.approx(results.best.reported.loss, abs=1e-5)


def test_the_head_is_as_asked_for(train, tmp_path):
    train("head.layers=1", "head.dropout=0.5", "training.epochs=1")

    tensors = load_file(tmp_path / "run" / "adapter" / "model_head.safetensors")
    config = json.loads((tmp_path / "run" / "adapter" / "head_config.json").read_text())
    assert sorted(tensor.shape for tensor in tensors.values()) == [(2,), (2, 32)]
    assert config["config"]["dropout_prob"] == 0.5


@pytest.fixture
def together(experiment_file, tmp_path, moods):
    """Learn two tasks together; the second asks what the animal does."""
    other = tmp_path / "deeds"
    other.mkdir()
    for path in moods.iterdir():
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        rows = [{"text": row["text"], "label": row["text"].split()[2]} for row in rows]
        (other / path.name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = experiment_file.read_text()
    text = text.replace("[task]", "[[tasks]]", 1).replace(
        "[base]", f'[[tasks]]\nname = "deeds"\ndata = "{other}"\n\n[base]'
    )
    text = text.replace('mode = "adapter"', 'mode = "multitask"').replace(
        'reference = "moods/tiny@demo"\n', ""
    )
    experiment_file.write_text(text)

    def together(*overrides):
        wanted = experiment.read(
            experiment_file, ["training.epochs=20", "head.dropout=0", *overrides]
        )
        return run.run(wanted, Quiet(), overwrite=True)

    return together


def test_tasks_are_learned_together_each_with_an_adapter_on_the_base_they_share(
    together, tmp_path, tiny_base
):
    moods, deeds = together()

    assert min(moods.mean["accuracy"], deeds.mean["accuracy"]) > 0.7
    assert deeds.labels == ("runs", "sings", "sleeps")
    before, after = (
        load_file(f / "model.safetensors") for f in (tiny_base, tmp_path / "run" / "base")
    )
    assert any(not torch.equal(before[name], after[name]) for name in before)
    for results in (moods, deeds):
        folder = tmp_path / "run" / "tasks" / results.task
        reached, _ = saved.load(folder).evaluate()
        assert reached.loss == pytest.approx(results.best.reported.loss, abs=1e-5)
        assert folders.inspect(folder).base.fingerprint == results.base_fingerprint


def test_one_adapter_for_all_tasks_leaves_the_base_alone(together, tmp_path):
    results = together("method.shared=adapter")

    weights = [
        load_file(tmp_path / "run" / "tasks" / name / "adapter" / "adapter.safetensors")
        for name in ("moods", "deeds")
    ]
    assert not (tmp_path / "run" / "base").exists()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert max(each.mean["accuracy"] for each in results) > 0.6


@pytest.mark.parametrize("sampling", ["proportional", "uniform", "temperature"])
def test_tasks_are_drawn_as_asked_for(together, sampling):
    found = together(f"method.sampling={sampling}", "training.epochs=2")

    assert [each.task for each in found] == ["moods", "deeds"]


def test_a_run_of_several_tasks_is_asked_for_one_of_them(together, tmp_path):
    together("training.epochs=1")

    with pytest.raises(BadExperiment, match="has several tasks"):
        saved.load(tmp_path / "run")
    model = saved.load(tmp_path / "run" / "tasks" / "deeds")
    assert model.predict([Row(text="a bird sings well .")])[0].label in model.results.labels


def test_a_fusion_of_what_was_learned_together_is_on_the_base_that_was_trained(
    together, experiment_file, tmp_path
):
    together("training.epochs=2")
    members = [str(tmp_path / "run" / "tasks" / name / "adapter") for name in ("moods", "deeds")]
    text = experiment_file.read_text()
    begin, end = text.index('[[tasks]]\nname = "deeds"'), text.index("[base]")
    file = tmp_path / "fusion.toml"
    file.write_text((text[:begin] + text[end:]).replace("[[tasks]]", "[task]"))

    (results,) = run.run(
        experiment.read(
            file,
            [
                f"method={{mode='fusion', members={json.dumps(members)}}}",
                f"base.path={tmp_path / 'run' / 'base'}",
                f"output.folder={tmp_path / 'fused'}",
            ],
        ),
        Quiet(),
    )

    assert results.extra.attention.members == ("moods", "deeds")
    for layer in results.extra.attention.layers:
        assert sum(layer.weights) == pytest.approx(1, abs=1e-4)
    assert [len(pruned.kept) for pruned in results.extra.pruning] == [2, 1]
    assert results.extra.pruning[0].value == results.best.reported.value("accuracy")
