"""Modules to files and back: which tensor stands under which name, checked to the last one."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from adapterhub_client.compose import folder as folders
from adapterhub_client.compose import heads, legacy
from adapterhub_client.compose.errors import IncompatibleAdapter, WrongShape
from adapterhub_client.compose.folder import Format
from adapterhub_client.compose.fusion import HOTTEST, FusionLayer
from adapterhub_client.compose.methods import method
from adapterhub_client.compose.shelf import LoadedAdapter, LoadedFusion
from adapterhub_client.compose.sites import Backbone, Place
from adapterhub_client.compose.statichead import StaticHead
from adapterhub_client.errors import WrongBase
from adapterhub_client.formats import method as formats

FUSION_PARTS = ("query.weight", "query.bias", "key.weight", "key.bias", "value.weight")


class Entry(NamedTuple):
    """One tensor: the module that owns it, its name there, and its names in a file, the first of which is read."""

    owner: nn.Module
    name: str
    keys: tuple[str, ...]

    @property
    def tensor(self) -> Tensor:
        """The tensor itself."""
        return self.owner.get_parameter(self.name)


def read_adapter(
    folder: Path, backbone: Backbone, *, any_base: bool
) -> tuple[str | None, LoadedAdapter]:
    """The adapter in a folder, and the name it has there.

    Raises:
        NotAnAdapter, Corrupt: The folder or its files are none.
        WrongBase: It was made for another kind of model.
        IncompatibleAdapter: Tensors are missing, unexpected, or of another shape.
    """
    envelope, tensors = folders.read_folder(folder, folders.ADAPTER)
    check_base(envelope, backbone, folder, any_base=any_base)
    tensors = _current(tensors, backbone)
    path = folder / folders.ADAPTER.config
    folders.required(envelope, "config", dict, path)
    config = method.read(legacy.current_config(envelope, tensors, path))
    adapter = new_adapter(config, backbone, empty=True)
    name = None if envelope.get("name") is None else folders.required(envelope, "name", str, path)
    fill(
        adapter_entries(adapter, backbone, name or _found_name(tensors)), tensors, backbone, folder
    )
    return name, adapter


def new_adapter(config: formats.Bottleneck, backbone: Backbone, *, empty: bool) -> LoadedAdapter:
    """An adapter with a module at each place that its config asks for."""
    kind = method.method_of(config)
    modules = {
        place: kind.build(config, backbone, place, empty=empty)
        for place in kind.places(config, backbone)
    }
    return LoadedAdapter(config, modules)


def write_adapter(
    folder: Path, name: str, adapter: LoadedAdapter, backbone: Backbone, form: Format
) -> None:
    """Write an adapter as the `adapters` library would."""
    envelope = _envelope(backbone, name, adapter.config.to_dict())
    tensors = _tensors(adapter_entries(adapter, backbone, name), prefix=backbone.prefix)
    folders.write_folder(folder, folders.ADAPTER, envelope, tensors, form)


def read_fusion(
    folder: Path, backbone: Backbone, members: Mapping[str, LoadedAdapter], *, any_base: bool
) -> tuple[str, LoadedFusion]:
    """The fusion in a folder, and the name it has there; its members decide where its layers stand.

    Raises:
        NotAnAdapter, Corrupt, WrongBase, IncompatibleAdapter: As for adapters.
        CompositionError: A member is not loaded.
    """
    envelope, tensors = folders.read_folder(folder, folders.FUSION)
    check_base(envelope, backbone, folder, any_base=any_base)
    tensors = _current(tensors, backbone)
    path = folder / folders.FUSION.config
    name = folders.required(envelope, "name", str, path)
    names = name.split(",")
    if envelope.get("adapter_names"):
        names = [str(member) for member in folders.required(envelope, "adapter_names", list, path)]
    config = formats.read_fusion(_fusion_config(envelope, path))
    fusion = new_fusion(config, backbone, names, members, empty=True)
    own = _only(tensors, f"adapter_fusion_layer.{name}")
    fill(fusion_entries(fusion, backbone, name), own, backbone, folder)
    for layer in fusion.layers():
        if config.temperature and "temperature" in envelope:
            layer.temperature.fill_(float(folders.required(envelope, "temperature", float, path)))
    return name, fusion


def new_fusion(
    config: formats.Fusion,
    backbone: Backbone,
    names: Sequence[str],
    members: Mapping[str, LoadedAdapter],
    *,
    empty: bool,
) -> LoadedFusion:
    """A fusion with a layer at each slot its members use, in every layer."""
    slots = {
        slot.name
        for slot in backbone.architecture.slots
        if any(getattr(members[name].config, slot.name) for name in names)
    }
    modules: dict[Place, nn.Module] = {
        place: _fusion_layer(config, backbone, empty=empty)
        for place in backbone.places()
        if place.slot.name in slots
    }
    return LoadedFusion(config, tuple(names), modules)


def write_fusion(
    folder: Path, name: str, fusion: LoadedFusion, backbone: Backbone, form: Format
) -> None:
    """Write a fusion as the `adapters` library would; it does not save the temperature, so that is added."""
    envelope = _envelope(backbone, name, fusion.config.to_dict())
    envelope["adapter_names"] = list(fusion.members)
    for layer in fusion.layers():
        if fusion.config.temperature:
            envelope["temperature"] = float(layer.temperature)
    tensors = _tensors(fusion_entries(fusion, backbone, name), prefix=backbone.prefix)
    folders.write_folder(folder, folders.FUSION, envelope, tensors, form)


def read_head(
    folder: Path, backbone: Backbone, model: nn.Module, *, any_base: bool
) -> tuple[str | None, nn.Module]:
    """The head in a folder, and the name it has there; a static head of another class becomes a flexible one.

    Raises:
        NotAnAdapter, Corrupt, WrongBase, IncompatibleAdapter: As for adapters.
        CompositionError: Heads of this kind are not supported.
    """
    envelope, tensors = folders.read_folder(folder, folders.HEAD)
    check_base(envelope, backbone, folder, any_base=any_base)
    path = folder / folders.HEAD.config
    if envelope.get("config") is not None:
        name = folders.required(envelope, "name", str, path)
        config = folders.required(envelope, "config", dict, path)
        flexible = heads.build(config, backbone, empty=True)
        own = _only(tensors, f"heads.{name}")
        fill(head_entries(flexible, name), own, backbone, folder)
        return name, flexible
    model_class = folders.required(envelope, "model_class", str, path)
    labels = folders.required({"label2id": {}} | _without_none(envelope), "label2id", dict, path)
    if model_class == backbone.model_class and backbone.has_static_head:
        return None, StaticHead(model, tensors, labels, folder)
    converted, tensors = heads.from_static(envelope, tensors, backbone)
    fill(head_entries(converted, "static"), tensors, backbone, folder)
    return None, converted


def write_head(folder: Path, name: str, head: Any, backbone: Backbone, form: Format) -> None:  # noqa: ANN401
    """Write a head as the `adapters` library would."""
    if isinstance(head, StaticHead):
        envelope = _envelope(backbone, None, None) | head.envelope(backbone.model_class)
        folders.write_folder(folder, folders.HEAD, envelope, head.tensors(), form)
        return
    envelope = _envelope(backbone, name, head.to_dict())
    folders.write_folder(folder, folders.HEAD, envelope, _tensors(head_entries(head, name)), form)


def check_base(
    envelope: Mapping[str, Any], backbone: Backbone, folder: Path, *, any_base: bool
) -> None:
    """Refuse what was made for another kind of model.

    Raises:
        WrongBase: Names both.
    """
    for key, ours in (("model_type", backbone.model_type), ("hidden_size", backbone.hidden_size)):
        theirs = envelope.get(key)
        if theirs is not None and theirs != ours and not any_base:
            raise WrongBase(
                f"'{folder}' was made for a base model with {key} {theirs!r}; "
                f"{backbone.name!r} has {ours!r}.",
                hint="load the base model it was trained on",
            )


def adapter_entries(adapter: LoadedAdapter, backbone: Backbone, name: str) -> Iterator[Entry]:
    """Every tensor of an adapter."""
    kind = method.method_of(adapter.config)
    for place in backbone.places():
        if str(place) in adapter.places:
            module = adapter.places[str(place)]
            root = f"{backbone.path(place)}.adapters.{name}"
            for own, leaves in kind.leaves(module).items():
                yield Entry(module, own, tuple(f"{root}.{leaf}" for leaf in leaves))


def fusion_entries(fusion: LoadedFusion, backbone: Backbone, name: str) -> Iterator[Entry]:
    """Every tensor of a fusion."""
    for place in backbone.places():
        if str(place) in fusion.places:
            layer = fusion.places[str(place)]
            root = f"{backbone.path(place)}.adapter_fusion_layer.{name}"
            for own, _ in layer.named_parameters():
                yield Entry(layer, own, (f"{root}.{own}",))


def head_entries(head: Any, name: str) -> Iterator[Entry]:  # noqa: ANN401
    """Every tensor of a flexible head."""
    for own, _ in head.layers.named_parameters():
        yield Entry(head.layers, own, (f"heads.{name}.{own}",))


def fill(
    entries: Iterator[Entry], tensors: Mapping[str, Tensor], backbone: Backbone, source: Path
) -> None:
    """Give empty modules their tensors, frozen until they are asked to be trained.

    Raises:
        IncompatibleAdapter: Tensors are missing, unexpected, or of another shape.
    """
    listed = list(entries)
    asked = {entry.keys[0] for entry in listed}
    allowed = {key for entry in listed for key in entry.keys}
    missing, unexpected = sorted(asked - set(tensors)), sorted(set(tensors) - allowed)
    if missing or unexpected:
        raise IncompatibleAdapter(source, missing=missing, unexpected=unexpected)
    like = backbone.reference_parameter
    for entry in listed:
        tensor = tensors[entry.keys[0]]
        if tensor.shape != entry.tensor.shape:
            raise WrongShape(source, entry.keys[0], tensor.shape, entry.tensor.shape)
        path, _, leaf = entry.name.rpartition(".")
        # A copy: the file may be mapped into memory, and be written over while this is in use.
        value = tensor.to(like.device, like.dtype, copy=True)
        setattr(entry.owner.get_submodule(path), leaf, nn.Parameter(value, requires_grad=False))


def _fusion_layer(config: formats.Fusion, backbone: Backbone, *, empty: bool) -> FusionLayer:
    like = backbone.reference_parameter
    dropout = config.dropout_prob or backbone.setting(backbone.architecture.attention_dropout) or 0
    device = torch.device("meta") if empty else like.device
    layer = FusionLayer(config, backbone.hidden_size, dropout, device, like.dtype)
    if config.temperature:
        layer.temperature = torch.tensor(HOTTEST, device=like.device)
    if not empty:
        layer.initialise()
    return layer


def _current(tensors: Mapping[str, Tensor], backbone: Backbone) -> dict[str, Tensor]:
    """The tensors under today's names, relative to the backbone."""
    prefix = backbone.prefix + "."
    return {legacy.current_key(key).removeprefix(prefix): value for key, value in tensors.items()}


