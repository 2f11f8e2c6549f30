import json
import math

import msgspec
import pytest
import torch
from safetensors.torch import load_file

from adapterhub_client import fingerprint
from adapterhub_client.formats import folder as folders
from adapterhub_client.formats.folder import Run
from adapterhub_training import backbone, experiment, report, run, saved
from adapterhub_training.errors import BadData, BadExperiment, Diverged
from adapterhub_training.kinds import Row
from adapterhub_training.progress import Quiet
from adapterhub_training.results import Results
from adapterhub_training.workshop import Workshop

QUIET = Quiet()


@pytest.fixture
def members(experiment_file, tmp_path):
    """Two trained adapters and the experiment that fuses them."""
    for name, seed in (("first", 1), ("second", 2)):
        wanted = [
            f"task.name={name}",
            f"training.seeds=[{seed}]",
            f"output.folder={tmp_path / name}",
        ]
        run.run(experiment.read(experiment_file, wanted), QUIET)
    folders_of = [str(tmp_path / name / "adapter") for name in ("first", "second")]
    text = experiment_file.read_text().replace(
        'mode = "adapter"\nconfig = "seq_bn[reduction_factor=2]"', ""
    )
    experiment_file.write_text(
        text.replace("[method]", f'[method]\nmode = "fusion"\nmembers = {json.dumps(folders_of)}')
    )
    return folders_of


def test_an_adapter_learns(train):
    results = train("training.epochs=30")

    assert results.mean["accuracy"] == 1
    assert results.seeds[0].curve[-1].train_loss < results.seeds[0].curve[0].train_loss


def test_a_head_alone_is_trained_with_every_adapter_away(train, tmp_path):
    results = train("method={mode='head'}", "training.epochs=1")

    assert results.parameters_trained == 32 * 32 + 32 + 32 * 2 + 2
    assert sorted(path.name for path in (tmp_path / "run" / "head").iterdir()) == [
        "head_config.json",
        "model_head.safetensors",
    ]
    assert not (tmp_path / "run" / "push.json").exists()


def test_a_fusion_trains_its_projections_and_head_and_nothing_else(members, train, tmp_path):
    before = {path: load_file(f"{path}/adapter.safetensors") for path in members}

    results = train("training.epochs=2")

    places = 2
    projections = 3 * 32 * 32 + 32  # the key's bias cancels in the softmax
    head = 32 * 32 + 32 + 32 * 2 + 2
    assert results.parameters_trained == places * projections + head
    for path, tensors in before.items():
        now = load_file(f"{path}/adapter.safetensors")
        assert all(torch.equal(now[name], tensor) for name, tensor in tensors.items())
    assert (tmp_path / "run" / "fusion" / "composition.json").is_file()


def test_the_value_maps_of_a_fusion_do_not_decay(members, train, tmp_path):
    train("training.epochs=1", "training.learning_rate=1e-3", "training.weight_decay=1000")

    tensors = load_file(tmp_path / "run" / "fusion" / "model_adapter_fusion.safetensors")
    values = [tensor for name, tensor in tensors.items() if "value.weight" in name]
    queries = [tensor for name, tensor in tensors.items() if "query.weight" in name]
    assert len(values) == len(queries) == 2
    assert all(value.diagonal().mean() > 0.99 for value in values)
    assert all(query.abs().mean() < 2e-3 for query in queries)


def test_a_saved_fusion_predicts_as_it_did(members, train, tmp_path):
    results = train("training.epochs=2")

    reached, split = saved.load(tmp_path / "run").evaluate()

    assert split == "test"
    assert reached.confusion == results.best.reported.confusion
    assert reached.loss == pytest.approx(results.best.reported.loss, abs=1e-6)


def test_a_fusion_starts_from_the_head_of_the_own_adapter(members, train, tmp_path):
    own = f"method={{mode='fusion', members=['{members[0]}'], own='{members[1]}'}}"

    train(own, "training.learning_rate=1e-12", "training.epochs=1")

    start = load_file(f"{members[1]}/model_head.safetensors")
    end = load_file(tmp_path / "run" / "fusion" / "model_head.safetensors")
    assert all(
        torch.allclose(now, then)
        for (_, now), (_, then) in zip(sorted(end.items()), sorted(start.items()), strict=True)
    )


def test_two_members_of_one_name_are_refused(members, train):
    with pytest.raises(BadExperiment, match="Two members of the fusion are named 'first'"):
        train(f"method.members=['{members[0]}', '{members[0]}']")


