"""Write safetensors as a file that torch loads, without torch: clients of old read nothing else.

The layout is torch's own since 1.6: a zip of `data.pkl` and one file for each tensor. The pickle is put together from
its opcodes, so that nothing has to be imported and the same tensors are the same bytes.
"""

import json
import pickle
from collections.abc import Iterable, Iterator, Sequence
from math import prod
from typing import IO, Any, NamedTuple, Protocol

from adapterhub_registry.legacy.zipping import add, deterministic

STORAGES = {
    "F32": "FloatStorage",
    "F16": "HalfStorage",
    "BF16": "BFloat16Storage",
    "F64": "DoubleStorage",
    "I64": "LongStorage",
    "I32": "IntStorage",
    "I16": "ShortStorage",
    "I8": "CharStorage",
    "U8": "ByteStorage",
    "BOOL": "BoolStorage",
}
_LENGTH_BYTES = 8
_PROTOCOL = 2
_ORDERED = b"ccollections\nOrderedDict\n)R"
"""an empty `OrderedDict`"""
_REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
_FALSE = b"\x89"
_MARK, _TUPLE, _REDUCE, _PERSISTENT, _SET_ITEMS, _STOP = b"(", b"t", b"R", b"Q", b"u", b"."


class Source(Protocol):
    """Reads bytes of a safetensors file."""

    def __call__(self, start: int, length: int) -> Iterable[bytes]:
        """The bytes from `start` on."""


class Tensor(NamedTuple):
    """A tensor in a safetensors file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    size_bytes: int


def tensors(source: Source) -> list[Tensor]:
    """What a safetensors file has, by name."""
    length = int.from_bytes(b"".join(source(0, _LENGTH_BYTES)), "little")
    header: dict[str, Any] = json.loads(b"".join(source(_LENGTH_BYTES, length)))
    header.pop("__metadata__", None)
    body = _LENGTH_BYTES + length
    return [
        Tensor(
            name,
            each["dtype"],
            tuple(each["shape"]),
            body + each["data_offsets"][0],
            each["data_offsets"][1] - each["data_offsets"][0],
        )
        for name, each in sorted(header.items())
    ]


def is_expressible(found: Sequence[Tensor]) -> bool:
    """Whether torch of old has a type for all of it."""
    return all(tensor.dtype in STORAGES for tensor in found)


def write(source: Source, target: IO[bytes]) -> None:
    """Write a safetensors file anew as torch saves a dictionary of tensors."""
    found = tensors(source)
    with deterministic(target) as archive:
        content = b"".join(_pickled(found))
        add(archive, "archive/data.pkl", [content], len(content))
        for key, tensor in enumerate(found):
            chunks = source(tensor.start, tensor.size_bytes)
            add(archive, f"archive/data/{key}", chunks, tensor.size_bytes)
        add(archive, "archive/version", [b"3\n"], 2)


def _pickled(found: Sequence[Tensor]) -> Iterator[bytes]:
    yield pickle.PROTO + bytes([_PROTOCOL])
    yield _ORDERED + _MARK
    for key, tensor in enumerate(found):
        yield _plain(tensor.name)
        yield _REBUILD + _MARK
        yield from _storage(key, tensor)
        yield _plain(0)
        yield _plain(tensor.shape)
        yield _plain(tuple(prod(tensor.shape[at + 1 :]) for at in range(len(tensor.shape))))
        yield _FALSE + _ORDERED
        yield _TUPLE + _REDUCE
    yield _SET_ITEMS + _STOP


def _storage(key: int, tensor: Tensor) -> Iterator[bytes]:
    """What torch calls a persistent id: the storage that lies beside the pickle under this key."""
    yield _MARK + _plain("storage")
    yield f"ctorch\n{STORAGES[tensor.dtype]}\n".encode()
    yield _plain(str(key)) + _plain("cpu") + _plain(prod(tensor.shape))
    yield _TUPLE + _PERSISTENT


def _plain(value: str | int | tuple[int, ...]) -> bytes:
    """The opcodes of a plain value: what `pickle` writes between its first and its last, without its memory."""
    if isinstance(value, tuple):
        return _MARK + b"".join(map(_plain, value)) + _TUPLE
    if isinstance(value, str):
        content = value.encode()
        return pickle.BINUNICODE + len(content).to_bytes(4, "little") + content
    return pickle.dumps(value, _PROTOCOL)[2:-1]
