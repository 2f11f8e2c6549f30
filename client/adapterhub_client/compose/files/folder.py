"""Reads and writes the folders of the `adapters` library: a JSON envelope beside one file of tensors.

Pickled files are only ever read with `weights_only`, so nothing in them is executed.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from safetensors.torch import save_file
from torch import Tensor

from adapterhub_client.compose.files import tensorfile
from adapterhub_client.errors import Corrupt, NotAnAdapter
from adapterhub_client.wire import MANIFEST_FILE

Format = Literal["safetensors", "bin"]
Required = TypeVar("Required")
VERSION = "adapters.1.3.0"
LIBRARY = "adapterhub"
SHARED_LIMIT_BYTES = 2**18


class Files(NamedTuple):
    """The names of the files of one kind of folder."""

    config: str
    safetensors: str
    bin: str


ADAPTER = Files("adapter_config.json", "adapter.safetensors", "pytorch_adapter.bin")
HEAD = Files("head_config.json", "model_head.safetensors", "pytorch_model_head.bin")
FUSION = Files(
    "adapter_fusion_config.json",
    "model_adapter_fusion.safetensors",
    "pytorch_model_adapter_fusion.bin",
)
COMPILED = Files(
    "adapter_fusion_compiled.json",
    "model_adapter_fusion_compiled.safetensors",
    "pytorch_model_adapter_fusion_compiled.bin",
)
# The down-projections of a compiled fusion's members, which these have too.
COMPILED_MEMBERS = Files(
    COMPILED.config,
    "model_adapter_fusion_members.safetensors",
    "pytorch_model_adapter_fusion_members.bin",
)

CONFIGS = {ADAPTER.config, FUSION.config, COMPILED.config}


def holds(folder: Path, files: Files) -> bool:
    """Whether the folder has a config of this kind."""
    return (folder / files.config).is_file()


def read_folder(folder: Path, files: Files) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The envelope, and the tensors by the names they have in the file; safetensors where there are both.

    Raises:
        NotAnAdapter: The config or both weight files are missing.
        Corrupt: A file cannot be read.
    """
    config = folder / files.config
    weights = next((folder / n for n in files[1:] if (folder / n).is_file()), None)
    if not config.is_file() or weights is None:
        raise NotAnAdapter(folder, [files.config, f"{files.safetensors} or {files.bin}"])
    try:
        envelope = json.loads(config.read_text(encoding="utf-8"))
        tensors = _read_tensors(weights)
    except (ValueError, UnpicklingError, EOFError, RuntimeError) as error:
        # One line: torch goes on with how to switch the check off.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise Corrupt(f"'{folder}' cannot be read: {reason}") from error
    if not isinstance(envelope, dict):
        raise Corrupt(f"'{config}' holds no object.")
    if not isinstance(tensors, dict) or not all(map(_is_named_tensor, tensors.items())):
        raise Corrupt(f"'{weights}' holds more than named tensors.")
    return envelope, tensors


def required(envelope: Mapping[str, Any], key: str, kind: type[Required], path: Path) -> Required:
    """What an envelope has under a key.

    Raises:
        Corrupt: It is not there, or of another kind.
    """
    value: Any = envelope.get(key)
    if kind is float and type(value) is int:
        value = float(value)
    if not isinstance(value, kind):
        fault = f"has no {key!r}" if value is None else f"has {value!r} as its {key!r}"
        raise Corrupt(f"'{path}' {fault}.")
    return value


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A place to write files, which then replace those in the folder; nothing does where an error ends it.

    What would belong to other weights goes: the manifest of the version the folder was, a head where none was
    written, weights in the other format, the other form of a fusion. The configs come last, since they make it a
    folder of adapters.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".unfinished-", dir=folder) as name:
        place = Path(name)
        yield place
        written = sorted(place.iterdir(), key=lambda path: (path.name in CONFIGS, path.name))
        names = {path.name for path in written}
        stale = [*HEAD]
        stale += ADAPTER[1:] if ADAPTER.config in names else ()
        if names & {FUSION.config, COMPILED.config}:
            stale += [*FUSION, *COMPILED, *COMPILED_MEMBERS]
        (folder / MANIFEST_FILE).unlink(missing_ok=True)
        for path in written:
            path.replace(folder / path.name)
        for old in set(stale) - names:
            (folder / old).unlink(missing_ok=True)


def write_folder(
    folder: Path,
    files: Files,
    envelope: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    form: Format,
) -> None:
    """Write both files."""
    text = json.dumps(envelope, indent=2, sort_keys=True)
    (folder / files.config).write_text(text, encoding="utf-8")
    # Copies, because safetensors refuses tensors that share memory, and a view would save all it looks into.
    copies: dict[int, Tensor] = {}
    for tensor in tensors.values():
        if id(tensor) not in copies:
            copies[id(tensor)] = tensor.detach().to("cpu", copy=True).contiguous()
    named = {name: copies[id(tensor)] for name, tensor in tensors.items()}
    if form == "bin":
        torch.save(named, folder / files.bin)
    else:
        save_file(_apart(named), folder / files.safetensors)


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """One tensor for each name, where several have one; large ones keep the first of their names only.

    Safetensors can say nothing twice. The reference library reports the other names as missing, and still has the
    values, since its modules share them; a reader of ours takes any of the names.
    """
    firsts: set[int] = set()
    apart: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if id(tensor) not in firsts:
            apart[name] = tensor
        elif tensor.nbytes <= SHARED_LIMIT_BYTES:
            apart[name] = tensor.clone()
        firsts.add(id(tensor))
    return apart


def _read_tensors(path: Path) -> Any:  # noqa: ANN401 - a pickle may hold anything
    if path.suffix == ".safetensors":
        return tensorfile.read(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _is_named_tensor(item: tuple[object, object]) -> bool:
    return isinstance(item[0], str) and isinstance(item[1], Tensor)