@pytest.mark.parametrize("method", ["adapter", "head", "full", "top-layers"])
def test_the_base_is_bit_for_bit_what_it_was(experiment_file, method):
    wanted = experiment.read(experiment_file, [f"method={{mode='{method}'}}", "training.epochs=1"])
    shop = Workshop()
    before = {name: t.clone() for name, t in shop.base(wanted).model.state_dict().items()}

    run.run(wanted, QUIET, around=run.Around(QUIET, shop))

    after = shop.base(wanted).model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_the_same_seed_gives_the_same_weights(train, tmp_path):
    train()
    first = load_file(tmp_path / "run" / "adapter" / "adapter.safetensors")

    train(overwrite=True)

    again = load_file(tmp_path / "run" / "adapter" / "adapter.safetensors")
    assert all(torch.equal(again[name], tensor) for name, tensor in first.items())


def test_another_seed_gives_other_weights(train, tmp_path):
    train("training.seeds=[1]")
    first = load_file(tmp_path / "run" / "adapter" / "adapter.safetensors")

    train("training.seeds=[2]", overwrite=True)

    again = load_file(tmp_path / "run" / "adapter" / "adapter.safetensors")
    assert any(not torch.equal(again[name], tensor) for name, tensor in first.items())


def test_several_seeds_give_mean_and_spread_and_keep_the_best(train):
    results = train("training.seeds=[1, 2, 3]", "training.epochs=2", "training.learning_rate=3e-3")

    values = [seed.reported.value("accuracy") for seed in results.seeds]
    mean = sum(values) / 3
    assert results.mean["accuracy"] == pytest.approx(mean)
    assert results.std["accuracy"] == pytest.approx(
        math.sqrt(sum((value - mean) ** 2 for value in values) / 2)
    )
    selected = {seed.seed: seed.selected.value("accuracy") for seed in results.seeds}
    assert selected[results.best_seed] == max(selected.values())


def test_the_size_on_disk_is_that_of_the_weights_that_are_kept(train, tmp_path):
    results = train("training.seeds=[1, 2, 3]", "training.epochs=1")

    kept = (tmp_path / "run").rglob("*.safetensors")
    assert results.extra.file_bytes == sum(path.stat().st_size for path in kept)


def test_the_saved_adapter_predicts_as_the_best_seed_did(train, tmp_path):
    results = train("training.seeds=[1, 2]")

    reached, _ = saved.load(tmp_path / "run").evaluate()

    assert reached.confusion == results.best.reported.confusion
    assert reached.loss == pytest.approx(results.best.reported.loss, abs=1e-6)


def test_the_best_checkpoint_is_kept_and_not_the_last(train):
    results = train("training.epochs=6", "training.learning_rate=0.05")

    seed = results.seeds[0]
    best = max(point.metric for point in seed.curve)
    assert seed.selected.value("accuracy") == best
    assert seed.best_step == next(point.step for point in seed.curve if point.metric == best)


def test_training_stops_when_patience_runs_out(train):
    results = train("training.epochs=40", "training.patience=2", "training.learning_rate=1e-9")

    seed = results.seeds[0]
    assert seed.stopped_early
    assert len(seed.curve) == 3
    assert seed.steps == 9


def test_steps_can_be_limited(train):
    results = train("training.max_steps=4")

    assert results.seeds[0].steps == 4
    assert [point.step for point in results.seeds[0].curve] == [3, 4]


def test_a_loss_that_is_no_number_ends_the_run(train):
    with pytest.raises(Diverged, match="not finite any more at step"):
        train("training.learning_rate=1e38", "training.clip_norm=1e38", "training.epochs=9")


def test_a_last_update_that_breaks_the_weights_ends_the_run(train, tmp_path):
    with pytest.raises(Diverged, match="not finite any more at step 1"):
        train("training.learning_rate=1e30", "training.max_steps=1")

    assert not (tmp_path / "run" / "results.json").exists()


def test_bad_data_is_found_before_anything_starts(train, tmp_path, moods):
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in moods.iterdir():
        (broken / path.name).write_text(path.read_text())
    (broken / "test.jsonl").write_text('{"text": "the cat", "label": "so so"}\n')

    with pytest.raises(BadData, match=r"test\.jsonl', line 1: the label 'so so'"):
        train(f"task.data={broken}")

    assert not (tmp_path / "run").exists()


