"""Weights as the pickles that the adapters library asks for, written here from safetensors.

That library reads `pytorch_adapter.bin` unless it is told otherwise, and no version has one. So it, and it alone, is
shown a twin of each safetensors file: an archive of torch that holds tensors and nothing else, written byte by byte,
never read. A twin is made anew for each download and kept nowhere.
"""

import hashlib
import json
import struct
import zipfile
from collections.abc import Iterator
from itertools import accumulate
from typing import IO, Any

import msgspec

from adapterhub_registry.service.repository import Entry, Snapshot
from adapterhub_registry.storage import BlobStore

TWINS = {
    "adapter.safetensors": "pytorch_adapter.bin",
    "model_head.safetensors": "pytorch_model_head.bin",
    "model_adapter_fusion.safetensors": "pytorch_model_adapter_fusion.bin",
}

_STORAGES = {
    "BF16": ("BFloat16Storage", 2),
    "BOOL": ("BoolStorage", 1),
    "F16": ("HalfStorage", 2),
    "F32": ("FloatStorage", 4),
    "F64": ("DoubleStorage", 8),
    "I16": ("ShortStorage", 2),
    "I32": ("IntStorage", 4),
    "I64": ("LongStorage", 8),
    "I8": ("CharStorage", 1),
    "U8": ("ByteStorage", 1),
}
_FOLDER = "archive"
_LENGTH_BYTES = 8
_LOCAL_BYTES, _CENTRAL_BYTES, _END_BYTES = 30, 46, 22
_HEADER_LIMIT = 16 * 1024 * 1024
_LONG_AGO = (1980, 1, 1, 0, 0, 0)


class Twin(Entry, frozen=True):
    """A file that is written from another; its digest only names it."""

    source: Entry


class _Tensor(msgspec.Struct, frozen=True):
    name: str
    storage: str
    count: int
    shape: list[int]
    start: int
    stop: int


def with_twins(store: BlobStore, snapshot: Snapshot) -> Snapshot:
    """The snapshot with a twin of each safetensors file that has none."""
    tree = dict(snapshot.tree)
    for source, path in TWINS.items():
        entry = tree.get(source)
        tensors = None if entry is None or path in tree else _tensors(store, entry)
        if entry is not None and tensors is not None:
            named = hashlib.sha256(b"pickled\0" + entry.sha256.encode()).hexdigest()
            tree[path] = Twin(named, _size_bytes(tensors), entry)
    return msgspec.structs.replace(snapshot, tree=tree)


def write(store: BlobStore, twin: Twin, file: IO[bytes]) -> None:
    """Write a twin; the tensors stream from the store."""
    tensors = _tensors(store, twin.source)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, content in _texts(tensors or []):
            archive.writestr(zipfile.ZipInfo(name, _LONG_AGO), content)
        for number, tensor in enumerate(tensors or []):
            info = zipfile.ZipInfo(_data_name(number), _LONG_AGO)
            info.file_size = tensor.stop - tensor.start
            with archive.open(info, "w") as target:
                length = tensor.stop - tensor.start
                for chunk in store.read(twin.source.sha256, tensor.start, length):
                    target.write(chunk)


def _tensors(store: BlobStore, entry: Entry) -> list[_Tensor] | None:
    """What the file holds, by key; None where it is no safetensors file, or torch has no such type."""
    length = int.from_bytes(b"".join(store.read(entry.sha256, 0, _LENGTH_BYTES)), "little")
    if not 0 < length <= min(_HEADER_LIMIT, entry.size_bytes - _LENGTH_BYTES):
        return None
    start = _LENGTH_BYTES + length
    try:
        header = json.loads(b"".join(store.read(entry.sha256, _LENGTH_BYTES, length)))
        header.pop("__metadata__", None)
        return [_tensor(name, header[name], start) for name in sorted(header)]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def _tensor(name: str, described: dict[str, Any], start: int) -> _Tensor:
    storage, item_bytes = _STORAGES[described["dtype"]]
    first, last = described["data_offsets"]
    shape = [int(size) for size in described["shape"]]
    count = (last - first) // item_bytes
    return _Tensor(name, storage, count, shape, start + first, start + last)


def _texts(tensors: list[_Tensor]) -> Iterator[tuple[str, bytes]]:
    yield f"{_FOLDER}/data.pkl", _pickle(tensors)
    yield f"{_FOLDER}/byteorder", b"little"
    yield f"{_FOLDER}/version", b"3\n"


def _data_name(number: int) -> str:
    return f"{_FOLDER}/data/{number}"


def _size_bytes(tensors: list[_Tensor]) -> int:
    """The size of the archive: every member has two headers, and there is one end."""
    members = [(name, len(content)) for name, content in _texts(tensors)]
    members += [
        (_data_name(number), tensor.stop - tensor.start) for number, tensor in enumerate(tensors)
    ]
    headers = sum(_LOCAL_BYTES + _CENTRAL_BYTES + 2 * len(name) for name, _ in members)
    return headers + sum(size for _, size in members) + _END_BYTES


def _pickle(tensors: list[_Tensor]) -> bytes:
    """A dictionary of tensors in the opcodes of pickle: each is rebuilt from a storage that the archive has."""
    items = b"".join(
        _text(tensor.name) + _rebuilt(number, tensor) for number, tensor in enumerate(tensors)
    )
    return b"\x80\x02" + b"}(" + items + b"u."


def _rebuilt(number: int, tensor: _Tensor) -> bytes:
    storage = (
        b"("
        + _text("storage")
        + f"ctorch\n{tensor.storage}\n".encode()
        + _text(str(number))
        + _text("cpu")
        + _integer(tensor.count)
        + b"tQ"
    )
    strides = list(accumulate(reversed([*tensor.shape[1:], 1]), lambda a, b: a * b))[::-1]
    arguments = (
        storage
        + _integer(0)
        + _tuple(tensor.shape)
        + _tuple(strides if tensor.shape else [])
        + b"\x89"
        + b"ccollections\nOrderedDict\n)R"
    )
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + b"tR"


def _text(text: str) -> bytes:
    content = text.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(content)) + content


def _integer(value: int) -> bytes:
    if value < 2**31:
        return b"J" + struct.pack("<i", value)
    content = value.to_bytes((value.bit_length() + 8) // 8, "little", signed=True)
    return b"\x8a" + bytes([len(content)]) + content


def _tuple(values: list[int]) -> bytes:
    return b"(" + b"".join(map(_integer, values)) + b"t"
