from pathlib import Path

import pytest

from adapterhub_training import experiment
from adapterhub_training.errors import BadExperiment
from adapterhub_training.experiment import AdapterMethod, FusionMethod, HeadMethod

SMALL = """
[task]
name = "cb"
data = "data/cb"

[base]
path = "package:some_base"

[method]
mode = "adapter"
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "cb.toml"
    path.write_text(SMALL)
    return path


def test_a_small_file_gets_the_defaults(file):
    read = experiment.read(file)

    assert read.method == AdapterMethod(config="seq_bn[reduction_factor=16]")
    assert read.mode == "adapter"
    assert read.learning_rate == AdapterMethod.learning_rate
    assert read.training.seeds == (42,)
    assert read.dataset == "cb"


@pytest.mark.parametrize(
    ("override", "mode", "kind"),
    [
        pytest.param('method={mode="head"}', "head", HeadMethod, id="head"),
        pytest.param(
            'method={mode="fusion", members=["nli/mnli@a", "qa/boolq@b"]}',
            "fusion",
            FusionMethod,
            id="fusion",
        ),
    ],
)
def test_every_mode_has_its_own_keys(file, override, mode, kind):
    read = experiment.read(file, [override])

    assert isinstance(read.method, kind)
    assert read.mode == mode


@pytest.mark.parametrize(
    ("method", "drops"),
    [
        ("{mode='adapter'}", False),
        ("{mode='head'}", False),
        ("{mode='full'}", True),
        ("{mode='top-layers'}", True),
    ],
)
def test_a_base_has_its_dropout_where_it_is_trained_or_where_that_is_said(
    experiment_file, method, drops
):
    text = experiment_file.read_text().replace("dropout = false\n", "")
    experiment_file.write_text(text)

    assert experiment.read(experiment_file, [f"method={method}"]).base_drops is drops
    for said in (True, False):
        settings = [f"method={method}", f"training.dropout={str(said).lower()}"]
        assert experiment.read(experiment_file, settings).base_drops is said


def test_data_is_found_beside_the_file(file, tmp_path):
    assert experiment.read(file).task.data == str(tmp_path / "data" / "cb")


def test_a_path_may_name_a_variable_of_the_environment(file, tmp_path, monkeypatch):
    monkeypatch.setenv("DATA", str(tmp_path))
    assert experiment.read(file, ["task.data=$DATA/moods"]).task.data == str(tmp_path / "moods")

    monkeypatch.delenv("DATA")
    with pytest.raises(BadExperiment, match="`DATA` of the environment, which is not set"):
        experiment.read(file, ["task.data=${DATA}/moods"])


def test_the_run_goes_to_the_working_directory_unless_the_file_says_where(file, tmp_path):
    assert experiment.read(file).output.folder == str(Path("runs/cb").absolute())

    file.write_text(SMALL + '[output]\nfolder = "here"\n')

    assert experiment.read(file).output.folder == str(tmp_path / "here")


def test_members_that_are_folders_are_found_beside_the_file(file, tmp_path):
    (tmp_path / "own" / "adapter").mkdir(parents=True)
    members = 'mode = "fusion"\nmembers = ["nli/mnli@a", "own/adapter"]'
    file.write_text(SMALL.replace('mode = "adapter"', members))

    assert experiment.read(file).method.members == ("nli/mnli@a", str(tmp_path / "own/adapter"))


def test_values_can_be_set_on_the_command_line(file):
    read = experiment.read(
        file,
        ["training.epochs=2", "task.name=other", "training.seeds=[1, 2]", "output.license=MIT"],
    )

    assert read.training.epochs == 2
    assert read.task.name == "other"
    assert read.training.seeds == (1, 2)
    assert read.output.license == "MIT"


def test_a_path_on_the_command_line_is_relative_to_where_one_is(file):
    assert experiment.read(file, ["task.data=here"]).task.data == str(Path("here").resolve())


@pytest.mark.parametrize(
    ("override", "fault"),
    [
        pytest.param("training.epoch=2", "unknown field `epoch` - at `$.training`", id="unknown"),
        pytest.param("trainin.epochs=2", "unknown field `trainin`", id="unknown table"),
        pytest.param("method.members=[]", "unknown field `members` - at `$.method`", id="mode"),
        pytest.param("training.epochs=many", "at `$.training.epochs`", id="wrong type"),
        pytest.param("training.epochs=0", "`training.epochs` must be at least 1", id="too few"),
        pytest.param("method.mode=half", "Invalid value 'half' - at `$.method.mode`", id="no mode"),
        pytest.param("training.learning_rate=-1", "`training.learning_rate`", id="negative"),
        pytest.param("training.learning_rate=nan", "`training.learning_rate`", id="rate no number"),
        pytest.param("training.learning_rate=inf", "`training.learning_rate`", id="rate infinite"),
        pytest.param("training.weight_decay=-0.1", "`training.weight_decay`", id="growth"),
        pytest.param("training.weight_decay=nan", "`training.weight_decay`", id="decay no number"),
        pytest.param("training.clip_norm=0", "`training.clip_norm`", id="clipped to nothing"),
        pytest.param("training.clip_norm=-1", "`training.clip_norm`", id="clipped below"),
        pytest.param(
            "method={mode='fusion', members=['a/b@c', 'd/e@f'], regularization=-1}",
            "`method.regularization`",
            id="pushed away",
        ),
        pytest.param("training.warmup_fraction=1", "`training.warmup_fraction`", id="all warm-up"),
        pytest.param("training.seeds=[1, 1]", "`training.seeds`", id="seed twice"),
        pytest.param("training.seeds=[]", "`training.seeds`", id="no seed"),
        pytest.param('task.labels=["a", "a"]', "`task.labels`", id="label twice"),
        pytest.param("task.name=a/b", "`task.name`", id="bad name"),
        pytest.param("training.micro_batch_size=0", "`training.micro_batch_size`", id="no part"),
        pytest.param("training.cache=maybe", "at `$.training.cache`", id="no choice"),
        pytest.param("training.class_weights=[0, 1]", "`training.class_weights`", id="no weight"),
        pytest.param("training.smoothing=1", "`training.smoothing`", id="all smooth"),
        pytest.param("method.drop_layers=-1", "`method.drop_layers`", id="dropped below"),
        pytest.param("method={mode='top-layers', layers=0}", "`method.layers`", id="no layer"),
        pytest.param("method={mode='multitask'}", "several `[[tasks]]`", id="one task"),
        pytest.param("task.scale=['a', 'b']", "`task.scale` is of a regression", id="scale"),
        pytest.param("output.reference=mnli", "`output.reference`", id="no reference"),
        pytest.param("epochs=2", "does not say what to set", id="no table"),
        pytest.param("training.epochs", "does not say what to set", id="no value"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(file, override, fault):
    with pytest.raises(BadExperiment) as refusal:
        experiment.read(file, [override])

    assert fault in str(refusal.value)


def test_a_misspelt_key_is_answered_with_the_nearest(file):
    with pytest.raises(BadExperiment) as refusal:
        experiment.read(file, ["training.learnin_rate=1"])

    assert refusal.value.hint == "did you mean `learning_rate`?"


def test_one_adapter_cannot_be_fused(file):
    file.write_text(SMALL.replace('mode = "adapter"', 'mode = "fusion"\nmembers = ["nli/mnli@a"]'))

    with pytest.raises(BadExperiment, match="at least two"):
        experiment.read(file)


def test_a_file_that_is_no_toml_is_refused_with_its_line(file):
    file.write_text("[task\n")

    with pytest.raises(BadExperiment, match="line 1"):
        experiment.read(file)


def test_an_absent_file_is_refused(tmp_path):
    with pytest.raises(BadExperiment, match="No such file"):
        experiment.read(tmp_path / "none.toml")


def test_a_written_experiment_reads_back_the_same(file, tmp_path):
    read = experiment.read(file, ['output.description=a "quoted" line', "training.patience=3"])
    again = tmp_path / "run.toml"
    again.write_text(experiment.encode(read))

    assert experiment.read(again) == read
