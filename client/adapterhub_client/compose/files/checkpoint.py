"""Modules to files and back: which tensor stands under which name, checked to the last one."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from adapterhub_client.compose import heads
from adapterhub_client.compose.engine.fusion import HOTTEST, FusionLayer
from adapterhub_client.compose.errors import IncompatibleAdapter, NotFinite, WrongShape
from adapterhub_client.compose.files import folder as folders
from adapterhub_client.compose.files import legacy
from adapterhub_client.compose.files.blank import Blanks
from adapterhub_client.compose.files.entry import Entry
from adapterhub_client.compose.files.folder import Format
from adapterhub_client.compose.files.tensorfile import Stored
from adapterhub_client.compose.heads.static import StaticHead, has_own_head
from adapterhub_client.compose.methods import method
from adapterhub_client.compose.methods.bottleneck import BottleneckAdapter
from adapterhub_client.compose.shelf import LoadedAdapter, LoadedFusion, Original
from adapterhub_client.compose.sites.backbone import Backbone
from adapterhub_client.compose.sites.spots import Slot
from adapterhub_client.errors import CompositionError, WrongBase
from adapterhub_client.formats import method as formats

FUSION_PARTS = ("query.weight", "query.bias", "key.weight", "key.bias", "value.weight")


def read_adapter(
    folder: Path, blanks: Blanks, *, any_base: bool
) -> tuple[str | None, LoadedAdapter, Original | None]:
    """The adapter in a folder, the name it has there, and what its file holds where that is kept as it is.

    Raises:
        NotAnAdapter, Corrupt: The folder or its files are none.
        WrongBase: It was made for another kind of model.
        IncompatibleAdapter: Tensors are missing, unexpected, or of another shape.
    """
    backbone = blanks.backbone
    envelope, tensors = folders.read_folder(folder, folders.ADAPTER)
    check_base(envelope, backbone, folder, any_base=any_base)
    tensors = _current(tensors, backbone)
    path = folder / folders.ADAPTER.config
    if isinstance(envelope.get("config"), str):
        # Some early files name a preset.
        envelope["config"] = formats.parse(envelope["config"]).to_dict()
    folders.required(envelope, "config", dict, path)
    config = method.read(legacy.current_config(envelope, tensors, path), backbone)
    name = None if envelope.get("name") is None else folders.required(envelope, "name", str, path)
    adapter, entries = blanks.make(config, name or _found_name(tensors))
    fill(entries, tensors, backbone, folder)
    return name, adapter, _original(tensors, entries, backbone.reference_parameter.dtype)


def new_adapter(config: Any, backbone: Backbone, *, empty: bool) -> LoadedAdapter:  # noqa: ANN401
    """An adapter with a module at each place that its config asks for."""
    return LoadedAdapter(config, method.build(config, backbone, empty=empty))


def write_adapter(
    folder: Path, name: str, adapter: LoadedAdapter, backbone: Backbone, form: Format
) -> None:
    """Write an adapter as the `adapters` library would."""
    envelope = envelope_of(backbone, name, adapter.config.to_dict())
    tensors = _tensors(adapter_entries(adapter, backbone, name), prefix=backbone.prefix)
    if form == "safetensors":
        # Only the other format keeps what is there several times once.
        tensors = {key: tensor for key, tensor in tensors.items() if not legacy.is_copy(key)}
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
    # Trained as its library reads it: theirs runs a norm twice before a stack inside a fusion.
    fusion.stacks_as_reference = envelope.get("library") != folders.LIBRARY
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
    _require_bottlenecks(names, members)
    used = {place.split()[-1] for name in names for place in members[name].places}
    modules: dict[str, nn.Module] = {
        str(place): _fusion_layer(config, backbone, empty=empty)
        for place in backbone.places(Slot)
        if place.spot.name in used
    }
    return LoadedFusion(config, tuple(names), modules)


def write_fusion(
    folder: Path, name: str, fusion: LoadedFusion, backbone: Backbone, form: Format
) -> None:
    """Write a fusion as the `adapters` library would; it does not save the temperature, so that is added."""
    envelope = envelope_of(backbone, name, fusion.config.to_dict())
    envelope["adapter_names"] = list(fusion.members)
    if not fusion.stacks_as_reference:
        envelope["library"] = folders.LIBRARY
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
        own = flexible.without_tied(_only(tensors, f"heads.{name}"), f"heads.{name}.")
        fill(head_entries(flexible, name), own, backbone, folder)
        return name, flexible
    model_class = folders.required(envelope, "model_class", str, path)
    labels = folders.required({"label2id": {}} | _without_none(envelope), "label2id", dict, path)
    # For some classes the reference library writes the backbone along, which is the base model's own matter.
    tensors = {n: t for n, t in tensors.items() if not n.startswith(f"{backbone.prefix}.")}
    if model_class == backbone.model_class and has_own_head(model):
        return None, StaticHead(model, tensors, labels, folder)
    converted, tensors = heads.from_static(envelope, tensors, backbone)
    own = converted.without_tied(tensors, "heads.static.")
    fill(head_entries(converted, "static"), own, backbone, folder)
    return None, converted


def write_head(folder: Path, name: str, head: Any, backbone: Backbone, form: Format) -> None:  # noqa: ANN401
    """Write a head as the `adapters` library would."""
    if isinstance(head, StaticHead):
        envelope = envelope_of(backbone, None, None) | head.envelope(backbone.model_class)
        folders.write_folder(folder, folders.HEAD, envelope, head.tensors(), form)
        return
    envelope = envelope_of(backbone, name, head.to_dict())
    tensors = _tensors(head_entries(head, name))
    tensors |= {f"heads.{name}.{own}": tensor for own, tensor in head.tied().items()}
    folders.write_folder(folder, folders.HEAD, envelope, tensors, form)


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
    yield from method.entries(adapter.config, dict(adapter.places.items()), backbone, name)


def fusion_entries(fusion: LoadedFusion, backbone: Backbone, name: str) -> Iterator[Entry]:
    """Every tensor of a fusion."""
    for place in backbone.places(Slot):
        if str(place) in fusion.places:
            layer = fusion.places[str(place)]
            root = f"{place.key}.adapter_fusion_layer.{name}"
            for own, _ in layer.named_parameters():
                yield Entry(layer, own, (f"{root}.{own}",))


def head_entries(head: Any, name: str) -> Iterator[Entry]:  # noqa: ANN401
    """Every tensor of a flexible head."""
    for own, _ in head.layers.named_parameters():
        yield Entry(head.layers, own, (f"heads.{name}.{own}",))


def fill(
    entries: Iterable[Entry], tensors: Mapping[str, Tensor], backbone: Backbone, source: Path
) -> None:
    """Give empty modules their tensors, frozen until they are asked to be trained.

    Raises:
        IncompatibleAdapter: Tensors are missing, unexpected, of another shape, or not finite.
    """
    named = _named_as_listed(list(entries), tensors, source)
    like = backbone.reference_parameter
    is_owned = isinstance(tensors, Stored)
    known_finite = isinstance(tensors, Stored) and tensors.is_finite
    for key, entry in named.items():
        tensor = tensors[key]
        path, _, leaf = entry.name.rpartition(".")
        owner = entry.owner.get_submodule(path) if path else entry.owner
        held: dict[str, Any] = owner._parameters  # noqa: SLF001 - an attribute is looked for in all a module has
        if tensor.shape != held[leaf].shape:
            raise WrongShape(source, key, tensor.shape, held[leaf].shape)
        # A copy of all others: tensors of a pickled file may share memory, and a head's may be the base's.
        value = tensor.to(like.device, like.dtype, copy=not is_owned)
        if not (known_finite and tensor.dtype == like.dtype) and not value.isfinite().all():
            raise NotFinite(source, key, tensor, like.dtype)
        held[leaf] = nn.Parameter(value, requires_grad=False)


def _named_as_listed(
    entries: Sequence[Entry], tensors: Mapping[str, Tensor], source: Path
) -> dict[str, Entry]:
    """Each entry under the first of its names that the file has; one that is shared may stand there only once."""
    named = {next((key for key in e.keys if key in tensors), e.keys[0]): e for e in entries}
    missing, unexpected = named.keys() - tensors.keys(), set(tensors)
    for entry in entries:
        unexpected.difference_update(entry.keys)
    if missing or unexpected:
        raise IncompatibleAdapter(source, missing=sorted(missing), unexpected=sorted(unexpected))
    return named


def _original(
    tensors: Mapping[str, Tensor], entries: Sequence[Entry], dtype: torch.dtype
) -> Original | None:
    """What a file holds, where its bytes can be told from the adapter's tensors: those were not converted."""
    if not isinstance(tensors, Stored) or any(t.dtype != dtype for t in tensors.values()):
        return None
    by_key = {key: entry for entry in entries for key in entry.keys}
    return Original(tensors.header, tuple(by_key[key] for key in tensors))


