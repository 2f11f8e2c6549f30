"""What is loaded beside a model: adapters, fusions and heads by name, none of them part of the model."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from adapterhub_client.compose import expression
from adapterhub_client.compose.engine.fusion import FusionLayer
from adapterhub_client.compose.engine.nodes import Modules
from adapterhub_client.compose.expression import Expression, Fuse, Leaf
from adapterhub_client.compose.files.entry import Entry
from adapterhub_client.compose.sites.backbone import Place
from adapterhub_client.errors import CompositionError
from adapterhub_client.formats.method import Fusion

FORBIDDEN_IN_NAMES = ".'\""


class Pin(NamedTuple):
    """The published version something was loaded from."""

    reference: str
    digest: str


class Original(NamedTuple):
    """What a file of tensors held: what came before them, and which tensors followed."""

    header: bytes
    entries: tuple[Entry, ...]

    def digest(self) -> str:
        """The sha256 of a file with the values that the tensors have now."""
        content = hashlib.sha256(self.header)
        for entry in self.entries:
            content.update(_bytes(entry.tensor))
        return content.hexdigest()


class LoadedAdapter(nn.Module):
    """One adapter: its config and its modules, by place or by what they are once."""

    def __init__(self, config: Any, modules: Mapping[str, nn.Module]) -> None:  # noqa: ANN401 - any method's
        super().__init__()
        self.config = config
        self.places = nn.ModuleDict(modules)
        self.trained_with_base_head = False
        self._pin: Pin | None = None
        self._original: Original | None = None
        self._digest: str | None = None

    def requires_grad_(self, requires_grad: bool = True) -> "LoadedAdapter":  # noqa: FBT001, FBT002 - torch's own
        """Train all of it, or nothing, but for what its method never trains."""
        super().requires_grad_(requires_grad)
        for module in self.modules():
            for name in getattr(module, "never_trained", ()):
                module.get_parameter(name).requires_grad = False
        return self

    @property
    def pin(self) -> Pin | None:
        """The version it was loaded from; None if there is none, or if its values are others now."""
        return self._pin if self._pin is not None and self._digest == self._content() else None

    def publish_as(self, pin: Pin | None, original: Original | None, digest: str | None) -> None:
        """Remember which version this is: as it is now, or as the file of this digest was.

        A file whose digest is known is not hashed again before someone asks.
        """
        self._pin = pin
        self._original = original if digest else None
        self._digest = (digest if self._original else self._content()) if pin else None

    def _content(self) -> str:
        """A digest of its values: fused optimizers and writes through `.data` move no version counter."""
        if self._original is not None:
            return self._original.digest()
        content = hashlib.sha256()
        for parameter in self.parameters():
            content.update(_bytes(parameter))
        return content.hexdigest()


class LoadedFusion(nn.Module):
    """One fusion: its config, its layers by place, its members' names, and what it was saved with."""

    def __init__(
        self, config: Fusion, members: tuple[str, ...], modules: Mapping[str, nn.Module]
    ) -> None:
        super().__init__()
        self.config, self.members = config, members
        self.places = nn.ModuleDict(modules)
        self.stacks_as_reference = False
        self.trained_with_base_head = False
        self.expression: str | None = None
        self.head: str | None = None

    def layers(self) -> Iterator[FusionLayer]:
        """Its layers, in no order."""
        for layer in self.places.values():
            yield cast("FusionLayer", layer)

    def tree(self, name: str) -> Expression:
        """What it is a part of, as it was saved, or the fusion by itself; ``name`` is its own."""
        if self.expression:
            return expression.parse(self.expression)
        plain = Fuse(tuple(Leaf(member) for member in self.members))
        return plain if plain.fusion == name else Fuse(plain.children, name)

    def freeze_what_cancels(self) -> None:
        """The key's bias adds the same to all scores of a token: it has no effect and no gradient."""
        for layer in self.layers():
            if layer.key is not None:
                layer.key.bias.requires_grad = False


class Shelf(nn.Module):
    """Everything that is loaded; a module, so that it moves, trains and is saved as one."""

    def __init__(self) -> None:
        super().__init__()
        self.adapters: dict[str, LoadedAdapter] = {}
        self.fusions: dict[str, LoadedFusion] = {}
        self.heads: dict[str, Any] = {}
        self.active: frozenset[tuple[str, str]] = frozenset()
        # The kind is part of the key, because an adapter and its head share a name.
        self.parts = nn.ModuleDict()

    def put(self, kind: str, name: str, module: nn.Module) -> None:
        """Take something in under a name, in place of what had it.

        Raises:
            CompositionError: What had it is active, or the name is empty or has a character names cannot have.
        """
        self._require_idle(kind, name)
        forbidden = any(character in name for character in FORBIDDEN_IN_NAMES)
        if not name or forbidden or not name.isprintable() or name != name.strip():
            raise CompositionError(
                f"{name!r} cannot be a name.",
                hint="allowed is any text without dots, quotes, control characters, and spaces around it",
            )
        if module.training != self.training:
            module.train(self.training)
        self._named(kind)[name] = module
        self.parts[f"{kind} {name}"] = module

    def drop(self, name: str) -> None:
        """Forget everything of this name.

        Raises:
            CompositionError: Nothing has the name, or what has it is active.
        """
        kinds = [kind for kind in ("adapter", "fusion", "head") if name in self._named(kind)]
        if not kinds:
            raise self.unknown(name)
        for kind in kinds:
            self._require_idle(kind, name)
        for kind in kinds:
            del self._named(kind)[name]
            del self.parts[f"{kind} {name}"]

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Take in all that is put here, or nothing where an error ends it."""
        named: list[Any] = [self.adapters, self.fusions, self.heads, self.parts]
        before = [dict(kind.items()) for kind in named]
        try:
            yield
        except BaseException:
            for kind, had in zip(named, before, strict=True):
                kind.clear()
                kind.update(had)
            raise

    def at(self, place: Place | str) -> Modules:
        """The modules that stand at one place, or that adapters have once under a word."""
        key = str(place)
        return Modules(
            dict(_at(self.adapters, key)),
            dict(_at(self.fusions, key)),
            frozenset(n for n, fusion in self.fusions.items() if fusion.stacks_as_reference),
        )

    def unknown(self, name: str) -> CompositionError:
        """The error for a name that nothing has."""
        known = ", ".join(repr(known) for known in [*self.adapters, *self.fusions, *self.heads])
        return CompositionError(
            f"Nothing named {name!r} is loaded.", hint=f"loaded: {known or 'nothing'}"
        )

    def _require_idle(self, kind: str, name: str) -> None:
        if (kind, name) in self.active:
            raise CompositionError(f"The {kind} {name!r} is active.", hint="deactivate it first")

    def _named(self, kind: str) -> dict[str, Any]:
        named: dict[str, Any] = getattr(self, kind + "s")
        return named


def _bytes(parameter: Tensor) -> Any:  # noqa: ANN401 - an array, to be hashed where it is
    return parameter.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()


def _at(loaded: dict[str, Any], key: str) -> Iterator[tuple[str, Any]]:
    for name, module in loaded.items():
        if key in module.places:
            yield name, module.places[key]
