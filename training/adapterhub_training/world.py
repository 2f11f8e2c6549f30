"""Several processes that train one model together (DistributedDataParallel's idea, over what is trained alone).

Each takes its share of every batch. Losses are sums with what they are divided by, so that gradients added up over
processes are those of the whole batch, whatever each one's share was. `torchrun` starts the processes and says to each
which one it is.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, distributed, nn


class World(NamedTuple):
    """The processes that train together, and which one this is."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this one writes and speaks."""
        return self.rank == 0

    def share(self, rows: Sequence[int]) -> list[int]:
        """This one's part of a batch."""
        return list(rows[self.rank :: self.size])

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all processes; one message for all of them."""
        if self.size == 1:
            return
        flat = torch.cat([tensor.reshape(-1).float() for tensor in tensors])
        distributed.all_reduce(flat)
        begin = 0
        for tensor in tensors:
            tensor.copy_(flat[begin : begin + tensor.numel()].view_as(tensor))
            begin += tensor.numel()

    def gather(self, value: Any) -> list[Any]:  # noqa: ANN401  whatever each has found
        """What each process has, in all of them."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        distributed.all_gather_object(found, value)
        return found

    def agree(self, value: Any) -> Any:  # noqa: ANN401  whatever the first decides
        """What the first process says, in all of them."""
        if self.size == 1:
            return value
        said = [value]
        distributed.broadcast_object_list(said, src=0)
        return said[0]


ALONE = World()


@contextmanager
def joined() -> Iterator[World]:
    """The world that `torchrun` started this process in; alone where it did not."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    has_gpu = torch.cuda.is_available()
    if has_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if has_gpu else "gloo")
    try:
        yield World(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()


def same_everywhere(parameters: Sequence[nn.Parameter], world: World) -> None:
    """Begin with the first process's weights."""
    if world.size > 1:
        for parameter in parameters:
            distributed.broadcast(parameter.data, src=0)
