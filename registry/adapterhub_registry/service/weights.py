"""What a safetensors file must look like: its header, and values that are finite. No tensor is loaded.

The file is looked at while it is hashed, a chunk at a time. A value that is not finite has an exponent of ones alone.
Only where the highest byte of some value says that it may be so is a chunk searched, as one long integer: its bits
masked to the exponents, and one added to each, which carries into the bit above exactly where all were ones.
"""

import json
from functools import lru_cache
from math import prod
from typing import Any

import msgspec

_LENGTH_BYTES = 8
_HEADER_LIMIT = 16 * 1024 * 1024
_MOST_DIMENSIONS = 16
_LARGEST = 2**53
"""no file is so large, and products of smaller numbers stay cheap"""
_EXPONENTS = {"F16": 0x7C00, "BF16": 0x7F80, "F32": 0x7F800000, "F64": 0x7FF0000000000000}
_HIGHEST = {
    "F16": b"\x7c\x7d\x7e\x7f\xfc\xfd\xfe\xff",
    "BF16": b"\x7f\xff",
    "F32": b"\x7f\xff",
    "F64": b"\x7f\xff",
}
"""what the highest byte of a value that is not finite may be"""
_BITS = {
    "BOOL": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "I64": 64,
    "U64": 64,
    "F64": 64,
    "C64": 64,
}


class HeaderRefused(Exception):
    """The file is no safetensors file; says why."""


class Tensor(msgspec.Struct, frozen=True):
    """A tensor as the header describes it; `start` and `stop` count from the header's end."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


class Findings(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a safetensors file is, once all its bytes have gone by."""

    shapes: dict[str, tuple[int, ...]] = {}
    """of each tensor"""
    refusal: str | None = None
    """why it is no safetensors file"""
    unbounded: str | None = None
    """the first tensor with values that are not finite"""
    is_zero: bool = False
    """there are values, and all are zero"""

    def faults(self, sha256: str, path: str) -> list[str]:
        """What is wrong with the file, as sentences without their full stop."""
        if self.refusal is not None:
            return [f"{sha256} is no safetensors file: {self.refusal}"]
        if self.unbounded is not None:
            return [f"{path}: the tensor {self.unbounded!r} has values that are not finite"]
        return [f"{path}: every value is zero"] if self.is_zero else []


