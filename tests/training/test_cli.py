import json
import shutil
import subprocess
import sys

import msgspec
import pytest
from click.testing import CliRunner

from adapterhub_training import cli
from adapterhub_training.results import Results


@pytest.fixture
def invoke():
    def invoke(*words, text=None):
        return CliRunner().invoke(cli.main, [str(word) for word in words], input=text)

    return invoke


@pytest.fixture
def finished(invoke, experiment_file, tmp_path):
    """A run that is done."""
    result = invoke("run", experiment_file, "--set", "training.epochs=30", "--quiet")
    assert result.exit_code == 0, result.output
    return tmp_path / "run"


def test_a_run_prints_its_results_and_says_where_it_is(invoke, experiment_file, tmp_path):
    result = invoke(
        "run", experiment_file, "--set", "training.epochs=1", "--output", tmp_path / "there"
    )

    assert result.exit_code == 0
    assert result.stdout.startswith(
        "moods: seq_bn[reduction_factor=2] on test, seed 42\n  accuracy"
    )
    assert "step 3 of 3" in result.stderr
    assert f"run folder: {tmp_path / 'there'}" in result.stderr
    assert (tmp_path / "there" / "results.json").is_file()


def test_results_come_as_json(invoke, experiment_file):
    result = invoke("run", experiment_file, "--set", "training.epochs=1", "--json", "--quiet")

    assert msgspec.json.decode(result.stdout, type=Results).task == "moods"
    assert "step" not in result.stderr


def test_evaluating_repeats_the_figures_of_the_run(invoke, finished):
    results = msgspec.json.decode((finished / "results.json").read_bytes(), type=Results)

    result = invoke("evaluate", finished, "--json")

    assert json.loads(result.stdout)["values"]["accuracy"] == results.mean["accuracy"]


def test_evaluating_on_other_data(invoke, finished, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "test.jsonl").write_text('{"text": "a bird sings well .", "label": "well"}\n')

    result = invoke("evaluate", finished, "--data", other)

    assert result.stdout.startswith("moods on test: 1 examples\n  accuracy  1.0000\n")


def test_evaluating_keeps_the_order_of_labels_and_says_that_the_data_changed(
    invoke, experiment_file, moods, tmp_path
):
    changing = tmp_path / "changing"
    shutil.copytree(moods, changing)
    result = invoke(
        "run", experiment_file, "--set", f"task.data={changing}", "--set", "training.epochs=30"
    )
    assert result.exit_code == 0, result.output
    before = json.loads(invoke("evaluate", tmp_path / "run", "--json").stdout)
    with (changing / "train.jsonl").open("a") as file:
        file.write('{"text": "a bird sings .", "label": "a new one, sorted first"}\n')

    refused = invoke("evaluate", tmp_path / "run", "--json")
    (changing / "train.jsonl").write_text('{"text": "a bird sings well .", "label": "well"}\n')
    after = invoke("evaluate", tmp_path / "run", "--json")

    assert "the label 'a new one, sorted first' is unknown" in refused.stderr
    assert json.loads(after.stdout) == before
    assert f"warning: '{changing}' is not what it was when the run was trained" in after.stderr


def test_evaluating_on_unknown_labels_is_refused(invoke, finished, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "test.jsonl").write_text('{"text": "a bird sings .", "label": "so so"}\n')

    result = invoke("evaluate", finished, "--data", other)

    assert result.exit_code == 65
    assert "hint: known labels: badly, well" in result.stderr


def test_a_text_is_predicted(invoke, finished):
    result = invoke("predict", finished, "--text", "a bird sings well .")

    prediction = json.loads(result.stdout)
    assert prediction["label"] == "well"
    assert set(prediction["probabilities"]) == {"badly", "well"}


def test_lines_are_predicted_one_by_one(invoke, finished):
    lines = 'a bird sings well .\n\n{"text": "a bird runs badly .", "label": "?"}\n'

    result = invoke("predict", finished, text=lines)

    assert [json.loads(line)["label"] for line in result.stdout.splitlines()] == ["well", "badly"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        pytest.param(["run", "none.toml"], 2, "error: 'none.toml' cannot be read", id="no file"),
        pytest.param(
            ["evaluate", "nowhere"], 66, "error: 'nowhere' is no finished run", id="no run"
        ),
        pytest.param(
            ["predict", "nowhere", "--text-b", "b"], 2, "needs `--text`", id="half a pair"
        ),
    ],
)
def test_what_goes_wrong_is_one_line_and_an_exit_code(invoke, words, code, message):
    result = invoke(*words)

    assert result.exit_code == code
    assert message in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("override", "code", "message"),
    [
        pytest.param(
            "base.path=package:nothing_here", 66, "'nothing_here' is not installed", id="base"
        ),
        pytest.param("task.data=nowhere", 65, "there is no such folder", id="data"),
        pytest.param("method.config=seq_bnn", 2, "seq_bnn", id="method"),
        pytest.param("training.epoch=1", 2, "hint: did you mean `epochs`?", id="key"),
    ],
)
def test_a_run_that_cannot_be_is_refused_without_a_traceback(
    invoke, experiment_file, override, code, message
):
    result = invoke("run", experiment_file, "--set", override)

    assert (result.exit_code, message in result.stderr) == (code, True)
    assert result.stderr.count("error: ") == 1
    assert "Traceback" not in result.stderr


def test_a_sentence_for_a_model_of_pairs_is_refused(invoke, finished):
    result = invoke("predict", finished, "--text", "a bird", "--text-b", "a cat")

    assert result.exit_code == 65
    assert "was trained on single sentences" in result.stderr


def test_help_does_not_import_torch():
    code = "import sys; from adapterhub_training import cli; sys.exit('torch' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], check=False)

    assert done.returncode == 0


def test_every_command_explains_itself(invoke):
    result = invoke("--help")

    assert result.exit_code == 0
    for command in ("run", "evaluate", "predict"):
        assert command in result.stdout
        assert invoke(command, "--help").exit_code == 0
