"""What fusion costs, as ratios to the bare model: compiled, folded, by the paper's formula, and in the peer library.

Layers of BERT-base size with random weights, one thread, processor time of this process, cases interleaved, the median
of the ratios to the bare model's mean just before and after. Prints; asserts no times.
"""

import json
import os
import statistics
import subprocess
import sys
import time

import pytest
import torch
import transformers

from adapterhub_client import compose

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]

PEER = os.environ.get("ADAPTERS_PEER_PYTHON")
LAYERS, BATCH, LENGTH, REPEATS = 3, 4, 128, 7
COUNTS = (1, 3, 8, 16)
SHAPE = {
    "vocab_size": 1000,
    "hidden_size": 768,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
}


def timed(function):
    start = time.process_time()
    function()
    return time.process_time() - start


def interleaved(cases):
    """Seconds of each case over the mean of the bare model's before and after it: the median of several."""
    for function in cases.values():
        function()
    ratios = {name: [] for name in cases}
    for _ in range(REPEATS):
        before = timed(cases["bare model"])
        for name, function in cases.items():
            spent = timed(function)
            after = timed(cases["bare model"])
            ratios[name].append(spent / ((before + after) / 2))
            before = after
    return {name: statistics.median(values) for name, values in ratios.items()}


def make_bare():
    torch.manual_seed(0)
    return transformers.BertModel(transformers.BertConfig(**SHAPE), add_pooling_layer=False).eval()


def make_fused(count):
    """A model of its own, so that cases can take turns without being activated anew."""
    adapted = compose.attach(make_bare())
    names = [f"a{index}" for index in range(count)]
    for name in names:
        adapted.add(name)
    if count == 1:
        adapted.activate("a0")
        adapted.trainable("a0")
    else:
        fusion = adapted.add_fusion(*names)
        adapted.activate(fusion)
        adapted.trainable(fusion)
    return adapted


def only(adapted, form):
    """Hold every mixture to one of the two forms."""
    for _, bound in adapted.activation._bound:  # noqa: SLF001
        for _, mixture in bound.mixtures:
            mixture.mix = getattr(mixture, form)
    return adapted


def by_formula(count):
    """The paper's formula at full width, put on the LayerNorm by hand."""
    adapted = make_fused(count)
    bound = {place.layer: part.mixtures[0][1] for place, part in adapted.activation._bound}  # noqa: SLF001
    adapted.deactivate()
    for layer, mixture in bound.items():
        norm = adapted.model.encoder.layer[layer].output.LayerNorm
        norm.register_forward_hook(formula_hook(mixture))
    return adapted


def formula_hook(mixture):
    layer, adapters = mixture.layer, [member.adapter for member in mixture.members]

    def hook(norm, args, output):
        ups = torch.stack([adapter.change(output) for adapter in adapters], dim=2)
        scores = (layer.query(output).unsqueeze(2) @ layer.key(ups).transpose(-2, -1)).squeeze(2)
        mixed = (scores.softmax(-1).unsqueeze(2) @ layer.value(ups)).squeeze(2)
        return norm.forward(args[0] + mixed)

    return hook


def batch():
    return {"input_ids": torch.randint(5, 1000, (BATCH, LENGTH))}


def forward(model):
    inputs = batch()

    def run():
        with torch.no_grad():
            model(**inputs)

    return run


def step(model):
    inputs = batch()

    def run():
        model(**inputs).last_hidden_state[..., 0].sum().backward()
        model.zero_grad()

    return run


def measure(kind):
    cases = {"bare model": kind(make_bare()), "1 adapter": kind(make_fused(1))}
    for count in COUNTS[1:]:
        cases[f"fuse {count}, as it comes"] = kind(make_fused(count))
        cases[f"fuse {count}, compiled"] = kind(only(make_fused(count), "_from_compiled"))
        cases[f"fuse {count}, folded"] = kind(only(make_fused(count), "_folded"))
        cases[f"fuse {count}, the formula"] = kind(by_formula(count))
    return interleaved(cases)


PEER_SCRIPT = """
import json, statistics, sys, time
import torch, transformers, adapters
from adapters import BertAdapterModel, SeqBnConfig
from adapters.composition import Fuse
torch.set_num_threads(1)
shape, counts, size, repeats, train = json.loads(sys.argv[1])

def make(count):
    torch.manual_seed(0)
    model = transformers.BertModel(transformers.BertConfig(**shape), add_pooling_layer=False).eval()
    if count == 0:
        return model
    adapters.init(model)
    names = [f"a{n}" for n in range(count)]
    for name in names:
        model.add_adapter(name, config="seq_bn")
    if count == 1:
        model.train_adapter("a0")
    else:
        model.add_adapter_fusion(Fuse(*names))
        model.train_adapter_fusion(Fuse(*names))
    return model.eval()

def kind(model):
    inputs = torch.randint(5, 1000, size)
    def run():
        if train:
            model(input_ids=inputs).last_hidden_state[..., 0].sum().backward()
            model.zero_grad()
        else:
            with torch.no_grad():
                model(input_ids=inputs)
    return run

def timed(function):
    start = time.process_time(); function(); return time.process_time() - start

cases = {count: kind(make(count)) for count in [0, *counts]}
for function in cases.values():
    function()
ratios = {count: [] for count in counts}
for _ in range(repeats):
    before = timed(cases[0])
    for count in counts:
        spent = timed(cases[count]); after = timed(cases[0])
        ratios[count].append(spent / ((before + after) / 2)); before = after
print(json.dumps({count: statistics.median(values) for count, values in ratios.items()}))
"""


def measure_peer(*, train):
    if not PEER:
        return {}
    job = json.dumps([SHAPE, COUNTS, [BATCH, LENGTH], REPEATS, train])
    done = subprocess.run(
        [PEER, "-c", PEER_SCRIPT, job], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout.strip().splitlines()[-1])
    return {
        "1 adapter, peer" if count == "1" else f"fuse {count}, peer": ratio
        for count, ratio in found.items()
    }


@pytest.mark.parametrize(
    ("kind", "title"),
    [
        pytest.param(forward, "forward, over the bare model's forward", id="inference"),
        pytest.param(step, "forward and backward, over full fine-tuning's", id="training"),
    ],
)
def test_fusion_costs_this_much(kind, title, capsys):
    torch.set_num_threads(1)

    ratios = measure(kind) | measure_peer(train=kind is step)

    with capsys.disabled():
        lines = [f"\n{title} ({LAYERS} layers, {BATCH} x {LENGTH} tokens)"]
        for name, ratio in sorted(ratios.items(), key=lambda item: _order(item[0])):
            lines.append(f"  {name:24} {ratio:5.2f}")
        sys.stdout.write("\n".join(lines) + "\n")
    assert ratios["bare model"] > 0


def _order(name):
    words = name.replace(",", "").split()
    number = next((int(word) for word in words if word.isdigit()), 0)
    return number, name
