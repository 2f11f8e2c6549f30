"""Fresh weights from a seed of their own."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Draw random numbers from a seed, where there is one; those outside go on as if none had been drawn."""
    with torch.random.fork_rng(enabled=bool(seed)):
        if seed:
            torch.manual_seed(seed)
        yield
