"""What may be in a run's folder before the run, and what becomes of it."""

import pytest

from adapterhub_client.errors import HubError
from adapterhub_training import runfolder
from adapterhub_training.errors import Diverged, RunExists


def test_a_folder_with_anything_in_it_is_not_touched(train, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("ten years")

    with pytest.raises(RunExists):
        train(overwrite=True)

    assert (tmp_path / "run" / "thesis.txt").read_text() == "ten years"


def test_a_finished_run_is_replaced_only_when_asked(train):
    train("training.epochs=1")

    with pytest.raises(RunExists):
        train("training.epochs=1")

    assert train("training.epochs=2", overwrite=True).seeds[0].steps == 6


@pytest.mark.parametrize(
    "mistake",
    [
        pytest.param("task.data=/no/such/folder", id="data"),
        pytest.param("base.path=/no/such/folder", id="base"),
        pytest.param("method.config=seq_bm", id="method"),
        pytest.param("training.max_length=65", id="length"),
        pytest.param("method={mode='fusion', members=['/no/a', '/no/b']}", id="members"),
    ],
)
def test_a_finished_run_outlives_a_mistake_in_the_one_to_replace_it(train, tmp_path, mistake):
    train("training.epochs=1")
    before = contents(tmp_path / "run")

    with pytest.raises(HubError):
        train(mistake, overwrite=True)

    assert contents(tmp_path / "run") == before


def test_a_run_killed_while_it_is_cleared_can_be_started_again(train, tmp_path, monkeypatch):
    train("training.epochs=1")
    with monkeypatch.context() as patch:
        patch.setattr(runfolder.shutil, "rmtree", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train("training.epochs=1", overwrite=True)
    assert not (tmp_path / "run" / "results.json").exists()

    assert train("training.epochs=1").seeds[0].steps == 3


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def interrupt(*_, **__):
    raise KeyboardInterrupt


def test_a_run_that_did_not_finish_can_simply_be_started_again(train, tmp_path):
    with pytest.raises(Diverged):
        train("training.learning_rate=1e38", "training.clip_norm=1e38", "training.epochs=9")
    assert (tmp_path / "run" / "run.toml").is_file()

    assert train("training.epochs=1").seeds[0].steps == 3
