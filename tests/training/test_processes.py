"""Several processes train one run: what one writes the others may read, and killed they draw the same again."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.training.test_resume import contents, same

SLOW = """
import time
from adapterhub_training import building, cli

save = building.save
building.save = lambda *given: (time.sleep(3), save(*given))
cli.main()
"""
STUDY = """
[compare.single]
method = {mode = "adapter", config = "seq_bn[reduction_factor=2]"}

[compare.multitask]
method = {mode = "multitask", shared = "base", config = "seq_bn[reduction_factor=2]"}

[compare.fusion]
base = {path = "runs:multitask"}
method = {mode = "fusion", members = ["runs:multitask"], own = "runs:multitask"}
"""


@pytest.fixture
def launch(experiment_file, tmp_path):
    """Start two processes of a command on the experiment, as torchrun does."""

    def launch(*words, script=("-m", "adapterhub_training.cli")):
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command = [*torchrun, "--nproc-per-node=2", *script, "run", str(experiment_file), *words]
        return subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "ADAPTERHUB_CACHE": str(tmp_path / "cache")},
        )

    return launch


def ended(process):
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said


def test_killed_together_they_go_on_to_the_same_weights(launch, tmp_path):
    settings = [
        "training.dropout=true",
        "training.epochs=60",
        "training.batch_size=7",  # shares of unlike size, so each process draws more or less
        "training.checkpoint_seconds=0",
    ]
    words = [word for setting in settings for word in ("--set", setting)]

    ended(launch(*words, "--output", str(tmp_path / "whole")))
    log = tmp_path / "run" / "log.jsonl"
    killed = launch(*words)
    began = time.monotonic()
    while not log.exists() or log.read_text().count('"loss"') < 3:
        assert time.monotonic() - began < 120
        time.sleep(0.01)
    ranks = Path(f"/proc/{killed.pid}/task/{killed.pid}/children").read_text().split()
    for pid in (killed.pid, *map(int, ranks)):
        os.kill(pid, signal.SIGKILL)
    killed.communicate()
    ended(launch(*words))

    assert len(ranks) == 2
    assert '"resumed"' in log.read_text()
    same(contents(tmp_path / "whole"), contents(tmp_path / "run"))


def test_what_a_run_has_made_is_there_for_all_before_the_next_begins(
    experiment_file, launch, tmp_path
):
    text = experiment_file.read_text().replace("[task]", "[[tasks]]", 1)
    task = text[text.index("[[tasks]]") : text.index("[base]")]
    text = text.replace("[base]", task.replace('"moods"', '"again"') + "[base]", 1)
    text = text.replace('[method]\nmode = "adapter"\nconfig = "seq_bn[reduction_factor=2]"\n', "")
    text = text.replace('reference = "moods/tiny@demo"\n', "")
    experiment_file.write_text(text.replace("epochs = 3", "epochs = 1") + STUDY)
    (tmp_path / "slow.py").write_text(SLOW)

    ended(launch(script=[str(tmp_path / "slow.py")]))

    made = sorted(
        str(path.relative_to(tmp_path / "run")) for path in tmp_path.rglob("fusion/*/fusion")
    )
    assert made == ["fusion/again/fusion", "fusion/moods/fusion"]
