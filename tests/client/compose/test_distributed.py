"""Training under real conditions: recomputed layers, several processes, several threads."""

import copy
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from .conftest import fused, hidden
from .small_models import adapted_of, batch_of

CHECKPOINTED = [
    pytest.param(["seq_bn", "double_seq_bn"], "stack(b, a)", ["a", "b"], id="adapters"),
    pytest.param(["seq_bn", "seq_bn"], "fuse(a, b)", ["fuse(a, b)"], id="fusion"),
    pytest.param(["seq_bn", "double_seq_bn"], "parallel(a, b)", ["a", "b"], id="parallel"),
    pytest.param(["lora", "dora"], "parallel(a, b)", ["a", "b"], id="LoRA"),
    pytest.param(["prefix"], "a", ["a"], id="prefix"),
    pytest.param(["prompt"], "a", ["a"], id="prompt"),
    pytest.param(["loreft"], "a", ["a"], id="ReFT"),
    pytest.param(["invertible"], "a", ["a"], id="invertible"),
]
DISTRIBUTED = [("a", "a"), ("fuse(a, b)", "a,b"), ("c", "c"), ("parallel(a, b)", "a")]
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
WORKER = Path(__file__).with_name("distributed_worker.py")


def gradients(adapted):
    return {n: p.grad.clone() for n, p in adapted.named_parameters() if p.grad is not None}


def recompute(model, **options):
    """Newer versions of transformers have another name for it."""
    if hasattr(model, "activation_checkpointing_enable"):
        model.activation_checkpointing_enable(options)
    else:
        model.gradient_checkpointing_enable(options)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("reentrant", [True, False], ids=["reentrant", "not reentrant"])
@pytest.mark.parametrize(("methods", "expression", "trained"), CHECKPOINTED)
def test_recomputed_layers_give_the_same_gradients(methods, expression, trained, reentrant):
    adapted, batch = adapted_of("bert", methods, **NO_DROPOUT), batch_of()
    if "fuse" in expression:
        fused(adapted, "a", "b")
    adapted.activate(expression)
    adapted.trainable(*trained)
    adapted.train()
    adapted(**batch).last_hidden_state[..., 0].square().sum().backward()
    expected = gradients(adapted)
    adapted.zero_grad()
    recompute(adapted.model, use_reentrant=reentrant)
    if reentrant:  # as every trainer does: a reentrant layer needs an input that leads gradients
        adapted.model.enable_input_require_grads()

    adapted(**batch).last_hidden_state[..., 0].square().sum().backward()

    found = gradients(adapted)
    assert expected
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-4, msg=name)


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    """What two processes of torchrun and one by itself found, over gloo, as a folder of gradients."""
    folder = tmp_path_factory.mktemp("processes")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    cases = [f"{expression}={trained}" for expression, trained in DISTRIBUTED]
    done = subprocess.run(
        [*command, WORKER, folder, *cases],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False, timeout=250,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.parametrize("number", range(len(DISTRIBUTED)), ids=[case for case, _ in DISTRIBUTED])
def test_two_processes_train_as_one_does_on_all_rows(processes, number):
    single, first, second = (
        torch.load(processes / f"{number}-{name}.pt") for name in ("single", "rank0", "rank1")
    )

    assert single
    assert first.keys() == second.keys() == single.keys()
    for name, gradient in single.items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], gradient, atol=1e-6, rtol=1e-4, msg=name)


def test_two_models_in_two_threads_are_independent():
    adapted = [adapted_of("bert", ["seq_bn", "lora", "prefix"]) for _ in range(2)]
    fused(adapted[0], "a", "a")
    steps = [["a", "parallel(a, b)", "c", "b"] * 3, ["b", "c", "stack(a, b)", "a"] * 3]
    batches = [batch_of(rows=3), batch_of(rows=2, length=8)]
    alone = [[], []]
    for model, own, batch, seen in zip(adapted, steps, batches, alone, strict=True):
        for expression in own:
            model.activate(expression)
            seen.append(hidden(model, batch))

    def run(number):
        found = []
        for expression in steps[number]:
            adapted[number].activate(expression)
            found.append(hidden(adapted[number], batches[number]))
        return found

    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(run, range(2)))

    for expected, found in zip(alone, together, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(expected, found, strict=True))


def test_a_copy_is_independent_of_what_it_was_copied_from():
    adapted, batch = adapted_of("bert", ["seq_bn", "double_seq_bn"]), batch_of()
    other = copy.deepcopy(adapted)

    adapted.activate("a")
    other.activate("b")

    assert not torch.equal(hidden(adapted, batch), hidden(other, batch))
    other.activate("a")
    assert torch.equal(hidden(adapted, batch), hidden(other, batch))
