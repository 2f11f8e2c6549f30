"""Read the tensors of a file that torch saved, without torch: both of its layouts, and nothing but tensors.

Such a file is a pickle with the tensors' bytes beside it. The pickle is read by an unpickler that knows twenty names,
each of which makes a plain value here; any other name refuses the file. Run it in a process with limits all the same
(`convert.py`): a pickle can still ask for time and memory.
"""

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod
from typing import IO, Any, NamedTuple, TypeGuard

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
DTYPES = {
    "FloatStorage": ("F32", 4),
    "HalfStorage": ("F16", 2),
    "BFloat16Storage": ("BF16", 2),
    "DoubleStorage": ("F64", 8),
    "LongStorage": ("I64", 8),
    "IntStorage": ("I32", 4),
    "ShortStorage": ("I16", 2),
    "CharStorage": ("I8", 1),
    "ByteStorage": ("U8", 1),
    "BoolStorage": ("BOOL", 1),
}
_COUNT_BYTES = 8
_ZIP_FIELDS, _OLD_FIELDS = 5, 6
_MOST_DIMENSIONS = 16
_LARGEST = 2**53


class CheckpointRefused(Exception):
    """The file is no plain dictionary of tensors; says why."""


class Dtype(NamedTuple):
    """What a storage holds."""

    name: str
    size_bytes: int


class Storage(NamedTuple):
    """Bytes that tensors look at."""

    key: str
    dtype: Dtype
    elements: int


class Tensor(NamedTuple):
    """A view of a storage; shape and stride count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """The bytes of its elements."""
        return prod(self.shape) * self.storage.dtype.size_bytes


class Checkpoint(NamedTuple):
    """The tensors of a file, and how to read the bytes of a storage."""

    tensors: dict[str, Tensor]
    read: Callable[[Storage], bytes]


def open_checkpoint(file: IO[bytes]) -> Checkpoint:
    """Read what tensors a file has; `file` stays open while their bytes are read.

    Raises:
        CheckpointRefused: It is something else, or has more than tensors.
    """
    try:
        found = _zipped(file) if zipfile.is_zipfile(file) else _old(file)
    except CheckpointRefused:
        raise
    except (
        pickle.UnpicklingError,
        zipfile.BadZipFile,
        ArithmeticError,
        AttributeError,
        EOFError,
        LookupError,
        NotImplementedError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise CheckpointRefused(f"it cannot be read: {error}") from error
    if not found.tensors:
        raise CheckpointRefused("it has no tensor")
    return found


def bytes_of(tensor: Tensor, storage: bytes) -> bytes:
    """The elements of a tensor in order, as safetensors has them."""
    size = tensor.storage.dtype.size_bytes
    if _is_contiguous(tensor):
        start = tensor.offset * size
        return storage[start : start + tensor.size_bytes]
    return b"".join(
        storage[at * size : (at + 1) * size]
        for at in _places(tensor.offset, tensor.shape, tensor.stride)
    )


def _zipped(file: IO[bytes]) -> Checkpoint:
    """The layout since torch 1.6: a zip of `data.pkl` and one file for each storage."""
    archive = zipfile.ZipFile(file)
    entries = [name for name in archive.namelist() if name.split("/")[1:] == ["data.pkl"]]
    if len(entries) != 1:
        raise CheckpointRefused(f"it is a zip with {len(entries)} files `data.pkl`, not one")
    root = entries[0].removesuffix("data.pkl")
    if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != b"little":
        raise CheckpointRefused("its bytes are not little-endian")
    with archive.open(entries[0]) as pickled:
        content = _Unpickler(pickled, _ZIP_FIELDS).load()

    def read(storage: Storage) -> bytes:
        info = archive.getinfo(f"{root}data/{storage.key}")
        expected = storage.elements * storage.dtype.size_bytes
        if info.file_size != expected or info.compress_type != zipfile.ZIP_STORED:
            raise CheckpointRefused(
                f"the storage {storage.key!r} has {info.file_size} bytes, not {expected}"
            )
        return archive.read(info)

    return Checkpoint(_tensors(content), read)


def _old(file: IO[bytes]) -> Checkpoint:
    """The layout before torch 1.6: four pickles, their storages' keys, and the storages one after another."""
    file.seek(0)
    magic, protocol, system = (_Unpickler(file, _OLD_FIELDS).load() for _ in range(3))
    if magic != MAGIC or protocol != PROTOCOL or not isinstance(system, dict):
        raise CheckpointRefused("it is no file that torch saved")
    if system.get("little_endian") is not True:
        raise CheckpointRefused("its bytes are not little-endian")
    pickled = _Unpickler(file, _OLD_FIELDS)
    content = pickled.load()
    keys = _Unpickler(file, _OLD_FIELDS).load()
    storages = pickled.storages
    if not isinstance(keys, list) or sorted(keys) != sorted(storages):
        raise CheckpointRefused("its storages are not those that its tensors look at")
    places: dict[str, int] = {}
    for key in keys:
        count = int.from_bytes(file.read(_COUNT_BYTES), "little")
        if count != storages[key].elements:
            raise CheckpointRefused(
                f"the storage {key!r} has {count} elements, not as many as said"
            )
        places[key] = file.tell()
        file.seek(count * storages[key].dtype.size_bytes, 1)

    def read(storage: Storage) -> bytes:
        file.seek(places[storage.key])
        expected = storage.elements * storage.dtype.size_bytes
        content = file.read(expected)
        if len(content) != expected:
            raise CheckpointRefused(f"the storage {storage.key!r} is cut short")
        return content

    return Checkpoint(_tensors(content), read)