class Inspection:
    """Looks into a safetensors file of a known size as its bytes go by."""

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._head = bytearray()
        self._left: list[Tensor] | None = None
        self._at = 0
        self._rest = b""
        self._refusal: str | None = None
        self._unbounded: str | None = None
        self._is_zero = True
        self.tensors: dict[str, Tensor] = {}

    def watch(self, chunk: bytes) -> None:
        """Take the next bytes of the file."""
        if self._refusal is not None:
            return
        if self._left is None:
            self._head += chunk
            try:
                chunk = self._read_header()
            except HeaderRefused as error:
                self._refusal = str(error)
                return
        if self._left:
            self._look(chunk)

    @property
    def has_header(self) -> bool:
        """Whether the header has gone by, or is refused: what comes after says nothing more of it."""
        return self._left is not None or self._refusal is not None

    def finish(self) -> None:
        """Take note that the bytes have ended.

        Raises:
            HeaderRefused: It is no safetensors file.
        """
        if self._left is None and self._refusal is None:
            self._refusal = f"a header of {_length(self._head)} bytes does not fit"
        if self._refusal is not None:
            raise HeaderRefused(self._refusal)

    def findings(self) -> Findings:
        """What the file is; asked at its end."""
        try:
            self.finish()
        except HeaderRefused as error:
            return Findings(refusal=str(error))
        has_values = any(tensor.stop > tensor.start for tensor in self.tensors.values())
        return Findings(
            shapes={name: tensor.shape for name, tensor in self.tensors.items()},
            unbounded=self._unbounded,
            is_zero=self._is_zero and has_values,
        )

    def _read_header(self) -> bytes:
        """Read the header once it is there; what comes after it."""
        head = self._head
        if len(head) < _LENGTH_BYTES:
            return b""
        length = _length(head)
        if length > min(_HEADER_LIMIT, self._size_bytes - _LENGTH_BYTES):
            raise HeaderRefused(f"a header of {length} bytes does not fit")
        end = _LENGTH_BYTES + length
        if len(head) < end:
            return b""
        tensors = _tensors(bytes(head[_LENGTH_BYTES:end]), self._size_bytes - end)
        self.tensors = {tensor.name: tensor for tensor in tensors}
        self._left = [tensor for tensor in reversed(tensors) if tensor.stop > tensor.start]
        rest = bytes(head[end:])
        head.clear()
        return rest

    def _look(self, chunk: bytes) -> None:
        """Search the values of a chunk, tensor by tensor; what ends within a value waits for the next."""
        content, at = (self._rest + chunk) if self._rest else chunk, 0
        while self._left and at < len(content):
            tensor = self._left[-1]
            width = max(1, _BITS[tensor.dtype] // 8)
            length = min(tensor.stop - self._at, len(content) - at)
            whole = length - length % width
            self._search(tensor, content[at : at + whole])
            at += whole
            self._at += whole
            if self._at < tensor.stop:
                break
            self._left.pop()
        self._rest = content[at:]

    def _search(self, tensor: Tensor, values: bytes) -> None:
        self._is_zero = self._is_zero and values.count(0) == len(values)
        exponent = _EXPONENTS.get(tensor.dtype)
        if exponent is None or self._unbounded is not None:
            return
        bits = _BITS[tensor.dtype]
        highest = values[bits // 8 - 1 :: bits // 8]
        if not any(byte in highest for byte in _HIGHEST[tensor.dtype]):
            return
        mask, one, above = _lanes(exponent, bits, len(values) * 8 // bits)
        if ((int.from_bytes(values, "little") & mask) + one) & above:
            self._unbounded = tensor.name


@lru_cache(maxsize=16)
def _lanes(exponent: int, bits: int, count: int) -> tuple[int, int, int]:
    """The exponents' bits of so many values, the lowest of each, and the bit above each."""

    def repeated(value: int) -> int:
        return int.from_bytes(value.to_bytes(bits // 8, "little") * count, "little")

    return repeated(exponent), repeated(exponent & -exponent), repeated(1 << (bits - 1))


def _length(head: bytes | bytearray) -> int:
    return int.from_bytes(head[:_LENGTH_BYTES], "little")


def _tensors(header: bytes, size_bytes: int) -> list[Tensor]:
    """The tensors in the order of their bytes, which they fill without gap or overlap."""
    described = [
        _tensor(name, each) for name, each in _parsed(header).items() if name != "__metadata__"
    ]
    tensors = sorted(described, key=lambda tensor: (tensor.start, tensor.stop))
    end = 0
    for tensor in tensors:
        if tensor.start != end:
            raise HeaderRefused(
                f"the tensor {tensor.name!r} starts at {tensor.start}, not at {end}"
            )
        end = tensor.stop
    if end != size_bytes:
        raise HeaderRefused(f"the tensors take {end} bytes of {size_bytes}")
    return tensors


def _parsed(content: bytes) -> dict[str, Any]:
    try:
        header = json.loads(content.decode(), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise HeaderRefused("the header is not JSON") from error
    if not isinstance(header, dict):
        raise HeaderRefused("the header is not an object")
    metadata = header.get("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise HeaderRefused("`__metadata__` does not map text to text")
    return header


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise HeaderRefused("the header has a key twice")
    return found


def _tensor(name: str, tensor: object) -> Tensor:
    if not isinstance(tensor, dict) or set(tensor) != {"dtype", "shape", "data_offsets"}:
        raise HeaderRefused(f"the tensor {name!r} lacks dtype, shape or data_offsets")
    dtype, shape, offsets = tensor["dtype"], tensor["shape"], tensor["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BITS:
        raise HeaderRefused(f"the tensor {name!r} has the unknown dtype {dtype!r}")
    if not _counts(shape) or not _counts(offsets) or len(offsets) != len(("start", "stop")):
        raise HeaderRefused(f"the tensor {name!r} has a wrong shape or wrong offsets")
    start, stop = offsets
    if prod(shape) * _BITS[dtype] != 8 * (stop - start):
        raise HeaderRefused(f"the tensor {name!r} does not have the bytes of its shape")
    return Tensor(name, dtype, tuple(shape), start, stop)


def _counts(values: object) -> bool:
    return (
        isinstance(values, list)
        and len(values) <= _MOST_DIMENSIONS
        and all(type(value) is int and 0 <= value < _LARGEST for value in values)
    )
