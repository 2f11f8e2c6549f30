"""One tensor of an adapter, a fusion or a head, and its names in a file."""

from typing import NamedTuple

from torch import Tensor, nn


class Entry(NamedTuple):
    """One tensor: the module that owns it, its name there, and its names in a file, the first of which is read."""

    owner: nn.Module
    name: str
    keys: tuple[str, ...]

    @property
    def tensor(self) -> Tensor:
        """The tensor itself."""
        return self.owner.get_parameter(self.name)
