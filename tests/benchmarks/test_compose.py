"""The benchmark of composition: every row once on a tiny model, and at full size where benchmarks are asked for."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

PEER = os.environ.get("ADAPTERS_PEER_PYTHON")
COMMAND = Path(__file__).with_name("compose.py")
ROWS = {
    "idle", "seq_bn", "double_seq_bn", "fuse3", "fuse8", "fuse16", "batch8", "rows10", "parallel3",
    "stack2", "average3", "lora", "ia3", "prefix", "step_floor", "step_seq_bn", "step_fuse8",
    "resident1000", "load8", "load8_first", "memory8", "disk_trainable", "disk_compiled",
}  # fmt: skip


def run(file, *options, **environment):
    """Print the table; return what the command said it found."""
    subprocess.run(
        [sys.executable, COMMAND, *options, "--json", file],
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        check=False,
    )
    return json.loads(file.read_text())


def medians(records, column):
    return {record["row"]: record["median"] for record in records if record["column"] == column}


def unavailable(records, column):
    return {r["row"]: r["reason"] for r in records if r["column"] == column and r["reason"]}


def test_every_row_runs_on_a_tiny_model(tmp_path):
    found = run(
        tmp_path / "found.json", "--shape", "tiny", "--length", "8", "--repeats", "1",
        ADAPTERS_PEER_PYTHON="",
    )  # fmt: skip

    assert unavailable(found, "ours") == {}
    figures = medians(found, "ours")
    assert set(figures) == ROWS
    assert all(math.isfinite(figure) and figure > 0 for figure in figures.values())


@pytest.mark.skipif(not PEER, reason="ADAPTERS_PEER_PYTHON is not set")
def test_the_peer_answers_in_turn(tmp_path):
    rows = ("idle", "seq_bn", "fuse3", "step_fuse8", "load8", "memory8", "disk_trainable")

    found = run(
        tmp_path / "found.json", "--shape", "tiny", "--length", "8", "--repeats", "1",
        "--only", *rows,
    )  # fmt: skip

    assert unavailable(found, "adapters") == {}
    figures = medians(found, "adapters")
    assert set(figures) == set(rows)
    assert all(math.isfinite(figure) and figure > 0 for figure in figures.values())


@pytest.mark.benchmark
@pytest.mark.timeout(7200)
def test_the_whole_table(tmp_path, capsys):
    with capsys.disabled():
        found = run(tmp_path / "found.json")

    for shape in ("bert-base", "minilm"):
        for length in (64, 128):
            table = [r for r in found if (r["base"], r["length"]) == (shape, length)]
            assert unavailable(table, "ours") == {}
            figures = medians(table, "ours")
            assert set(figures) == ROWS
            assert all(math.isfinite(figure) and figure > 0 for figure in figures.values())
