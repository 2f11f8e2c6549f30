"""The experiments that are handed out: each file can be run as it is."""

from pathlib import Path

import msgspec
import pytest

from adapterhub_training import data, experiment, study

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "training" / "experiments").rglob("*.toml"))
DATA = ROOT.parent / "shared" / "data"

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the data is not part of the project")


@pytest.mark.parametrize("file", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_an_experiment_can_be_run_on_the_data(file, monkeypatch):
    monkeypatch.setenv("DATA", str(DATA))
    tables = experiment.tables(file)

    if study.is_study(tables):
        items = study.read(tables, str(file)).items
        tasks = [
            msgspec.convert(task, experiment.Task)
            for item in items
            for task in item.tables["tasks"]
        ]
    else:
        tasks = list(experiment.decode(tables, str(file)).tasks)

    assert tasks
    for task in {task.data: task for task in tasks}.values():
        few = data.load(task, (), {"train": 8, "validation": 8, "test": 8})
        assert len(few.splits["train"]) == 8


@pytest.mark.parametrize("folder", sorted({file.parent for file in FILES}), ids=lambda f: f.name)
def test_an_experiment_says_what_was_claimed_and_what_came_out(folder):
    text = (folder / "README.md").read_text()

    for part in ("## The claim", "## Here", "## What came out", "## The difference"):
        assert part in text
    for file in folder.glob("*.toml"):
        assert file.name in text
