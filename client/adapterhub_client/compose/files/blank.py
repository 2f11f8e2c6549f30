"""Empty adapters to be filled from files: built once for a config, and copied for every further adapter of its kind.

Building runs torch's initialisation, which takes longer than reading the file that replaces its values. A copy is of
the structure alone: modules, and the names that their tensors have in files.
"""

import enum
from collections import OrderedDict
from functools import partial
from types import BuiltinFunctionType, FunctionType
from typing import Any, NamedTuple

import msgspec
import torch
from torch import Tensor, nn

from adapterhub_client.compose.files.entry import Entry
from adapterhub_client.compose.methods import method
from adapterhub_client.compose.shelf import LoadedAdapter
from adapterhub_client.compose.sites.backbone import Backbone

KEPT = 16
_NAME = "\0"  # no name of an adapter has it
_VALUES = (bool, int, float, str, type(None), torch.dtype, torch.device, enum.Enum, msgspec.Struct)
_COLLECTIONS = (dict, OrderedDict, list, set)


class Blank(NamedTuple):
    """An empty adapter, and each tensor of it with its names in a file."""

    adapter: LoadedAdapter
    entries: list[Entry]


class Blanks:
    """Makes empty adapters for one backbone."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self._templates: OrderedDict[bytes, _Template | None] = OrderedDict()

    def make(self, config: Any, name: str) -> Blank:  # noqa: ANN401 - any method's
        """An adapter with empty modules at each place that its config asks for."""
        like = self.backbone.reference_parameter
        key = msgspec.json.encode([type(config).__name__, config, str(like.dtype)])
        if key not in self._templates:
            blank = self._build(config, _NAME)
            blank.adapter.eval()
            self._templates[key] = _template(blank)
            if len(self._templates) > KEPT:
                self._templates.popitem(last=False)
        self._templates.move_to_end(key)
        template = self._templates[key]
        return template.copy(name) if template else self._build(config, name)

    def _build(self, config: Any, name: str) -> Blank:  # noqa: ANN401
        adapter = LoadedAdapter(config, method.build(config, self.backbone, empty=True))
        places = dict(adapter.places.items())
        return Blank(adapter, list(method.entries(config, places, self.backbone, name)))


class _Template:
    """What copies are made of: the modules, each after those it contains, and the tensors of each."""

    def __init__(self, modules: list[nn.Module], listed: list[tuple[int, Entry]]) -> None:
        self._modules, self._listed = modules, listed
        self._numbers = {id(module): number for number, module in enumerate(modules)}

    def copy(self, name: str) -> Blank:
        copies: list[nn.Module] = []
        for module in self._modules:
            made = module.__class__.__new__(module.__class__)
            state = made.__dict__
            for key, value in module.__dict__.items():
                kind = type(value)
                if kind in _COLLECTIONS:
                    value = value.copy() if value else kind()  # noqa: PLW2901 - a call per attribute
                state[key] = value
            for child, held in module._modules.items():  # noqa: SLF001 - as torch's own deepcopy
                if held is not None:
                    state["_modules"][child] = copies[self._numbers[id(held)]]
            copies.append(made)
        entries = [
            Entry(copies[at], own, tuple(key.replace(_NAME, name) for key in keys))
            for at, (_, own, keys) in self._listed
        ]
        return Blank(copies[-1], entries)  # type: ignore[arg-type]


def _template(blank: Blank) -> _Template | None:
    """None where a copy of the structure would not be the whole adapter."""
    modules = [*reversed(list(blank.adapter.modules()))]
    tensors = [id(tensor) for module in modules for tensor in module.parameters(recurse=False)]
    children = sum(len(list(module.children())) for module in modules)
    listed = {id(entry.tensor) for entry in blank.entries}
    is_tree = children == len(modules) - 1 and len(set(tensors)) == len(tensors)
    if not is_tree or listed != set(tensors) or not all(map(_can_be_copied, modules)):
        return None
    numbers = {id(module): number for number, module in enumerate(modules)}
    owned = []
    for owner, name, keys in blank.entries:
        path, _, own = name.rpartition(".")
        holder = owner.get_submodule(path)
        owned.append((numbers[id(holder)], Entry(holder, own, keys)))
    return _Template(modules, owned)


def _can_be_copied(module: nn.Module) -> bool:
    """Whether nothing of it is shared with its copy but what never changes."""
    own = {"_parameters", "_modules"}
    return not any(True for _ in module.buffers(recurse=False)) and all(
        _is_value(value) for key, value in module.__dict__.items() if key not in own
    )


def _is_value(value: object) -> bool:
    if isinstance(value, tuple | frozenset | list | set):
        return all(map(_is_value, value))
    if isinstance(value, dict):
        return all(map(_is_value, value.values()))
    if isinstance(value, partial):
        return all(map(_is_value, (value.func, value.args, value.keywords)))
    if isinstance(value, FunctionType):
        return value.__closure__ is None
    if isinstance(value, BuiltinFunctionType):
        return not isinstance(value.__self__, nn.Module | Tensor)
    return isinstance(value, _VALUES)