def _require_bottlenecks(names: Sequence[str], members: Mapping[str, LoadedAdapter]) -> None:
    """Refuse members that a fusion cannot mix: it needs the up-projections of bottlenecks."""
    for name in names:
        if not any(isinstance(m, BottleneckAdapter) for m in members[name].places.values()):
            raise CompositionError(
                f"The adapter {name!r} has no bottleneck, so a fusion cannot mix it.",
                hint="fuse bottleneck adapters; `average` and `parallel` take other methods too",
            )


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
    named = {legacy.current_key(key).removeprefix(prefix): value for key, value in tensors.items()}
    is_one_to_one = len(named) == len(tensors)
    return tensors.renamed(named) if isinstance(tensors, Stored) and is_one_to_one else named


_GROUPS = (
    "adapters",
    "invertible_adapters",
    "loras",
    "prefix_tunings",
    "prompt_tunings",
    "refts",
    "bitfits",
)


def _found_name(tensors: Mapping[str, Tensor]) -> str:
    """The adapter's name as it stands in the keys."""
    for key in tensors:
        parts = key.split(".")
        for group, name in pairwise(parts):
            if group in _GROUPS:
                return name
    return ""


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


def envelope_of(
    backbone: Backbone, name: str | None, config: dict[str, Any] | None
) -> dict[str, Any]:
    """What stands in the config file beside any tensors: the kind of model, a name and a config."""
    return {
        "model_type": backbone.model_type,
        "hidden_size": backbone.hidden_size,
        "model_name": getattr(backbone.config, "name_or_path", None) or None,
        "model_class": backbone.architecture.adapter_class,
        "name": name,
        "config": config,
        "version": folders.VERSION,
    }