class _Unpickler(pickle.Unpickler):
    """Knows tensors, storages and ordered dictionaries; any other name refuses the file."""

    def __init__(self, file: IO[bytes], fields: int) -> None:
        super().__init__(file)
        self.storages: dict[str, Storage] = {}
        self._fields = fields

    def find_class(self, module: str, name: str, /) -> Any:  # noqa: ANN401
        known = _NAMES.get((module, name))
        if known is None:
            raise CheckpointRefused(f"it asks for {module}.{name}, which is no part of a tensor")
        return known

    def persistent_load(self, pid: Any, /) -> Storage:  # noqa: ANN401
        if not isinstance(pid, tuple) or len(pid) != self._fields or pid[0] != "storage":
            raise CheckpointRefused("it refers to something that is no storage")
        _, dtype, key, _, count, *view = pid
        if any(each is not None for each in view):
            raise CheckpointRefused("a storage in it is a part of another")
        if not isinstance(dtype, Dtype) or not isinstance(key, str) or not _is_count(count):
            raise CheckpointRefused("a storage in it has no type, name or size")
        storage = Storage(key, dtype, count)
        if self.storages.setdefault(key, storage) != storage:
            raise CheckpointRefused(f"the storage {key!r} is described in two ways")
        return storage


def _rebuild(
    storage: object,
    offset: object,
    shape: object,
    stride: object,
    _requires_grad: object = None,
    _hooks: object = None,
    _metadata: object = None,
) -> Tensor:
    if not isinstance(storage, Storage) or not _is_count(offset):
        raise CheckpointRefused("a tensor in it has no storage or no place there")
    sizes, steps = _counts(shape), _counts(stride)
    if len(sizes) != len(steps) or len(sizes) > _MOST_DIMENSIONS:
        raise CheckpointRefused("a tensor in it has another number of strides than of dimensions")
    last = offset + sum((size - 1) * step for size, step in zip(sizes, steps, strict=True))
    if prod(sizes) and last >= storage.elements:
        raise CheckpointRefused("a tensor in it reaches beyond its storage")
    if prod(sizes) > storage.elements:
        raise CheckpointRefused("a tensor in it has more elements than its storage")
    return Tensor(storage, offset, sizes, steps)


def _parameter(tensor: object, _requires_grad: object = None, _hooks: object = None) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise CheckpointRefused("a parameter in it is no tensor")
    return tensor


_NAMES: Mapping[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor"): _rebuild,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch", "Size"): tuple,
    **{("torch", name): Dtype(*dtype) for name, dtype in DTYPES.items()},
}


def _tensors(content: object) -> dict[str, Tensor]:
    if not isinstance(content, dict):
        raise CheckpointRefused("it is no dictionary")
    for name, tensor in content.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise CheckpointRefused(f"{str(name)[:100]!r} in it is no tensor")
    return dict(content)


def _counts(values: object) -> tuple[int, ...]:
    if not isinstance(values, tuple | list) or not all(map(_is_count, values)):
        raise CheckpointRefused("a tensor in it has a wrong shape or wrong strides")
    return tuple(values)


def _is_count(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value < _LARGEST


def _is_contiguous(tensor: Tensor) -> bool:
    """Whether its elements follow each other; where there is one, its stride says nothing."""
    step = 1
    for size, stride in zip(reversed(tensor.shape), reversed(tensor.stride), strict=True):
        if size > 1 and stride != step:
            return False
        step *= size
    return True


def _places(offset: int, shape: Sequence[int], stride: Sequence[int]) -> Iterator[int]:
    if not shape:
        yield offset
        return
    for at in range(shape[0]):
        yield from _places(offset + at * stride[0], shape[1:], stride[1:])
