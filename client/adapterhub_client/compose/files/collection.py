"""Everything in a folder at once: a checkpoint, all adapters saved together, or a whole model with adapters in it."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import torch
from safetensors import safe_open
from torch import Tensor

from adapterhub_client import tensors as files
from adapterhub_client.compose.files import archive, legacy
from adapterhub_client.compose.files import folder as folders
from adapterhub_client.compose.files.sources import Sources
from adapterhub_client.compose.shelf import Shelf
from adapterhub_client.errors import BaseModelNotFound, Corrupt, NotAnAdapter
from adapterhub_client.formats import method as formats

MODEL_CONFIG = "config.json"
MODEL_PICKLE = "pytorch_model.bin"
LOOKED_FOR = (
    f"sub-folders with {folders.ADAPTER.config}",
    f"a model's {MODEL_CONFIG} that names adapters",
)
_KEPT_OF_MODEL = ("model_type", "hidden_size")
_OWNED = (
    "adapters",
    "invertible_adapters",
    "loras",
    "prefix_tunings",
    "prefix_gates",
    "prompt_tunings",
    "refts",
    "shared_parameters",
)


class Collection(msgspec.Struct, frozen=True):
    """The names of what was loaded."""

    adapters: tuple[str, ...]
    fusions: tuple[str, ...]
    heads: tuple[str, ...]


def load(source: Path, sources: Sources, shelf: Shelf, *, any_base: bool) -> Collection:
    """Load all adapters, fusions and heads of a folder or a zip file, whole or not at all.

    Raises:
        NotAnAdapter: There is none.
    """
    with _apart(source) as root, shelf.whole():
        places = [root, *sorted(path for path in root.rglob("*") if path.is_dir())]
        adapters = [place for place in places if folders.holds(place, folders.ADAPTER)]
        fusions = [place for place in places if folders.holds(place, folders.FUSION)]
        owned = {*adapters, *fusions}
        heads = [p for p in places if folders.holds(p, folders.HEAD) and p not in owned]
        if not places or not (owned or heads):
            raise NotAnAdapter(source, LOOKED_FOR)
        before = set(shelf.heads)
        found = [sources.load(place, None, any_base=any_base) for place in adapters]
        fused = [sources.load_fusion(place, None, any_base=any_base) for place in fusions]
        alone = [sources.load_head(place, None, any_base=any_base) for place in heads]
        new = [name for name in shelf.heads if name not in before]
        return Collection(tuple(found), tuple(fused), tuple(dict.fromkeys([*new, *alone])))


@contextmanager
def _apart(source: Path) -> Iterator[Path]:
    """The folder itself, an archive unpacked, or the adapters of a whole model, each in a folder of its own."""
    if archive.is_archive(source):
        with archive.unpacked(source) as root, _apart(root) as inner:
            yield inner
        return
    config = _model_config(source)
    if config is None:
        yield source
        return
    with TemporaryDirectory(prefix="adapterhub-") as name:
        _take_apart(source, config, Path(name))
        yield Path(name)


def _model_config(folder: Path) -> dict[str, Any] | None:
    """The config of a model with adapters in it."""
    path = folder / MODEL_CONFIG
    if not path.is_file():
        return None
    try:
        config = json.loads(path.read_bytes())
    except ValueError as error:
        raise Corrupt(f"'{path}' cannot be read: {error}.") from error
    has_adapters = isinstance(config, dict) and isinstance(config.get("adapters"), dict)
    return config if has_adapters else None


def _take_apart(folder: Path, config: Mapping[str, Any], target: Path) -> None:
    """Write a folder for each adapter, fusion and head of a model, as if each had been saved alone."""
    model = {key: config[key] for key in _KEPT_OF_MODEL if key in config}
    tensors = dict(_adapter_tensors(folder))
    listed = {**config["adapters"]}
    for name, method in _adapters(listed, folder):
        own = {k: t for k, t in tensors.items() if (name in _names(k))}
        _write(target, folders.ADAPTER, name, model | method, own)
    for name, envelope in _fusions(config, listed):
        own = {k: t for k, t in tensors.items() if f".adapter_fusion_layer.{name}." in k}
        _write(target, folders.FUSION, name, model | envelope, own)
    for name, head in (config.get("prediction_heads") or {}).items():
        if isinstance(head, dict) and head.get("head_type"):
            own = {k: t for k, t in tensors.items() if k.startswith(f"heads.{name}.")}
            _write(target, folders.HEAD, name, model | {"config": head}, own)


def _adapters(listed: Mapping[str, Any], folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each adapter's name and envelope; the first version kept the kind of adapter beside the config's name."""
    configs = listed.get("config_map") or {}
    adapters = listed.get("adapters") or {}
    if not isinstance(configs, dict) or not isinstance(adapters, dict):
        raise Corrupt(f"'{folder / MODEL_CONFIG}' has adapters that cannot be read.")
    for name, said in adapters.items():
        is_first = isinstance(said, list)
        kind, key = (said[0], said[-1]) if said and is_first else (None, said)
        config = key if isinstance(key, dict) else configs.get(key)
        if not config:
            config = formats.parse(str(key)).to_dict()
        envelope = {"config": config} | ({"type": kind} if kind else {})
        yield name, envelope | ({} if is_first else {"version": folders.VERSION})


def _fusions(
    config: Mapping[str, Any], listed: Mapping[str, Any]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each fusion's name and envelope; the first version listed them in the model's own config, with one config."""
    members = listed.get("fusion_name_map") or {}
    configs = listed.get("fusion_config_map") or {}
    for name, key in (listed.get("fusions") or {}).items():
        found = key if isinstance(key, dict) else configs.get(key, key)
        yield name, {"config": found, "adapter_names": members.get(name)}
    for said in config.get("adapter_fusion_models") or ():
        name = ",".join(said) if isinstance(said, list) else str(said)
        yield name, {"config": config.get("adapter_fusion") or "dynamic"}


def _write(
    target: Path,
    kind: folders.Files,
    name: str,
    envelope: dict[str, Any],
    tensors: dict[str, Tensor],
) -> None:
    """Write what it is beside what has the same name, in a folder numbered by how many there are."""
    same = [p for p in target.iterdir() if (p / "name").read_text() == name]
    place = same[0] if same else target / str(len(list(target.iterdir())))
    place.mkdir(exist_ok=True)
    (place / "name").write_text(name)
    folders.write_folder(place, kind, envelope | {"name": name}, tensors, "safetensors")


def _names(key: str) -> set[str]:
    """The adapters that a tensor may be of, by its path."""
    return {name for group, name in pairwise(key.split(".")) if group in _OWNED}


def _adapter_tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a model's files that are of adapters, fusions or heads; all else stays on disk.

    Raises:
        Corrupt: A file cannot be read.
    """
    pickled = folder / MODEL_PICKLE
    try:
        paths = files.weight_files(folder)
    except BaseModelNotFound:
        if not pickled.is_file():
            raise
        loaded = torch.load(pickled, map_location="cpu", weights_only=True)
        for key, tensor in loaded.items():
            if _is_ours(legacy.current_key(key)):
                yield legacy.current_key(key), tensor
        return
    for path in paths:
        with safe_open(path, "pt") as file:
            for key in file.keys():  # noqa: SIM118 - not a mapping
                if _is_ours(legacy.current_key(key)):
                    yield legacy.current_key(key), file.get_tensor(key)


def _is_ours(key: str) -> bool:
    return key.startswith("heads.") or ".adapter_fusion_layer." in key or bool(_names(key))
