"""What a safetensors file must look like, read from its header alone: no tensor is loaded."""

import json
from collections.abc import Iterator
from math import prod
from typing import Any

_LENGTH_BYTES = 8
_HEADER_LIMIT = 16 * 1024 * 1024
_MOST_DIMENSIONS = 16
_LARGEST = 2**53
"""no file is so large, and products of smaller numbers stay cheap"""
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


def check_header(chunks: Iterator[bytes], size_bytes: int) -> None:
    """Check that a file is what its name says: length, JSON, and tensors that fill it without gap or overlap.

    Raises:
        HeaderRefused: Says what is wrong.
    """
    head = _take(chunks, _LENGTH_BYTES, b"")
    length = int.from_bytes(head[:_LENGTH_BYTES], "little")
    if len(head) < _LENGTH_BYTES or length > min(_HEADER_LIMIT, size_bytes - _LENGTH_BYTES):
        raise HeaderRefused(f"a header of {length} bytes does not fit")
    content = _take(chunks, _LENGTH_BYTES + length, head)[_LENGTH_BYTES : _LENGTH_BYTES + length]
    spans = sorted(
        _span(name, tensor) for name, tensor in _parsed(content).items() if name != "__metadata__"
    )
    end = 0
    for start, stop, name in spans:
        if start != end:
            raise HeaderRefused(f"the tensor {name!r} starts at {start}, not at {end}")
        end = stop
    if end != size_bytes - _LENGTH_BYTES - length:
        raise HeaderRefused(
            f"the tensors take {end} bytes of {size_bytes - _LENGTH_BYTES - length}"
        )


def _take(chunks: Iterator[bytes], length: int, taken: bytes) -> bytes:
    parts, held = [taken], len(taken)
    while held < length:
        chunk = next(chunks, b"")
        if not chunk:
            break
        parts.append(chunk)
        held += len(chunk)
    return b"".join(parts)


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


def _span(name: str, tensor: object) -> tuple[int, int, str]:
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
    return start, stop, name


def _counts(values: object) -> bool:
    return (
        isinstance(values, list)
        and len(values) <= _MOST_DIMENSIONS
        and all(type(value) is int and 0 <= value < _LARGEST for value in values)
    )
