"""Fusions in their compiled form: made of loaded ones, read and written as files of their own.

A folder holds two files of tensors: what the fusion made of its projections, and the down-projections of its members.
The second may be left out where the members are at hand: they have these too.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from adapterhub_client.compose.engine.compilation import CompiledLayer, compile_layer
from adapterhub_client.compose.engine.fusion import FusionLayer
from adapterhub_client.compose.expression import Expression, Fuse, Leaf, fusions
from adapterhub_client.compose.files import checkpoint
from adapterhub_client.compose.files import folder as folders
from adapterhub_client.compose.files.entry import Entry
from adapterhub_client.compose.methods import method, phm
from adapterhub_client.compose.methods.bottleneck import BottleneckAdapter
from adapterhub_client.compose.shelf import LoadedAdapter, LoadedFusion
from adapterhub_client.compose.sites.backbone import Backbone
from adapterhub_client.compose.sites.spots import Slot
from adapterhub_client.errors import CompositionError, Corrupt
from adapterhub_client.formats import method as formats
from adapterhub_client.formats.method import Bottleneck, Fusion

if TYPE_CHECKING:
    from adapterhub_client.formats.folder import MemberPin

OF_MEMBERS = ("down", "down_bias")
"""the tensors that are the members' own"""


class CompiledFusion(LoadedFusion):
    """A fusion in its compiled form; its members need not be loaded."""

    def __init__(
        self,
        config: Fusion,
        configs: Mapping[str, Bottleneck],
        modules: Mapping[str, CompiledLayer],
    ) -> None:
        super().__init__(config, tuple(configs), modules)
        self.configs = dict(configs)
        self.pins: dict[str, MemberPin] = {}

    def layers(self) -> Iterator[FusionLayer]:
        """None: it has no projections that could be trained."""
        return iter(())

    def member(self, place: str, name: str) -> BottleneckAdapter | None:
        """What is known of a member at a place, without weights; None where it is not there."""
        return cast("CompiledLayer", self.places[place]).members.get(name)

    def of(self, names: Sequence[str]) -> "CompiledFusion":
        """The fusion of these members only."""
        modules = {}
        for place, layer in self._compiled():
            present = [name for name in names if name in layer.members]
            if present:
                modules[place] = layer.of(present)
        kept = CompiledFusion(self.config, {name: self.configs[name] for name in names}, modules)
        kept.pins = {name: pin for name, pin in self.pins.items() if name in names}
        return kept

    def _compiled(self) -> Iterator[tuple[str, CompiledLayer]]:
        for place, layer in self.places.items():
            yield place, cast("CompiledLayer", layer)


def compiled(
    name: str, fusion: LoadedFusion, adapters: Mapping[str, LoadedAdapter]
) -> CompiledFusion:
    """The compiled form of a fusion over loaded adapters.

    Raises:
        CompositionError: A member is not loaded, or cannot be multiplied in; says which and why.
    """
    if isinstance(fusion, CompiledFusion):
        return fusion
    if fusion.config.residual_before:
        raise _refused(name, "passes its residual through the value map (`residual_before`)")
    _require_leaves(name, fusion)
    configs = {member: _mixable(name, member, adapters) for member in fusion.members}
    modules = {}
    for place, layer in fusion.places.items():
        here = {
            member: cast("BottleneckAdapter", adapters[member].places[place])
            for member in fusion.members
            if place in adapters[member].places
        }
        if here:
            modules[place] = compile_layer(cast("FusionLayer", layer), here)
    return CompiledFusion(fusion.config, configs, modules)


def needed(tree: Expression, loaded: Mapping[str, LoadedFusion]) -> Iterator[str]:
    """The adapters that a composition cannot do without: all its leaves but those inside compiled fusions.

    Raises:
        CompositionError: A compiled fusion is asked for what it does not hold.
    """
    fusion = loaded.get(tree.fusion) if isinstance(tree, Fuse) else None
    if isinstance(tree, Leaf):
        yield tree.name
        return
    if not isinstance(fusion, CompiledFusion):
        for child in tree.children:
            yield from needed(child, loaded)
        return
    for child in tree.children:
        if not isinstance(child, Leaf) or child.name not in fusion.members:
            raise CompositionError(
                f"The compiled fusion {tree} has no member `{child}`.",
                hint=f"its members: {', '.join(fusion.members)}",
            )


def write(
    folder: Path, name: str, fusion: CompiledFusion, backbone: Backbone, *, with_members: bool
) -> None:
    """Write a compiled fusion; without its members' part it needs them where it is loaded."""
    envelope = checkpoint.envelope_of(backbone, name, fusion.config.to_dict())
    envelope["library"] = folders.LIBRARY
    envelope["members"] = [
        {"name": member, "config": config.to_dict()} for member, config in fusion.configs.items()
    ]
    for layer in fusion.places.values():
        if isinstance(layer, CompiledLayer) and layer.temperature is not None:
            envelope["temperature"] = float(layer.temperature)
    listed = list(_entries(fusion, backbone, name))
    for files, is_of_members in ((folders.COMPILED, False), (folders.COMPILED_MEMBERS, True)):
        if is_of_members and not with_members:
            continue
        own = (entry for entry in listed if (entry.name in OF_MEMBERS) == is_of_members)
        tensors = {f"{backbone.prefix}.{entry.keys[0]}": entry.tensor for entry in own}
        folders.write_folder(folder, files, envelope, tensors, "safetensors")


def member_names(folder: Path) -> list[str]:
    """The members of the compiled fusion in a folder.

    Raises:
        NotAnAdapter, Corrupt: As when it is read.
    """
    envelope, _ = folders.read_folder(folder, folders.COMPILED)
    return list(_configs(envelope, folder / folders.COMPILED.config))


