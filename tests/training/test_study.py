"""Several runs from one file: what they are, that they go on, what the tables say."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from adapterhub_training import experiment, page, run, runfolder, significance, study, tables
from adapterhub_training.errors import BadExperiment, Interrupted, NotARun, StudyChanged
from adapterhub_training.progress import Quiet
from adapterhub_training.run import Around
from adapterhub_training.workshop import Workshop


@pytest.fixture
def two_tasks(experiment_file, moods, tmp_path):
    """A file with two tasks and no method; whoever uses it adds ways."""
    other = tmp_path / "deeds"
    other.mkdir()
    for path in moods.iterdir():
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        rows = [{"text": row["text"], "label": row["text"].split()[2]} for row in rows]
        (other / path.name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = experiment_file.read_text().replace("[task]", "[[tasks]]", 1)
    text = text.replace("[base]", f'[[tasks]]\nname = "deeds"\ndata = "{other}"\n\n[base]')
    text = text.replace('[method]\nmode = "adapter"\nconfig = "seq_bn[reduction_factor=2]"\n', "")
    text = text.replace('reference = "moods/tiny@demo"\n', "")
    experiment_file.write_text(text)
    return experiment_file


def read(file, more="", overrides=()):
    file.write_text(file.read_text() + more)
    return study.read(experiment.tables(file, ["training.epochs=2", *overrides]), str(file))


def around(**options):
    return Around(Quiet(), Workshop(), **options)


WAYS = """
[compare.head]
method = {mode = "head"}

[compare.single]
method = {mode = "adapter", config = "seq_bn[reduction_factor=2]"}

[compare.fusion]
method = {mode = "fusion", members = ["runs:single"], own = "runs:single"}
"""


def test_a_plain_file_is_no_study(experiment_file):
    assert not study.is_study(experiment.tables(experiment_file))


def test_every_way_is_run_on_every_task_and_makes_use_of_the_ones_before(two_tasks, tmp_path):
    several = read(two_tasks, WAYS)

    found = study.run(several, around())

    assert [(item.way, results.task) for item, results in found] == [
        (way, task) for way in ("head", "single", "fusion") for task in ("moods", "deeds")
    ]
    fused = experiment.read(tmp_path / "run" / "fusion" / "deeds" / "run.toml").method
    assert fused.members == (str(tmp_path / "run" / "single" / "moods" / "adapter"),)
    assert fused.own == str(tmp_path / "run" / "single" / "deeds" / "adapter")
    composition = json.loads(
        (tmp_path / "run" / "fusion" / "deeds" / "fusion" / "composition.json").read_text()
    )
    assert [member["name"] for member in composition["members"]] == ["moods", "deeds"]


def test_a_study_goes_on_where_it_was_stopped(two_tasks, tmp_path):
    several = read(two_tasks, WAYS, ["training.epochs=8"])
    with pytest.raises(Interrupted):
        study.run(several, around(wants_to_stop=lambda: True))
    assert study.results(several) == []
    study.run(several, around())
    before = (tmp_path / "run" / "head" / "moods" / "results.json").stat().st_mtime_ns

    study.run(several, around())

    assert (tmp_path / "run" / "head" / "moods" / "results.json").stat().st_mtime_ns == before
    log = (tmp_path / "run" / "head" / "moods" / "log.jsonl").read_text()
    assert '"resumed"' in log


def test_several_tasks_learned_together_are_a_base_and_members_for_others(two_tasks, tmp_path):
    several = read(
        two_tasks,
        """
[compare.together]
method = {mode = "multitask", config = "seq_bn[reduction_factor=2]"}

[compare.fusion]
method = {mode = "fusion", members = ["runs:together"], own = "runs:together"}
base = {path = "runs:together"}
tasks = ["deeds"]
""",
    )

    found = study.run(several, around())

    assert [(item.way, item.task, own.task) for item, own in found] == [
        ("together", "", "moods"),
        ("together", "", "deeds"),
        ("fusion", "deeds", "deeds"),
    ]
    used = experiment.read(tmp_path / "run" / "fusion" / "deeds" / "run.toml")
    assert used.base.path == str(tmp_path / "run" / "together" / "base")


def test_of_bases_that_were_tried_a_later_way_stands_on_the_best(two_tasks, tmp_path):
    several = read(
        two_tasks,
        """
[compare.together]
method = {mode = "multitask", config = "seq_bn[reduction_factor=2]"}
sweep = {"training.learning_rate" = [1e-9, 1e-2]}

[compare.fusion]
method = {mode = "fusion", members = ["runs:together"], own = "runs:together"}
base = {path = "runs:together"}
tasks = ["deeds"]
""",
        ["training.epochs=12"],
    )

    study.run(several, around())

    best = study.best(several, "together", "")
    assert best.point == {"training.learning_rate": 1e-2}
    used = experiment.read(tmp_path / "run" / "fusion" / "deeds" / "run.toml")
    assert used.base.path == f"{best.folder}/base"
    sources = [used.method.own, *used.method.members]
    assert all(source.startswith(f"{best.folder}/tasks/") for source in sources), sources


def test_settings_are_tried_in_every_combination_and_the_best_is_used(experiment_file, tmp_path):
    several = read(
        experiment_file,
        """
