"""Non-linearities by the names that adapter configs use."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional
from transformers.activations import ACT2FN

from adapterhub_client.errors import CompositionError

Activation = Callable[[Tensor], Tensor]

_OWN: dict[str, Activation] = {
    "gelu": functional.gelu,
    "gelu_new": partial(functional.gelu, approximate="tanh"),
    "leakyrelu": functional.leaky_relu,
    "relu": torch.relu,
    "silu": functional.silu,
    "swish": functional.silu,
    "tanh": torch.tanh,
}


def activation(name: str) -> Activation:
    """The function behind a name, in any case.

    Raises:
        CompositionError: Neither we nor transformers know the name.
    """
    known = name.lower()
    if known in _OWN:
        return _OWN[known]
    if known not in ACT2FN:
        raise CompositionError(
            f"There is no non-linearity named {name!r}.", hint="known: " + ", ".join(sorted(_OWN))
        )
    function: Activation = ACT2FN[known]
    return function
