"""How far the weights of one version are from those of another, computed from their bytes within limits."""

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from adapterhub_client import wire
from adapterhub_registry.service import headers
from adapterhub_registry.service.kept import Kept
from adapterhub_registry.service.weights import Tensor
from adapterhub_registry.storage import BlobMissing, BlobStore

LARGEST_BYTES = 64 * 1024 * 1024
"""of one file; more would keep a server busy for seconds"""
_KEPT: Kept["Distance | None"] = Kept(64)
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}


class Moved(msgspec.Struct, frozen=True):
    """A tensor that both have in one shape: how far it moved, over its own length, and the cosine of both."""

    name: str
    relative: float
    cosine: float


class Distance(msgspec.Struct, frozen=True, kw_only=True):
    """The same over all tensors, and each by itself; the one that moved most comes first."""

    path: str
    relative: float
    cosine: float
    moved: list[Moved]
    added: list[str]
    removed: list[str]
    reshaped: list[str]


def distances(store: BlobStore, old: wire.Manifest, new: wire.Manifest) -> list[Distance]:
    """Of every file of weights that both versions have under one path, and that is small enough."""
    before = {file.path: file for file in old.files}
    found = [
        distance(store, before[file.path], file)
        for file in new.files
        if file.path in before
        and max(file.size_bytes, before[file.path].size_bytes) <= LARGEST_BYTES
    ]
    return [each for each in found if each is not None]


def distance(store: BlobStore, old: wire.File, new: wire.File) -> Distance | None:
    """Of one file; None where one of both is no safetensors file, or the store does not have it."""
    first, second = headers.header(store, old), headers.header(store, new)
    if first is None or second is None:
        return None

    def compute() -> Distance:
        return _distance(new.path, _content(store, old, first), _content(store, new, second))

    try:
        return _KEPT.get(f"{old.sha256} {new.sha256} {new.path}", compute)
    except BlobMissing:
        return None


class _Content:
    """The tensors of a file, each read when it is asked for."""

    def __init__(self, header: headers.Header, content: bytes) -> None:
        self.tensors = {tensor.name: tensor for tensor in header.tensors}
        self._view = memoryview(content)[header.start :]

    def values(self, tensor: Tensor) -> NDArray[np.float64] | None:
        """A tensor's values; None where they are no floating numbers that numpy knows."""
        part = self._view[tensor.start : tensor.stop]
        if tensor.dtype == "BF16":  # the upper half of a float32
            wide = np.frombuffer(part, "<u2").astype("<u4") << 16
            return wide.view("<f4").astype(np.float64)
        if tensor.dtype not in _DTYPES:
            return None
        return np.frombuffer(part, _DTYPES[tensor.dtype]).astype(np.float64)


def _content(store: BlobStore, file: wire.File, header: headers.Header) -> _Content:
    return _Content(header, b"".join(store.read(file.sha256)))


def _distance(path: str, old: _Content, new: _Content) -> Distance:
    common = sorted(old.tensors.keys() & new.tensors.keys())
    alike = [name for name in common if old.tensors[name].shape == new.tensors[name].shape]
    sums, moved = np.zeros(4), []
    for name in alike:
        before, after = old.values(old.tensors[name]), new.values(new.tensors[name])
        if before is None or after is None:
            continue
        parts = np.array(
            [
                np.square(after - before).sum(),
                np.square(before).sum(),
                np.square(after).sum(),
                (before * after).sum(),
            ]
        )
        sums += parts
        moved.append(Moved(name, *_told(parts)))
    relative, cosine = _told(sums)
    return Distance(
        path=path,
        relative=relative,
        cosine=cosine,
        moved=sorted(moved, key=lambda each: -each.relative),
        added=sorted(new.tensors.keys() - old.tensors.keys()),
        removed=sorted(old.tensors.keys() - new.tensors.keys()),
        reshaped=[name for name in common if name not in alike],
    )


def _told(parts: Sequence[float] | NDArray[np.float64]) -> tuple[float, float]:
    """The relative distance and the cosine, from the sums of squares of difference, old and new, and of products."""
    difference, before, after, products = (float(each) for each in parts)
    relative = (difference / before) ** 0.5 if before else float(difference > 0)
    length = (before * after) ** 0.5
    return relative, products / length if length else float(difference == 0)