def test_texts_longer_than_the_base_can_read_are_refused_before_anything_starts(train, tmp_path):
    with pytest.raises(BadExperiment, match="is 65, but the base model reads at most 64 tokens"):
        train("training.max_length=65")

    assert not (tmp_path / "run").exists()


def test_the_run_folder_says_everything(train, tmp_path):
    results = train("training.epochs=2")

    folder = tmp_path / "run"
    again = msgspec.json.decode((folder / "results.json").read_bytes(), type=Results)
    assert again == results
    assert experiment.read(folder / "run.toml").training.epochs == 2
    assert "Confusion matrix" in (folder / "report.md").read_text()
    events = [json.loads(line)["event"] for line in (folder / "log.jsonl").read_text().splitlines()]
    assert events[0] == "run"
    assert events.count("evaluation") == 2
    assert events[-2:] == ["seed", "result"]


def test_results_know_data_parameters_and_base(train, tiny_base):
    results = train("training.epochs=1")

    base = sum(
        p.numel() for p in backbone.load(str(tiny_base), torch.device("cpu")).model.parameters()
    )
    assert results.examples == {"train": 24, "validation": 12, "test": 12}
    assert results.parameters_base == base
    assert results.share_of_base == results.parameters_trained / base
    assert results.data_digest.startswith("sha256:")
    assert results.base_fingerprint.startswith("sha256:")
    assert results.padding_share == 0


def test_a_push_finds_metrics_and_provenance(train, tmp_path):
    results = train("training.seeds=[1, 2]", "training.epochs=1")

    push = msgspec.json.decode((tmp_path / "run" / "push.json").read_bytes(), type=Run)
    accuracy = next(metric for metric in push.metrics if metric.name == "accuracy")
    assert push.reference == "moods/tiny@demo"
    assert (accuracy.dataset, accuracy.split, accuracy.seeds) == ("moods", "test", [1, 2])
    assert accuracy.value == results.mean["accuracy"]
    assert accuracy.std == results.std["accuracy"]
    assert push.training.data_digest == results.data_digest
    assert push.training.hyperparameters["learning_rate"] == 1e-2
    assert push.training.hyperparameters["config"] == "seq_bn[reduction_factor=2]"


def test_the_client_can_read_a_run_folder(train, tmp_path):
    train("training.epochs=1")

    content = folders.inspect(tmp_path / "run")

    assert content.method.config["reduction_factor"] == 2
    assert [head.labels for head in content.heads] == [["badly", "well"]]
    assert "adapter.safetensors" in content.files


def test_the_report_shows_mean_and_spread(train):
    results = train("training.seeds=[1, 2]", "training.epochs=1")

    assert (
        f"accuracy  {results.mean['accuracy']:.4f} ± {results.std['accuracy']:.4f}"
        in report.summary(results)
    )


def test_the_confusion_matrix_is_a_table_with_gold_rows(train):
    results = train("training.epochs=30")

    table = report.confusion(results.best.reported, results.labels)

    assert table.splitlines() == ["       badly  well", "badly      6     0", "well       0     6"]


def test_probabilities_of_a_prediction_add_up(train, tmp_path):
    train("training.epochs=30")

    predictions = saved.load(tmp_path / "run").predict(
        [Row(text="a bird sings well ."), Row(text="a bird runs badly .")]
    )

    assert [prediction.label for prediction in predictions] == ["well", "badly"]
    assert sum(predictions[0].probabilities.values()) == pytest.approx(1, abs=1e-5)


def test_bf16_keeps_what_is_trained_in_float32(train, tmp_path):
    results = train("training.precision=bfloat16", "training.epochs=30")

    weights = load_file(tmp_path / "run" / "adapter" / "adapter.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    assert results.mean["accuracy"] == 1


def test_on_a_base_in_half_precision_float32_is_trained(train, tmp_path, half_base):
    train(f"base.path={half_base}", "training.epochs=1")

    for file in ("adapter.safetensors", "model_head.safetensors"):
        tensors = load_file(tmp_path / "run" / "adapter" / file)
        assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}


def test_a_run_names_its_base_as_the_files_do(train, tmp_path, half_base):
    results = train(f"base.path={half_base}", "training.epochs=1")

    identity = fingerprint.of_folder(half_base)
    saved_as = fingerprint.read(tmp_path / "run" / "adapter" / "base_fingerprint.json")
    assert saved_as == identity
    assert results.base_fingerprint == identity.root
    reached, _ = saved.load(tmp_path / "run").evaluate()
    assert reached.loss == pytest.approx(results.best.reported.loss, abs=1e-6)
