"""Gradient checkpointing runs a layer's forward again in the backward pass; its gradients are those without."""

import pytest
import torch
from torch import nn

from .peer_kinds import ARCHITECTURES
from .small_models import adapted_of, batch_of

METHODS = [
    pytest.param("seq_bn[mh_adapter=True, non_linearity='tanh']", id="sequential"),
    pytest.param("par_bn[mh_adapter=True, non_linearity='tanh']", id="parallel"),
    pytest.param("double_seq_bn[non_linearity='tanh']", id="double"),
]


def still(model):
    """Without dropout, which would differ from run to run."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name in (
            "dropout",
            "activation_dropout",
            "attention_dropout",
            "layerdrop",
            "dropout_p",
        ):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)


def gradients(adapted, inputs):
    adapted.zero_grad()
    adapted(**inputs).last_hidden_state.square().mean().backward()
    return {n: p.grad.clone() for n, p in adapted.named_parameters() if p.grad is not None}


def checkpoint(model, *, reentrant):
    options = {"use_reentrant": reentrant}
    # Newer versions of transformers have another name for it.
    if hasattr(model, "activation_checkpointing_enable"):
        model.activation_checkpointing_enable(activation_checkpointing_kwargs=options)
    else:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)
    if reentrant:
        # A reentrant checkpoint has a gradient only where its input has one.
        model.get_input_embeddings().register_forward_hook(
            lambda _module, _args, output: output.requires_grad_()
        )


@pytest.mark.parametrize("reentrant", [False, True], ids=["plain", "reentrant"])
@pytest.mark.parametrize("method", METHODS)
# ALBERT runs one layer several times, and transformers has no checkpoints for it.
@pytest.mark.parametrize("architecture", [name for name in ARCHITECTURES if name != "albert"])
def test_checkpoints_change_no_gradient(architecture, method, reentrant):
    adapted = adapted_of(architecture, [method])
    still(adapted.model)
    adapted.activate("a")
    adapted.trainable("a")
    adapted.train()
    inputs = batch_of(architecture)
    expected = gradients(adapted, inputs)

    checkpoint(adapted.model, reentrant=reentrant)

    assert expected
    found = gradients(adapted, inputs)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)