def _found_name(tensors: Mapping[str, Tensor]) -> str:
    """The adapter's name as it stands in the keys."""
    return next(
        (key.split(".adapters.")[1].split(".")[0] for key in tensors if ".adapters." in key), ""
    )


def _fusion_config(envelope: Mapping[str, Any], path: Path) -> Mapping[str, Any] | str:
    """The config object, or a preset's name."""
    if isinstance(envelope.get("config"), str):
        return str(envelope["config"])
    return folders.required(envelope, "config", dict, path)


def _without_none(envelope: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in envelope.items() if value is not None}


def _only(tensors: Mapping[str, Tensor], path: str) -> dict[str, Tensor]:
    """Without those of longer names that begin alike, which the reference library saves along."""
    return {key: value for key, value in tensors.items() if path not in key or path + "." in key}


def _tensors(entries: Iterator[Entry], *, prefix: str = "") -> dict[str, Tensor]:
    start = f"{prefix}." if prefix else ""
    return {start + key: entry.tensor for entry in entries for key in entry.keys}


def _envelope(
    backbone: Backbone, name: str | None, config: dict[str, Any] | None
) -> dict[str, Any]:
    return {
        "model_type": backbone.model_type,
        "hidden_size": backbone.hidden_size,
        "model_name": getattr(backbone.config, "name_or_path", None) or None,
        "model_class": backbone.architecture.adapter_class,
        "name": name,
        "config": config,
        "version": folders.VERSION,
    }
