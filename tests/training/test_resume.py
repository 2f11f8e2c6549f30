"""Killed at any moment, a run goes on and ends with the same weights, bit for bit."""

import contextlib
import json
import multiprocessing
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from adapterhub_training import checkpoint, experiment, run, runfolder
from adapterhub_training.checkpoint import Checkpoint
from adapterhub_training.errors import Diverged, Interrupted, RunExists
from adapterhub_training.progress import Quiet
from adapterhub_training.run import Around
from adapterhub_training.workshop import Workshop


def contents(folder):
    """All weights of a run, and what it reached but for the time it took."""
    found = {str(p.relative_to(folder)): load_file(p) for p in folder.rglob("*.safetensors")}
    (results,) = runfolder.read_results(folder)
    curves = [[(p.step, p.train_loss, p.metric) for p in seed.curve] for seed in results.seeds]
    return found, curves, results.mean


def same(first, second):
    (own, *rest), (other, *others) = first, second
    assert own.keys() == other.keys()
    for name, tensors in own.items():
        assert all(torch.equal(tensors[key], other[name][key]) for key in tensors), name
    assert rest == others


def stopping_after(steps):
    """Ask a run to stop when it has been asked so many times whether it should go on."""
    asked = []
    return lambda: asked.append(1) or len(asked) >= steps


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(["training.dropout=true", "training.seeds=[1]"], id="dropout"),
        pytest.param(["training.seeds=[1, 2]", "training.gang=yes"], id="gang"),
        pytest.param(["training.seeds=[1, 2]", "training.gang=no"], id="seeds"),
        pytest.param(["method={mode='full'}", "training.micro_batch_size=3"], id="full"),
        pytest.param(["method.drop_layers=1", "training.cache=yes"], id="states"),
    ],
)
def test_a_run_that_was_stopped_ends_as_one_that_was_not(experiment_file, tmp_path, settings):
    common = ["training.epochs=12", "training.patience=30", *settings]
    whole = [*common, f"output.folder={tmp_path / 'whole'}"]
    run.run(experiment.read(experiment_file, whole), Quiet())
    wanted = experiment.read(experiment_file, common)

    times = 0
    while not runfolder.read_results(tmp_path / "run"):
        around = Around(Quiet(), Workshop(), wants_to_stop=stopping_after(2))
        with contextlib.suppress(Interrupted):
            times += 1
            run.run(wanted, Quiet(), around=around)

    assert times >= 2
    same(contents(tmp_path / "whole"), contents(tmp_path / "run"))
    assert not (tmp_path / "run" / "state").exists()


def train(path, settings):
    """A run, in a process of its own."""
    torch.set_num_threads(1)
    run.run(experiment.read(path, settings), Quiet())


def test_killed_twenty_times_it_ends_with_the_same_weights(experiment_file, tmp_path):
    settings = [
        "training.dropout=true",
        "training.seeds=[1, 2]",
        "training.epochs=240",
        "training.checkpoint_seconds=0",
    ]
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["adapterhub_training.run", "transformers.models.bert"])

    def begin(*more):
        process = processes.Process(target=train, args=(experiment_file, [*settings, *more]))
        process.start()
        return process

    whole = begin(f"output.folder={tmp_path / 'whole'}", "training.checkpoint_seconds=60")
    whole.join()
    assert whole.exitcode == 0

    log = tmp_path / "run" / "log.jsonl"
    for moment in range(20):
        before = log.stat().st_size if log.exists() else 0
        process, began = begin(), time.monotonic()
        while not log.exists() or '"loss"' not in log.read_text()[before:]:
            assert time.monotonic() - began < 60
            time.sleep(0.001)
        time.sleep(moment * 7 % 20 / 80)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    last = begin()
    last.join()

    assert last.exitcode == 0
    assert log.read_text().count('"resumed"') >= 10
    same(contents(tmp_path / "whole"), contents(tmp_path / "run"))


