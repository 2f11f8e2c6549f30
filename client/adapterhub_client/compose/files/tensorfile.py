"""A safetensors file: mapped, checked against its header, and every tensor copied once into memory of its own.

One copy of all tensors together is slower: memory of that size comes fresh from the system, page by page.
"""

import math
import mmap
from collections.abc import Mapping
from pathlib import Path

import msgspec
import torch
from torch import Tensor

from adapterhub_client.errors import Corrupt
from adapterhub_client.tensors import HEADER_LIMIT_BYTES

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_SUMMED = {torch.float16: torch.float32, torch.bfloat16: torch.float32}
_LENGTH_BYTES = 8


class Stored(dict[str, Tensor]):
    """Tensors of one file by name, in its order, each in memory that nothing else uses.

    ``header`` is what stands before them in the file; ``is_finite`` says that all are numbers, as far as a look at
    all together can tell: where it is False, there may be values of several types, or so large that their sum is not.
    """

    def __init__(self, tensors: Mapping[str, Tensor], header: bytes, *, is_finite: bool) -> None:
        super().__init__(tensors)
        self.header, self.is_finite = header, is_finite

    def renamed(self, tensors: Mapping[str, Tensor]) -> "Stored":
        """The same tensors in the same order under other names."""
        return Stored(tensors, self.header, is_finite=self.is_finite)


class _Entry(msgspec.Struct, frozen=True):
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


def read(path: Path) -> Stored:
    """All tensors of a file.

    Raises:
        Corrupt: The file is cut short, or its header does not describe what follows.
    """
    mapped, start = _mapped(path)
    entries = _entries(path, mapped[_LENGTH_BYTES:start])
    size = len(mapped) - start
    end = 0
    for name, entry in entries.items():
        end = _follow(path, name, entry, end)
    if end != size:
        raise Corrupt(f"'{path}' cannot be read: it has {size} bytes of tensors, not {end}.")
    values = torch.frombuffer(mapped, dtype=torch.uint8, offset=start) if size else torch.empty(0)
    tensors = {name: _copied(values, entry) for name, entry in entries.items()}
    return Stored(tensors, mapped[:start], is_finite=_is_finite(values, entries))


def _mapped(path: Path) -> tuple[mmap.mmap, int]:
    """The file, and where its tensors start."""
    with path.open("rb") as file:
        try:
            # Copy on write: torch wants memory it could write to, and never does here.
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        except ValueError as error:
            raise Corrupt(f"'{path}' cannot be read: it is empty.") from error
    length = int.from_bytes(mapped[:_LENGTH_BYTES], "little")
    if not 0 < length <= min(HEADER_LIMIT_BYTES, len(mapped) - _LENGTH_BYTES):
        raise Corrupt(f"'{path}' cannot be read: its header claims {length} bytes.")
    return mapped, _LENGTH_BYTES + length


def _entries(path: Path, header: bytes) -> dict[str, _Entry]:
    try:
        raw = msgspec.json.decode(header, type=dict[str, msgspec.Raw])
        raw.pop("__metadata__", None)
        found = [(name, msgspec.json.decode(entry, type=_Entry)) for name, entry in raw.items()]
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Corrupt(f"'{path}' cannot be read: {error}.") from error
    return dict(sorted(found, key=lambda item: item[1].data_offsets))


def _follow(path: Path, name: str, entry: _Entry, end: int) -> int:
    """Where a tensor ends that has to start where the one before it ended."""
    if entry.dtype not in _DTYPES:
        raise Corrupt(f"'{path}' cannot be read: {name!r} has the dtype {entry.dtype!r}.")
    size = math.prod(entry.shape) * _DTYPES[entry.dtype].itemsize
    if entry.data_offsets != (end, end + size) or min(entry.shape, default=0) < 0:
        raise Corrupt(
            f"'{path}' cannot be read: {name!r} of shape {entry.shape} does not lie at "
            f"{entry.data_offsets}."
        )
    return end + size


def _is_finite(values: Tensor, entries: Mapping[str, _Entry]) -> bool:
    dtypes = {_DTYPES[entry.dtype] for entry in entries.values()}
    dtype = dtypes.pop() if len(dtypes) == 1 else torch.uint8
    if not dtype.is_floating_point or values.storage_offset() % dtype.itemsize:
        return False
    return bool(values.view(dtype).sum(dtype=_SUMMED.get(dtype)).isfinite())


def _copied(values: Tensor, entry: _Entry) -> Tensor:
    dtype, (start, end) = _DTYPES[entry.dtype], entry.data_offsets
    if start == end:
        return torch.empty(entry.shape, dtype=dtype)
    return values[start:end].clone().view(dtype).view(entry.shape)
