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
OWN = "our loop over a bare loop of the same steps"
BESIDE = "the peer's AdapterTrainer over a bare loop"

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
    found = run(tmp_path / "ratios.json", "--rows", "32", "--repeats", "1", "--only", "loop")

    assert found.keys() == ({OWN, BESIDE} if PEER else {OWN})
    assert all(ratio > 0 for ratios in found.values() for ratio in ratios)


@pytest.mark.benchmark
def test_what_training_costs(tmp_path):
    run(tmp_path / "ratios.json")
