"""What is in a safetensors file, read from its first bytes alone."""

import re
from collections.abc import Iterable
from math import prod

import msgspec

from adapterhub_client import wire
from adapterhub_registry.service.kept import Kept
from adapterhub_registry.service.rules import WEIGHTS
from adapterhub_registry.service.weights import HeaderRefused, Inspection, Tensor
from adapterhub_registry.storage import BlobMissing, BlobStore
from adapterhub_registry.storage.store import CHUNK_BYTES

_KEPT: Kept["Header | None"] = Kept(128)
_FIRST_BYTES = 64 * 1024
"""most headers are shorter"""
_LAYER = re.compile(r"(?<=\.)\d+(?=\.)|^\d+(?=\.)")


class Family(msgspec.Struct, frozen=True):
    """Tensors that differ only in the number of their layer, and are alike else."""

    name: str
    """with `*` for the number"""
    dtype: str
    shape: tuple[int, ...]
    layers: tuple[int, ...]
    """the numbers; none where the name has none"""
    parameters: int


class Header(msgspec.Struct, frozen=True):
    """What a safetensors file holds."""

    tensors: tuple[Tensor, ...]
    start: int
    """where the first tensor's bytes are in the file"""

    @property
    def parameters(self) -> int:
        """The values of all tensors."""
        return sum(prod(tensor.shape) for tensor in self.tensors)

    @property
    def families(self) -> list[Family]:
        """The tensors, those of one kind in all layers as one."""
        found: dict[tuple[str, str, tuple[int, ...]], list[int]] = {}
        for tensor in self.tensors:
            number = _LAYER.search(tensor.name)
            name = _LAYER.sub("*", tensor.name, count=1)
            layers = found.setdefault((name, tensor.dtype, tensor.shape), [])
            if number is not None:
                layers.append(int(number.group()))
        return [_family(key, layers) for key, layers in found.items()]


def header(store: BlobStore, file: wire.File) -> Header | None:
    """The header of a file; None where it is no safetensors file, or the store does not have it."""
    if not file.path.endswith(WEIGHTS):
        return None
    try:
        return _KEPT.get(file.sha256, lambda: _read(store, file))
    except BlobMissing:  # the store may have it again
        return None


def parameters(store: BlobStore, files: Iterable[wire.File]) -> int | None:
    """How many values the weights of a version have together; None where none can be read."""
    found = [each.parameters for each in (header(store, file) for file in files) if each]
    return sum(found) if found else None


def _read(store: BlobStore, file: wire.File) -> Header | None:
    """Read on until the header has ended: it says its length, and an inspection refuses one that is too long."""
    inspection, at, step = Inspection(file.size_bytes), 0, _FIRST_BYTES
    try:
        while at < file.size_bytes and not inspection.has_header:
            for chunk in store.read(file.sha256, at, min(step, file.size_bytes - at)):
                inspection.watch(chunk)
            at, step = at + step, CHUNK_BYTES
        inspection.finish()
    except HeaderRefused:
        return None
    tensors = tuple(sorted(inspection.tensors.values(), key=lambda tensor: tensor.start))
    taken = max((tensor.stop for tensor in tensors), default=0)
    return Header(tensors, file.size_bytes - taken)


def _family(key: tuple[str, str, tuple[int, ...]], layers: list[int]) -> Family:
    name, dtype, shape = key
    return Family(name, dtype, shape, tuple(sorted(layers)), prod(shape) * max(len(layers), 1))
