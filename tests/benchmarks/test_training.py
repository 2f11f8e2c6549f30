"""The benchmark of training: both sides on a few texts, and at full size where benchmarks are asked for."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = Path(__file__).with_name("training.py")
DATA = Path(os.environ.get("DATA", Path(__file__).parents[3] / "shared" / "data"))
PEER = os.environ.get("ADAPTERS_PEER_PYTHON")
OWN = {
    "our loop over a bare loop of the same steps",
    "5 seeds in one pass over one seed",
}
BESIDE = {
    "mnli, one epoch: the peer padding to 128, over ours",
    "mnli, one epoch: the peer padding to the batch, over ours",
    "the peer's AdapterTrainer over a bare loop",
}

pytestmark = pytest.mark.skipif(
    not (DATA / "mnli").is_dir(), reason="needs DATA, a folder with mnli/"
)


def run(file, *options):
    subprocess.run(
        [sys.executable, COMMAND, "--data", DATA / "mnli", "--json", file, *options],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=True,
    )
    return json.loads(file.read_text())


def test_both_sides_train_a_few_texts(tmp_path):
    few = ["--rows", "32", "--repeats", "1", "--only", "epoch", "loop", "gang"]
    found = run(tmp_path / "ratios.json", *few)

    assert found.keys() >= OWN | (BESIDE if PEER else set())
    assert all(ratio > 0 for ratios in found.values() for ratio in ratios)
    assert bool(PEER) == ("the peer's AdapterTrainer over a bare loop" in found)


@pytest.mark.benchmark
def test_what_training_costs(tmp_path):
    run(tmp_path / "ratios.json")