[sweep]
"training.learning_rate" = [1e-9, 1e-2]
"method.config" = ["seq_bn[reduction_factor=2]", "seq_bn[reduction_factor=4]"]
""",
        ["training.epochs=20"],
    )

    found = study.run(several, around())

    tried = [item.point for item, _ in found]
    assert len({json.dumps(point) for point in tried}) == 4
    best = study.best(several, "", "moods")
    assert best.point["training.learning_rate"] == 1e-2
    reached = {results.parameters_trained for _, results in found}
    assert len(reached) == 2


def test_a_sample_of_the_combinations_can_be_tried(experiment_file):
    several = read(
        experiment_file, '\n[sweep]\n"training.learning_rate" = [1e-4, 1e-3, 1e-2]\nsamples = 2\n'
    )

    assert len(several.items) == 2


def test_a_task_can_have_settings_of_its_own(two_tasks):
    two_tasks.write_text(
        two_tasks.read_text().replace(
            'name = "deeds"', 'name = "deeds"\ntraining = {epochs = 7, batch_size = 4}'
        )
    )
    several = read(two_tasks, WAYS)

    epochs = {
        item.task: study.experiment_of(item, several).training.epochs
        for item in several.items
        if item.way == "head"
    }
    assert epochs == {"moods": 2, "deeds": 7}


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        pytest.param(
            '[compare.a]\nmethod = {mode = "fusion", members = ["runs:b"]}\n',
            "`runs:b` in `compare.a` is no way before it",
            id="way",
        ),
        pytest.param("[compare.a]\nmethd = {}\n", "is no table of an experiment's", id="table"),
        pytest.param(
            '[compare.a]\nmethod = {mode = "head"}\ntasks = ["moods", "x"]\n',
            "is of 'x', which is no task",
            id="task",
        ),
        pytest.param('[sweep]\n"training.epochs" = 3\n', "a list of values", id="values"),
        pytest.param("[sweep]\nepochs = [3]\n", "which is no key of a table", id="key"),
        pytest.param(
            '[compare.a]\nmethod = {mode = "head", config = "x"}\n', "unknown field", id="field"
        ),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(two_tasks, tmp_path, more, fault):
    two_tasks.write_text(two_tasks.read_text() + '\n[method]\nmode = "head"\n')
    with pytest.raises(BadExperiment, match=fault):
        read(two_tasks, "\n" + more)

    assert not (tmp_path / "run").exists()


def test_the_tables_show_scores_costs_and_differences(two_tasks, tmp_path):
    several = read(two_tasks, WAYS, ["training.seeds=[1, 2]", "training.epochs=20"])
    study.run(several, around())

    tables.write(several)

    text = (tmp_path / "run" / "report.md").read_text()
    assert "| task | head | single | fusion |" in text
    assert "over 2 seeds" in text
    assert "| mean |" in text
    assert "against head" in text
    found = {(task, way): difference for task, way, difference in tables.compared(several)}
    assert found["moods", "single"].mean > 0
    assert tables.text(several).splitlines()[1].split() == ["task", "head", "single", "fusion"]


def test_runs_that_were_made_apart_are_compared(train, tmp_path):
    for name, method in (("adapter", "adapter"), ("head", "head")):
        train(f"method={{mode='{method}'}}", f"output.folder={tmp_path / name}")

    several = study.of_runs([tmp_path / "head", tmp_path / "adapter"])

    assert several.ways == ("head", "adapter")
    assert [way for _, way, _ in tables.compared(several)] == ["adapter"]
    with pytest.raises(NotARun):
        study.of_runs([tmp_path / "nowhere"])


def test_no_difference_is_found_between_a_way_and_itself():
    scores = (np.random.default_rng(1).random((3, 400)) < 0.7).astype(np.float32)

    same = significance.difference(scores, scores)

    assert same.mean == 0
    assert same.low < 0 < same.high
    assert same.p > 0.5


def test_a_clear_difference_is_found():
    chance = np.random.default_rng(1)
    weak = (chance.random((3, 400)) < 0.6).astype(np.float32)
    strong = (chance.random((3, 400)) < 0.8).astype(np.float32)

    found = significance.difference(strong, weak)

    assert found.low > 0
    assert found.p < 0.01


def test_p_is_small_no_more_often_than_it_says():
    chance = np.random.default_rng(7)
    small = 0
    for _ in range(60):
        difficulty = chance.random(150)
        ways = [(chance.random((3, 150)) < difficulty).astype(np.float32) for _ in range(2)]
        small += significance.difference(*ways).p < 0.05

    assert small <= 7  # five per cent of 60 are 3; more than 7 in one case of a hundred


def test_a_finished_run_is_not_run_again(two_tasks, monkeypatch):
    several = read(two_tasks, WAYS)
    study.run(several, around())
    monkeypatch.setattr(run, "run", lambda *_, **__: pytest.fail("it was run again"))

    assert len(study.run(several, around())) == 6


def test_a_page_shows_every_run_of_a_study_and_needs_nothing_beside_it(two_tasks, tmp_path):
    several = read(two_tasks, WAYS)
    study.run(several, around())

    place = page.write([tmp_path / "run"])

    text = place.read_text()
    assert place == tmp_path / "run" / "report.html"
    assert "src=" not in text
    assert "<link" not in text
    anchors = re.findall(r'href="#([^"]+)"', text)
    assert len(anchors) == len(several.items) == 6
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert set(anchors) <= set(ids)
    assert text.count("Attention of the fusion") == 2
    _, results = study.results(several)[0]
    assert f"{results.mean['accuracy']:.3f}" in text
    assert "| task | head | single | fusion |" in (tmp_path / "run" / "report.md").read_text()


def test_a_page_of_runs_made_apart_says_how_they_differ(two_tasks, tmp_path):
    study.run(read(two_tasks, WAYS), around())
    folders = [tmp_path / "run" / way / "moods" for way in ("head", "single")]

    text = page.write(folders, tmp_path / "compared.html").read_text()

    assert re.search(r"points to head/moods, p 0\.\d{3}", text)


def test_hostile_names_are_text_on_a_page(experiment_file, moods, tmp_path):
    for path in moods.iterdir():
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        rows = [{**row, "label": f"<script>{row['label']}</script>"} for row in rows]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    wanted = experiment.read(experiment_file, ["training.epochs=1"])
    run.run(wanted, Quiet())

    text = page.write([tmp_path / "run"]).read_text()

    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_a_study_with_other_settings_does_not_pass_off_what_was_made_before(two_tasks, tmp_path):
    study.run(read(two_tasks, WAYS), around())
    changed = study.read(experiment.tables(two_tasks, ["training.epochs=3"]), str(two_tasks))

    with pytest.raises(StudyChanged, match="made with other settings"):
        study.run(changed, around())

    again = study.run(changed, around(), overwrite=True)
    assert {seed.steps for _, results in again for seed in results.seeds} == {9}


def test_a_study_of_other_data_does_not_pass_off_what_was_made_before(two_tasks, tmp_path):
    several = read(two_tasks, WAYS)
    study.run(several, around())
    with (tmp_path / "deeds" / "train.jsonl").open("a") as file:
        file.write(json.dumps({"text": "a bird sings well .", "label": "sings"}) + "\n")

    with pytest.raises(StudyChanged, match="made with other data"):
        study.run(several, around())


def test_overwriting_a_study_goes_on_where_it_was_stopped(two_tasks, tmp_path):
    several = read(two_tasks, WAYS, ["training.epochs=8"])
    study.run(several, around())
    first = tmp_path / "run" / "head" / "moods" / "results.json"
    before = first.stat().st_mtime_ns

    def finished():
        return sum(1 for item in several.items if runfolder.read_results(Path(item.folder)))

    with pytest.raises(Interrupted):
        study.run(several, around(wants_to_stop=lambda: finished() >= 1), overwrite=True)
    assert 1 <= finished() < len(several.items)
    replaced = first.stat().st_mtime_ns
    assert replaced > before

    study.run(several, around(), overwrite=True)

    assert first.stat().st_mtime_ns == replaced
    assert finished() == len(several.items)


def test_scores_of_other_examples_are_not_compared(train, moods, tmp_path):
    train("training.epochs=1")
    other = tmp_path / "other"
    other.mkdir()
    for path in moods.iterdir():
        lines = path.read_text().splitlines()
        (other / path.name).write_text("\n".join(reversed(lines)) + "\n")
    train("training.epochs=1", f"task.data={other}", f"output.folder={tmp_path / 'second'}")

    several = study.of_runs([tmp_path / "run", tmp_path / "second"])

    assert tables.compared(several) == []


def test_few_seeds_are_not_said_to_speak_for_others(tmp_path):
    good = np.ones((1, 400), dtype=np.float32)
    bad = np.zeros((1, 400), dtype=np.float32)

    found = significance.difference(good, bad)

    assert (found.p < 0.01, found.seeds) == (True, 1)


def test_runs_of_one_name_are_told_apart_by_their_folders(train, tmp_path):
    folders = [tmp_path / first / "p" / "m" for first in ("u", "v")]
    for folder in folders:
        train("training.epochs=1", f"output.folder={folder}")

    assert study.of_runs(folders).ways == ("u/p/m", "v/p/m")


def test_a_page_of_several_runs_leaves_their_own_reports_alone(train, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        train("training.epochs=1", f"output.folder={folder}")
    before = (folders[0] / "report.md").read_text()

    place = page.write(folders)

    assert place.resolve() == tmp_path / "compared.html"
    assert (folders[0] / "report.md").read_text() == before
