"""The Python in the guide to composing runs as it stands, in its order."""

import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "client" / "COMPOSE.md"

transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")


def blocks():
    return re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)


def test_the_guide_to_composing_runs(tmp_path):
    config = transformers.BertConfig(
        vocab_size=50,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=20,
    )
    names = {
        "model": transformers.BertModel(config).eval(),
        "inputs": {"input_ids": torch.randint(1, 50, (2, 8))},
    }
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        for block in blocks():
            exec(compile(block, GUIDE.name, "exec"), names)  # noqa: S102 - the guide's own lines
    finally:
        os.chdir(before)

    assert names["logits"].shape == (2, 3)
    assert names["weights"].shape == (2, 8, 3)
    assert [tuple(part.logits.shape) for part in (names["first"], names["second"])] == [(2, 2)] * 2
    assert len(names["pruned"].kept) == 2
