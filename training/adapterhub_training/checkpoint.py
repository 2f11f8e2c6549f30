"""Where a training stands, on disk: killed at any moment it goes on from there and ends with the same weights.

One safetensors file with a JSON text in its header, so that state and numbers are of one moment. It is written beside
and then put in place, and made durable before: a crash leaves the one before.
"""

import os
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

STATE = "state"
"""the folder of a run that has what it takes to go on; gone once the run is complete"""
FILE = "checkpoint.safetensors"
FACTS = "facts"


class Checkpoint(NamedTuple):
    """Tensors by name, and everything else."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]


def write(folder: Path, checkpoint: Checkpoint) -> None:
    """Put a checkpoint in place of the last.

    Raises:
        OSError: The disk is full; the last one stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{FILE}.part"
    tensors = {
        name: tensor.detach().contiguous().cpu() for name, tensor in checkpoint.tensors.items()
    }
    text = msgspec.json.encode(checkpoint.facts).decode()
    try:
        save_file(tensors, part, metadata={FACTS: text})
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(folder / FILE)
    except SafetensorError as error:  # it hides which error of the system it was
        raise OSError(28, f"the checkpoint cannot be written ({error})", str(part)) from error
    finally:
        part.unlink(missing_ok=True)


def read(folder: Path) -> Checkpoint | None:
    """The checkpoint; None where there is none."""
    path = folder / FILE
    if not path.is_file():
        return None
    with safe_open(path, "pt") as file:
        facts = msgspec.json.decode(file.metadata()[FACTS])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no dict
    return Checkpoint(tensors, facts)
