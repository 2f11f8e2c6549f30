"""Tensors in place, without torch: mapped from safetensors files, or seen through a live model's own memory."""

import ctypes
import json
import mmap
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from adapterhub_client.errors import BaseModelNotFound, Corrupt

HEADER_LIMIT_BYTES = 100 * 2**20
_TORCH_DTYPES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
}


class Raw(msgspec.Struct, frozen=True):
    """A tensor as its bytes, where they are; `dtype` as safetensors writes it."""

    name: str
    dtype: str
    shape: list[int]
    data: Any  # memoryview; msgspec knows no such type
    keep: Any = None  # whatever owns the memory


def live(name: str, parameter: Any) -> Raw:  # noqa: ANN401
    """A live model's parameter; what is on another device is copied first."""
    tensor = parameter.detach().cpu().contiguous()
    dtype = _TORCH_DTYPES.get(str(tensor.dtype).removeprefix("torch."), str(tensor.dtype))
    size = tensor.numel() * tensor.element_size()
    memory = (ctypes.c_char * size).from_address(tensor.data_ptr()) if size else b""
    return Raw(name, dtype, list(tensor.shape), memoryview(memory).cast("B"), tensor)


def mapped(open_files: ExitStack, path: Path) -> Iterator[Raw]:
    """Every tensor of a safetensors file, mapped for as long as ``open_files`` is.

    Raises:
        Corrupt: The file is damaged, or lies about where its tensors are.
    """
    handle = open_files.enter_context(path.open("rb"))
    try:
        view = memoryview(mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ))
        length = int.from_bytes(view[:8], "little")
        if not 0 < length <= min(HEADER_LIMIT_BYTES, len(view) - 8):
            raise ValueError(f"its header claims {length} bytes")  # noqa: TRY301
        header: dict[str, Any] = json.loads(bytes(view[8 : 8 + length]))
        header.pop("__metadata__", None)
        data = view[8 + length :]
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            if not 0 <= begin <= end <= len(data):
                raise ValueError(f"tensor {name!r} lies outside the file")  # noqa: TRY301
            yield Raw(name, entry["dtype"], entry["shape"], data[begin:end])
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt(f"'{path}' is no safetensors file: {error}.") from error


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of the model in a folder, all shards of it.

    Raises:
        BaseModelNotFound: There is no model, or not as safetensors.
    """
    if not folder.is_dir():
        raise BaseModelNotFound(
            f"There is no base model at '{folder}'.", hint="give the folder that holds config.json"
        )
    if not (folder / "config.json").is_file():
        raise BaseModelNotFound(
            f"'{folder}' has no config.json.", hint="give the folder that holds config.json"
        )
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            shards = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Corrupt(f"'{index}' is no index of shards: {error!r}.") from error
        files = [folder / shard for shard in shards]
    else:
        files = sorted(folder.glob("model.safetensors")) or sorted(folder.glob("*.safetensors"))
    absent = [path.name for path in files if not path.is_file()]
    if absent or not files:
        raise BaseModelNotFound(
            f"'{folder}' has no {' and no '.join(absent) or 'model.safetensors'}.",
            hint="save the model again with `model.save_pretrained(folder)`: it writes safetensors",
        )
    return files
