"""A copy of an adapted model is independent of it, also while something is active; and it can be pickled."""

import copy
import io

import pytest
import torch

from .conftest import hidden, randomise
from .small_models import METHODS, T5_HAS_PREFIXES, adapted_of, batch_of

ALONE = sorted(METHODS)
COMPOSITIONS = ["parallel(a, b)", "batchsplit(a, b; batch_sizes=[1, 2])", "stack(a, b)"]
CASES = [pytest.param((method,), "a", id=method) for method in ALONE] + [
    pytest.param((method, method), composition, id=f"{method}-{composition}")
    for method in ("seq_bn", "lora", "dora", "loreft", "invertible", "prompt", "bitfit")
    for composition in COMPOSITIONS[:2]
]
CASES += [
    pytest.param((method, method), composition, id=f"{method}-{composition}")
    for method in ("prefix", "flat prefix", "double_seq_bn")
    for composition in COMPOSITIONS
]


def pickled(adapted):
    written = io.BytesIO()
    torch.save(adapted, written)
    written.seek(0)
    return torch.load(written, weights_only=False)


def vary(adapted, seed):
    """Give adapters other weights."""
    for number, adapter in enumerate(adapted.adapters.values()):
        randomise(adapter, seed=seed + number, std=0.2)
        with torch.no_grad():
            for name, parameter in adapter.named_parameters():
                if name.endswith("original"):
                    parameter.diagonal().sign_()  # it counts as whole numbers


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled])
@pytest.mark.parametrize(("methods", "composition"), CASES)
def test_a_copy_follows_its_own_weights_only(methods, composition, copied):
    adapted, inputs = adapted_of("bert", methods), batch_of()
    vary(adapted, 20)
    adapted.activate(composition)
    before = hidden(adapted, inputs)

    other = copied(adapted)
    torch.testing.assert_close(hidden(other, inputs), before, atol=0, rtol=0)
    vary(other, 50)
    changed = hidden(other, inputs)
    other.activate(composition)

    torch.testing.assert_close(hidden(adapted, inputs), before, atol=0, rtol=0)
    torch.testing.assert_close(changed, hidden(other, inputs), atol=1e-6, rtol=0)
    assert not torch.allclose(changed, before, atol=1e-3)


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled])
@pytest.mark.parametrize(
    ("architecture", "method"),
    [
        (architecture, method)
        for architecture in ("gpt2", "llama", "t5", "bart")
        for method in ("double_seq_bn", "prefix", "loreft", "lora")
        if T5_HAS_PREFIXES or (architecture, method) != ("t5", "prefix")
    ],
)
def test_copies_of_other_architectures_too(architecture, method, copied):
    adapted, inputs = adapted_of(architecture, (method,)), batch_of(architecture)
    vary(adapted, 20)
    adapted.activate("a")
    before = hidden(adapted, inputs)

    other = copied(adapted)
    vary(other, 50)

    assert not torch.allclose(hidden(other, inputs), before, atol=1e-3)
    torch.testing.assert_close(hidden(adapted, inputs), before, atol=0, rtol=0)


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled])
def test_what_acts_on_a_copy_can_be_taken_out_of_effect(copied):
    adapted, inputs = adapted_of("bert", ("prefix",)), batch_of()
    bare = hidden(adapted, inputs)
    adapted.activate("a")

    other = copied(adapted)
    other.deactivate()

    torch.testing.assert_close(hidden(other, inputs), bare, atol=0, rtol=0)
    assert not torch.allclose(hidden(adapted, inputs), bare, atol=1e-3)
