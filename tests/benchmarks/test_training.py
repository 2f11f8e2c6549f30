"""The benchmark of training: both sides on a few texts, and at full size where benchmarks are asked for."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.benchmarks.training_workload import LENGTH, arithmetic
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertModel

from adapterhub_client import compose

COMMAND = Path(__file__).with_name("training.py")
DATA = Path(os.environ.get("DATA", Path(__file__).parents[3] / "shared" / "data"))
PEER = os.environ.get("ADAPTERS_PEER_PYTHON")
OWN = "our loop over a bare loop of the same steps"
BESIDE = "the peer's AdapterTrainer over a bare loop"

needs_data = pytest.mark.skipif(
    not (DATA / "mnli").is_dir(), reason="needs DATA, a folder with mnli/"
)


def run(file, *options):
    subprocess.run(
        [sys.executable, COMMAND, "--data", DATA / "mnli", "--json", file, *options],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=True,
    )
    return json.loads(file.read_text())


@needs_data
def test_both_sides_train_a_few_texts(tmp_path):
    found = run(tmp_path / "ratios.json", "--rows", "32", "--repeats", "1", "--only", "loop")

    assert found.keys() == ({OWN, BESIDE} if PEER else {OWN})
    assert all(ratio > 0 for ratios in found.values() for ratio in ratios)


def test_the_arithmetic_of_a_step_is_what_torch_counts():
    config = BertConfig(
        vocab_size=50, hidden_size=64, num_hidden_layers=3, num_attention_heads=4,
        intermediate_size=128, attn_implementation="eager",
    )  # fmt: skip
    adapted = compose.attach(BertModel(config, add_pooling_layer=False))
    adapted.add("own", "seq_bn[reduction_factor=4]")
    adapted.activate("own")
    for name, parameter in adapted.model.named_parameters():
        parameter.requires_grad_("own" in name)
    adapted.train()
    ids = torch.ones(2, LENGTH, dtype=torch.int64)

    with FlopCounterMode(display=False) as counted:
        adapted(input_ids=ids).last_hidden_state.sum().backward()

    expected = arithmetic(config, sequences=2, bottleneck=16)
    assert counted.get_total_flops() == expected


@needs_data
@pytest.mark.benchmark
def test_what_training_costs(tmp_path):
    found = run(tmp_path / "ratios.json")

    assert all(ratio > 0 for ratios in found.values() for ratio in ratios)