def read(
    folder: Path, backbone: Backbone, adapters: Mapping[str, LoadedAdapter], *, any_base: bool
) -> tuple[str, CompiledFusion]:
    """The compiled fusion in a folder, and the name it has there.

    Raises:
        NotAnAdapter, Corrupt, WrongBase, IncompatibleAdapter: As for adapters.
        CompositionError: The folder lacks its members' part, and they are not loaded.
    """
    envelope, tensors = folders.read_folder(folder, folders.COMPILED)
    checkpoint.check_base(envelope, backbone, folder, any_base=any_base)
    path = folder / folders.COMPILED.config
    name = folders.required(envelope, "name", str, path)
    config = formats.read_fusion(folders.required(envelope, "config", dict, path))
    configs = _member_configs(envelope, path, backbone)
    blanks = {member: method.build(own, backbone, empty=True) for member, own in configs.items()}
    temperature = None
    if config.temperature:
        temperature = torch.tensor(folders.required(envelope, "temperature", float, path))
    modules = {}
    for place in backbone.places(Slot):
        here = {
            n: cast("BottleneckAdapter", m[str(place)])
            for n, m in blanks.items()
            if str(place) in m
        }
        if here:
            modules[str(place)] = CompiledLayer.empty(config, here, temperature)
    fusion = CompiledFusion(config, configs, modules)
    tensors = {key.removeprefix(f"{backbone.prefix}."): value for key, value in tensors.items()}
    if (folder / folders.COMPILED_MEMBERS.safetensors).is_file():
        _, more = folders.read_folder(folder, folders.COMPILED_MEMBERS)
        tensors |= {key.removeprefix(f"{backbone.prefix}."): value for key, value in more.items()}
    else:
        tensors |= _from_members(fusion, backbone, name, adapters)
    checkpoint.fill(_entries(fusion, backbone, name), tensors, backbone, folder)
    return name, fusion


def _entries(fusion: CompiledFusion, backbone: Backbone, name: str) -> Iterator[Entry]:
    for place in backbone.places(Slot):
        if str(place) in fusion.places:
            layer = fusion.places[str(place)]
            for own, _ in layer.named_parameters():
                yield Entry(layer, own, (f"{place.key}.adapter_fusion_compiled.{name}.{own}",))


def _from_members(
    fusion: CompiledFusion, backbone: Backbone, name: str, adapters: Mapping[str, LoadedAdapter]
) -> dict[str, Tensor]:
    """The members' part, of adapters that are loaded.

    Raises:
        CompositionError: One of them has another config than the one that was compiled.
    """
    for member, config in fusion.configs.items():
        if adapters[member].config != config:
            raise CompositionError(
                f"The compiled fusion {name!r} was made with another {member!r} than the loaded one: "
                f"{config} and {adapters[member].config}."
            )
    tensors = {}
    for entry in _entries(fusion, backbone, name):
        if entry.name in OF_MEMBERS:
            place = next(key for key, layer in fusion.places.items() if layer is entry.owner)
            layer = cast("CompiledLayer", entry.owner)
            downs = [adapters[member].places[place].down for member in layer.members]
            leaf = "bias" if entry.name.endswith("bias") else "weight"
            tensors[entry.keys[0]] = torch.cat([getattr(down, leaf).detach() for down in downs])
    return tensors


def _configs(envelope: Mapping[str, Any], path: Path) -> dict[str, dict[str, Any]]:
    """The members' configs as they stand in the file."""
    configs: dict[str, dict[str, Any]] = {}
    for member in folders.required(envelope, "members", list, path):
        if not isinstance(member, dict) or not isinstance(member.get("config"), dict):
            raise Corrupt(f"'{path}' has a member without a config: {member!r}.")
        configs[folders.required(member, "name", str, path)] = member["config"]
    if not configs:
        raise Corrupt(f"'{path}' has no members.")
    return configs


def _member_configs(
    envelope: Mapping[str, Any], path: Path, backbone: Backbone
) -> dict[str, Bottleneck]:
    configs: dict[str, Bottleneck] = {}
    for member, own in _configs(envelope, path).items():
        config = method.read(own, backbone)
        if not isinstance(config, Bottleneck) or config.ln_before:
            raise Corrupt(f"'{path}' has a member that cannot be compiled: {member!r}.")
        configs[member] = config
    return configs


def _mixable(name: str, member: str, adapters: Mapping[str, LoadedAdapter]) -> Bottleneck:
    if member not in adapters:
        raise CompositionError(f"The member {member!r} of the fusion {name!r} is not loaded.")
    adapter = adapters[member]
    config = adapter.config
    modules = [adapter.places[key] for key in adapter.places if key != phm.KEY]
    if not isinstance(config, Bottleneck) or not all(
        isinstance(module, BottleneckAdapter) for module in modules
    ):
        raise _refused(name, f"its member {member!r} has more than bottlenecks")
    if config.ln_before:
        raise _refused(name, f"its member {member!r} reads through a norm of its own (`ln_before`)")
    return config


def _require_leaves(name: str, fusion: LoadedFusion) -> None:
    for fuse in fusions(fusion.tree(name)):
        if fuse.fusion == name and not all(isinstance(child, Leaf) for child in fuse.children):
            raise _refused(
                name, "a stack stands inside it, whose last adapter has an input of its own"
            )


def _refused(name: str, why: str) -> CompositionError:
    return CompositionError(
        f"The fusion {name!r} cannot be compiled: {why}.", hint="save it with form='trainable'"
    )
