"""Legacy pickles become safetensors, through a load that runs no code."""

import pickle
from pathlib import Path

import torch
from safetensors.torch import save_file

from adapterhub_client.errors import UsageError


def to_safetensors(source: Path, target: Path) -> None:
    """Read a ``.bin`` state dict with a weights-only load and write the same tensors as safetensors.

    Raises:
        UsageError: The file is no state dict, or holds more than tensors.
    """
    try:
        state = torch.load(source, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        first_line = (
            str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        )
        raise UsageError(f"'{source}' is not a file of tensors: {first_line}") from error
    if not isinstance(state, dict) or not all(
        isinstance(value, torch.Tensor) for value in state.values()
    ):
        raise UsageError(f"'{source}' holds more than named tensors.")
    # shared storage is written out: safetensors holds every tensor once
    save_file(
        {name: tensor.detach().clone().contiguous() for name, tensor in state.items()}, target
    )