def test_asked_to_end_it_writes_down_where_it_is(experiment_file, tmp_path):
    words = ["--set", "training.epochs=3000", "--quiet"]
    process = subprocess.Popen(
        [sys.executable, "-m", "adapterhub_training.cli", "run", str(experiment_file), *words],
        stderr=subprocess.PIPE,
        text=True,
    )
    log = tmp_path / "run" / "log.jsonl"
    while not log.exists() or '"steps"' not in log.read_text():
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)

    assert process.returncode == 75
    assert "hint: run the same command again: it goes on from there" in said
    found = checkpoint.read(tmp_path / "run" / "state")
    assert found.facts["step"] > 0


def test_an_unfinished_run_of_something_else_is_not_thrown_away(experiment_file, tmp_path):
    around = Around(Quiet(), Workshop(), wants_to_stop=lambda: True)
    with pytest.raises(Interrupted):
        run.run(experiment.read(experiment_file, ["training.epochs=9"]), Quiet(), around=around)
    other = experiment.read(experiment_file, ["training.epochs=8"])

    with pytest.raises(RunExists, match="an unfinished run of another experiment"):
        run.run(other, Quiet())

    (results,) = run.run(other, Quiet(), overwrite=True)
    assert results.seeds[0].steps == 24


def test_a_run_does_not_go_on_with_other_data(experiment_file, tmp_path, moods):
    data = tmp_path / "data"
    data.mkdir()
    for path in moods.iterdir():
        (data / path.name).write_text(path.read_text())
    wanted = experiment.read(experiment_file, [f"task.data={data}", "training.epochs=9"])
    around = Around(Quiet(), Workshop(), wants_to_stop=lambda: True)
    with pytest.raises(Interrupted):
        run.run(wanted, Quiet(), around=around)
    with (data / "train.jsonl").open("a") as file:
        file.write(json.dumps({"text": "a bird sings well .", "label": "well"}) + "\n")

    with pytest.raises(RunExists, match="or of other data"):
        run.run(wanted, Quiet())


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    checkpoint.write(tmp_path, Checkpoint({"a": torch.ones(2)}, {"step": 1}))

    def full(*_, **__):
        raise checkpoint.SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.write(tmp_path, Checkpoint({"a": torch.zeros(2)}, {"step": 2}))

    found = checkpoint.read(tmp_path)
    assert found.facts == {"step": 1}
    assert found.tensors["a"].tolist() == [1, 1]
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint.FILE]


def test_a_seed_does_not_go_on_from_another_s_checkpoint(experiment_file, tmp_path, monkeypatch):
    settings = ["training.seeds=[1, 2]", "training.gang=no", "training.checkpoint_seconds=0"]
    wanted = experiment.read(experiment_file, settings)
    whole = run.run(
        experiment.read(experiment_file, [*settings, f"output.folder={tmp_path / 'w'}"]), Quiet()
    )

    def fail(*_):
        raise ConnectionError

    with monkeypatch.context() as broken:
        broken.setattr(run, "_tell", fail)
        with pytest.raises(ConnectionError):
            run.run(wanted, Quiet())
    (results,) = run.run(wanted, Quiet())

    assert results.mean == whole[0].mean


def test_a_folder_that_only_has_an_experiment_is_no_run(experiment_file, tmp_path, tiny_base):
    home = tmp_path / "project"
    shutil.copytree(tiny_base, home / "model")
    text = experiment_file.read_text().replace(f'"{tiny_base}"', '"model"')
    (home / "run.toml").write_text(text.replace(f'"{tmp_path / "run"}"', '"."'))
    wanted = experiment.read(home / "run.toml")

    with pytest.raises(RunExists):
        run.run(wanted, Quiet())

    assert (home / "model" / "config.json").is_file()
    assert (home / "run.toml").read_text().startswith("\n[task]")


def test_after_a_loss_that_was_no_number_other_settings_start_anew(experiment_file, tmp_path):
    with pytest.raises(Diverged):
        run.run(experiment.read(experiment_file, ["training.learning_rate=1e30"]), Quiet())

    (results,) = run.run(experiment.read(experiment_file), Quiet())

    assert results.seeds[0].steps == 9
