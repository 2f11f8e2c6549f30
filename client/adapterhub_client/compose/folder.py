"""Reads and writes the folders of the `adapters` library: a JSON envelope beside one file of tensors.

Pickled files are only ever read with `weights_only`, so nothing in them is executed.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from adapterhub_client.errors import Corrupt, NotAnAdapter
from adapterhub_client.wire import MANIFEST_FILE

Format = Literal["safetensors", "bin"]
VERSION = "adapters.1.3.0"


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


CONFIGS = {ADAPTER.config, FUSION.config}


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
        envelope: dict[str, Any] = json.loads(config.read_text(encoding="utf-8"))
        return envelope, _read_tensors(weights)
    except (ValueError, SafetensorError, UnpicklingError, EOFError, RuntimeError) as error:
        # One line: torch goes on with how to switch the check off.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise Corrupt(f"'{folder}' cannot be read: {reason}") from error


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A place to write files, which then replace those in the folder; nothing does where an error ends it.

    What would belong to other weights goes: the manifest of the version the folder was, a head where none was
    written, weights in the other format. The configs come last, since they make it a folder of adapters.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".unfinished-", dir=folder) as name:
        place = Path(name)
        yield place
        written = sorted(place.iterdir(), key=lambda path: (path.name in CONFIGS, path.name))
        names = {path.name for path in written}
        stale = [*HEAD]
        stale += [n for files in (ADAPTER, FUSION) if files.config in names for n in files[1:]]
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
    plain = {name: t.detach().to("cpu", copy=True).contiguous() for name, t in tensors.items()}
    if form == "bin":
        torch.save(plain, folder / files.bin)
    else:
        save_file(plain, folder / files.safetensors)


def _read_tensors(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return load_file(path)
    tensors: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return tensors
