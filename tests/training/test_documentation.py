from pathlib import Path

import pytest

from adapterhub_training import cli, experiment, study

README = (Path(__file__).parents[2] / "training" / "README.md").read_text(encoding="utf-8")
SECTIONS = (
    experiment.Task,
    experiment.Base,
    experiment.AdapterMethod,
    experiment.FusionMethod,
    experiment.HeadMethod,
    experiment.FullMethod,
    experiment.TopLayersMethod,
    experiment.MultitaskMethod,
    experiment.Head,
    experiment.Training,
    experiment.Tracking,
    experiment.Output,
)


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_every_setting_is_explained(section):
    unexplained = [field for field in section.__struct_fields__ if f"`{field}`" not in README]

    assert unexplained == []


def test_every_command_is_shown():
    assert [name for name in cli.main.commands if f"adapterhub-train {name}" not in README] == []


def test_the_experiment_in_the_readme_is_one(tmp_path):
    block = README.split("```toml\n")[1].split("```")[0]
    file = tmp_path / "mrpc.toml"
    file.write_text(block)

    read = experiment.read(file)

    assert (read.mode, read.training.seeds) == ("adapter", (1, 2, 3))


def test_the_default_learning_rates_are_the_ones_that_are_written():
    rates = [f"{method.learning_rate:.0e}".replace("e-0", "e-") for method in SECTIONS[2:6]]

    assert f"{rates[0]} adapter, {rates[1]} fusion, {rates[2]} head, {rates[3]} full" in README


def test_the_study_in_the_readme_is_one(tmp_path):
    block = README.split("```toml\n")[2].split("```")[0]
    file = tmp_path / "study.toml"
    file.write_text(block)

    several = study.read(experiment.tables(file), str(file))

    assert several.ways == ("head", "full", "single", "fusion")
    assert len(several.items) == 2 + 2 + 4 + 1
