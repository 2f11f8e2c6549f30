"""Quick is the same as slow: seeds in one pass, states that are kept, parts of batches, several processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from adapterhub_training import activations, economy, experiment, run, runfolder
from adapterhub_training.errors import BadExperiment
from adapterhub_training.progress import Quiet


def curves(results):
    return [
        [(point.train_loss, point.validation_loss) for point in seed.curve]
        for seed in results.seeds
    ]


def weights(folder):
    return load_file(folder / "adapter" / "adapter.safetensors")


@pytest.mark.parametrize("config", ["seq_bn[reduction_factor=2]", "double_seq_bn", "lora[r=4]"])
def test_seeds_in_one_pass_are_what_each_is_alone(train, tmp_path, config):
    ways = {}
    for way in ("yes", "no"):
        results = train(
            "training.seeds=[1, 2, 3]",
            "training.epochs=8",
            "training.learning_rate=3e-3",
            f"method.config={config}",
            f"training.gang={way}",
            overwrite=True,
        )
        assert results.choices.gang == (way == "yes")
        ways[way] = results, weights(tmp_path / "run")

    (together, own), (alone, other) = ways["yes"], ways["no"]
    for first, second in zip(curves(together), curves(alone), strict=True):
        assert torch.tensor(first).sub(torch.tensor(second)).abs().max() < 1e-5
    assert together.best_seed == alone.best_seed
    assert all((own[name] - other[name]).abs().max() < 1e-5 for name in own)


def test_a_seed_of_several_stops_early_without_the_others(train):
    settings = ["training.seeds=[1, 2, 3, 4]", "training.epochs=20", "training.patience=2"]
    together, alone = (
        train(*settings, f"training.gang={way}", overwrite=True) for way in ("yes", "no")
    )

    assert [seed.steps for seed in together.seeds] == [seed.steps for seed in alone.seeds]
    for first, second in zip(curves(together), curves(alone), strict=True):
        assert torch.tensor(first).sub(torch.tensor(second)).abs().max() < 1e-5
    assert len({seed.steps for seed in together.seeds}) > 1


def test_seeds_go_together_by_themselves_only_where_that_changes_nothing(train):
    settings = ["training.seeds=[1, 2]", "training.epochs=1"]

    assert train(*settings).choices.gang
    assert not train(*settings, "training.dropout=true", overwrite=True).choices.gang


def test_seeds_go_one_by_one_where_a_batch_keeps_a_cpu_busy(train, monkeypatch):
    monkeypatch.setattr(economy, "CACHED_BYTES", 1)
    settings = ["training.seeds=[1, 2]", "training.epochs=1"]

    choices = train(*settings).choices

    assert not choices.gang
    assert "large enough to keep this CPU busy" in choices.reasons[0]
    assert train(*settings, "training.gang=yes", overwrite=True).choices.gang


def test_seeds_that_cannot_go_together_are_refused_where_that_is_asked_for(train):
    with pytest.raises(BadExperiment, match="only adapters can be stacked"):
        train("training.seeds=[1, 2]", "training.gang=yes", "method={mode='head'}")


@pytest.mark.parametrize(
    ("method", "layers"),
    [
        pytest.param("method.drop_layers=0", 0, id="adapters everywhere"),
        pytest.param("method.drop_layers=1", 1, id="adapter"),
        pytest.param("method.config=par_bn", 0, id="parallel"),
        pytest.param("method.config=double_seq_bn", 0, id="two a layer"),
        pytest.param("method={mode='head'}", 2, id="head"),
        pytest.param("method={mode='top-layers', layers=1}", 1, id="top layer"),
    ],
)
def test_states_that_are_kept_change_no_result(train, tmp_path, method, layers):
    found = {}
    for way in ("yes", "no"):
        results = train(method, "training.epochs=6", f"training.cache={way}", overwrite=True)
        assert results.choices.cached_layers == (layers if way == "yes" else 0)
        assert (results.choices.cache_bytes > 0) is (way == "yes")
        found[way] = torch.tensor(curves(results))

    assert (found["yes"] - found["no"]).abs().max() < 1e-5
    kept = list((tmp_path / "cache" / "activations").iterdir())
    assert len(kept) == 2  # train and validation; test has the texts of validation
    assert all(path.suffix == ".npy" for path in kept)


def test_nothing_is_kept_where_the_first_layer_is_changed_from_its_begin_on(train):
    choices = train("method.config=lora", "training.epochs=2").choices

    assert (choices.cached_layers, choices.cache_bytes) == (0, 0)
    assert choices.reasons[1] == "nothing kept: the very first layer is trained"


@pytest.mark.parametrize("option", ["gradient_checkpointing", "compile"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's compiler
def test_parts_of_a_layer_are_not_kept_where_it_is_computed_again_or_compiled(train, option):
    choices = train(f"training.{option}=true", "training.epochs=2").choices

    assert choices.cache_bytes == 0


def test_nothing_is_kept_for_texts_that_come_once(train):
    settings = ["method={mode='head'}", "training.epochs=1"]

    once = train(*settings).choices
    twice = train(*settings, "training.seeds=[1, 2]", overwrite=True).choices
    asked = train(*settings, "training.cache=yes", overwrite=True).choices

    assert once.reasons[1] == "nothing kept: each text comes less than twice"
    assert (once.cached_layers, twice.cached_layers, asked.cached_layers) == (0, 2, 2)


def test_without_room_for_parts_of_a_layer_whole_layers_are_kept(train, monkeypatch):
    settings = ["method.drop_layers=1", "training.epochs=2"]
    both = train(*settings).choices
    monkeypatch.setattr(activations, "LARGEST_BYTES", both.cache_bytes // 2)

    layers = train(*settings, overwrite=True).choices

    assert (both.cached_layers, layers.cached_layers) == (1, 1)
    assert 0 < layers.cache_bytes < both.cache_bytes
    assert both.reasons[1].startswith(
        "what the lowest 1 layers and the fixed parts of the next make is kept"
    )
    assert layers.reasons[1].startswith("what the lowest 1 layers make is kept")


def test_states_are_kept_for_choices_too(experiment_file, tmp_path):
    rows = [
        {"context": "", "question": "a cat _ .", "choices": ["runs well", "sings"], "label": "0"},
        {"context": "", "question": "the dog _", "choices": ["sings", "runs"], "label": "1"},
    ]
    for split in ("train", "validation"):
        lines = "".join(json.dumps(row) + "\n" for row in rows * 4)
        (tmp_path / f"{split}.jsonl").write_text(lines)
    found = []
    for way in ("yes", "no"):
        overrides = [
            f"task.data={tmp_path}",
            "method={mode='head'}",
            f"training.cache={way}",
        ]
        (results,) = run.run(experiment.read(experiment_file, overrides), Quiet(), overwrite=True)
        found.append(torch.tensor(curves(results)))

    assert (found[0] - found[1]).abs().max() < 1e-5


def test_states_are_computed_once_for_all_ways_that_can_use_them(train, monkeypatch):
    computed = []
    compute = activations.compute
    monkeypatch.setattr(
        activations, "compute", lambda *given: computed.append(1) or compute(*given)
    )

    for seed in (1, 2):
        train("method={mode='head'}", f"training.seeds=[{seed}]", overwrite=True)
    assert len(computed) == 2
    train("method={mode='head'}", "training.max_length=6", overwrite=True)

    assert len(computed) == 4


def test_a_full_disk_only_means_that_nothing_is_kept(train, monkeypatch, tmp_path):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)

    results = train("method.drop_layers=1", "training.epochs=2")

    assert results.choices.cached_layers == 0
    assert results.choices.reasons[1] == "nothing kept: No space left on device"
    assert list((tmp_path / "cache" / "activations").iterdir()) == []


def test_a_damaged_file_of_states_is_computed_again(train, tmp_path):
    train("method={mode='head'}", "training.epochs=2")
    kept = tmp_path / "cache" / "activations"
    for path in kept.iterdir():
        path.write_bytes(path.read_bytes()[:50])

    results = train("method={mode='head'}", "training.epochs=2", overwrite=True)

    assert results.choices.cached_layers == 2


def test_what_was_used_longest_ago_makes_room(tmp_path, monkeypatch):
    for number, name in enumerate(("old", "new")):
        path = tmp_path / f"{name}.npy"
        path.write_bytes(bytes(100))
        os.utime(path, (number, number))
    monkeypatch.setattr(activations, "LARGEST_BYTES", 250)

    activations.make_room(tmp_path, 100)

    assert [path.stem for path in tmp_path.iterdir()] == ["new"]


def test_micro_batches_change_no_result(train):
    settings = ["training.epochs=4", "training.class_weights=balanced", "head.dropout=0"]
    whole, parts = (
        train(*settings, *more, overwrite=True) for more in ([], ["training.micro_batch_size=3"])
    )

    assert torch.tensor(curves(whole)).sub(torch.tensor(curves(parts))).abs().max() < 1e-5


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's compiler
@pytest.mark.parametrize(
    "option", ["training.gradient_checkpointing=true", "training.compile=true"]
)
def test_saving_memory_and_compiling_change_no_result(train, option):
    settings = ["training.epochs=2", "head.dropout=0", "training.cache=no"]
    plain, other = (train(*settings, *more, overwrite=True) for more in ([], [option]))

    assert torch.tensor(curves(plain)).sub(torch.tensor(curves(other))).abs().max() < 1e-4


def test_two_processes_train_what_one_does(experiment_file, tmp_path):
    settings = [
        "training.epochs=3",
        "head.dropout=0",
        "training.batch_size=7",
        "training.class_weights=balanced",
    ]
    alone = tmp_path / "alone"
    (expected,) = run.run(
        experiment.read(experiment_file, [*settings, f"output.folder={alone}"]), Quiet()
    )
    words = [word for setting in settings for word in ("--set", setting)]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    module = ["--nproc-per-node=2", "-m", "adapterhub_training.cli"]

    done = subprocess.run(
        [*torchrun, *module, "run", str(experiment_file), *words, "--json", "--quiet"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "ADAPTERHUB_CACHE": str(tmp_path / "cache")},
    )

    assert done.returncode == 0, done.stderr
    (found,) = runfolder.read_results(tmp_path / "run")
    assert json.loads(done.stdout)["task"] == "moods"  # one of them speaks
    assert torch.tensor(curves(found)).sub(torch.tensor(curves(expected))).abs().max() < 1e-5
    own, other = weights(alone), weights(tmp_path / "run")
    assert all((own[name] - other[name]).abs().max() < 1e-5 for name in own)


def test_the_folder_of_states_is_beside_what_the_client_keeps(tmp_path):
    assert economy.folder() == Path(tmp_path / "cache" / "activations")


@pytest.mark.parametrize("config", ["lora[r=4,dropout=0.3]", "seq_bn[dropout=0.3]", "mam"])
def test_seeds_that_would_not_be_the_same_together_go_one_by_one(train, config):
    results = train("training.seeds=[1, 2]", "training.epochs=1", f"method.config={config}")

    assert not results.choices.gang


def test_activations_are_computed_again_without_dropout_too(train, monkeypatch):
    calls = []
    original = torch.utils.checkpoint.checkpoint

    def counted(*args, **options):
        calls.append(1)
        return original(*args, **options)

    monkeypatch.setattr("transformers.modeling_utils.checkpoint", counted)

    train("training.gradient_checkpointing=true", "training.epochs=1")

    assert len(calls) == 3 * 2  # steps times layers
