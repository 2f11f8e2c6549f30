"""What is in effect on a model: a composition bound at every place, its hooks, and the heads."""

import weakref
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from adapterhub_client.compose import expression
from adapterhub_client.compose.engine import (
    attention,
    biases,
    embedding,
    positions,
    projection,
    residual,
)
from adapterhub_client.compose.engine import copies as planning
from adapterhub_client.compose.engine.frozen import Frozen, gathered, kept_in
from adapterhub_client.compose.engine.hooks import Handle, Hooks, bind_slots, slot_hooks
from adapterhub_client.compose.engine.plan import Manner, Plan
from adapterhub_client.compose.engine.residents import Residents, require_plain
from adapterhub_client.compose.expression import Expression, Leaf, Rows
from adapterhub_client.compose.files.compiledfusion import needed
from adapterhub_client.compose.heads import Head
from adapterhub_client.compose.heads.static import StaticHead, exchange
from adapterhub_client.compose.shelf import Shelf
from adapterhub_client.compose.sites.backbone import Backbone, Place
from adapterhub_client.errors import CompositionError

if TYPE_CHECKING:
    from adapterhub_client.compose.engine.nodes import Bound


# Each binds a composition at one kind of spot; slots are bound apart, for their fusions.
BINDERS: list[Callable[[Expression, Plan], Iterator[Hooks]]] = [
    embedding.bind,
    projection.bind,
    biases.bind,
    residual.bind,
    attention.bind,
    positions.bind,
]


# What is active on a model, and by whom: of two attachments neither sees the other's hooks.
_ACTIVE: "WeakKeyDictionary[nn.Module, tuple[weakref.ref[Activation], str]]" = WeakKeyDictionary()

# A parameter, and the dtype and the device it had.
Kind = tuple[nn.Parameter, tuple[torch.dtype, torch.device]]


class FusionWeights(NamedTuple):
    """What a fusion attended to at one place, in the last batch.

    Shapes:
        weights: (batch, tokens, adapters), in the order of ``adapters``; they sum to one
    """

    fusion: str
    adapters: tuple[str, ...]
    layer: int
    place: str
    weights: Tensor


class Activation:
    """The composition in effect, at most one; `put` replaces it and `clear` leaves no trace of it."""

    def __init__(self, shelf: Shelf, backbone: Backbone, model: nn.Module) -> None:
        self._shelf, self._backbone, self._model = shelf, backbone, model
        self.expression: Expression | None = None
        self.heads: Sequence[Head] = ()
        self.for_heads = embedding.ForHeads()
        self.residents: Residents | None = None
        self.manner = Manner()
        self._bound: list[tuple[Place, Bound]] = []
        self._handles: list[Handle] = []
        self._own_head: dict[str, nn.Parameter] = {}
        self._kept: list[Frozen[Any]] = []
        self._kinds: list[Kind] = []

    def put(
        self,
        tree: Expression | None,
        heads: Sequence[Head],
        static: StaticHead | None,
        manner: Manner,
    ) -> None:
        """Put a composition and its heads into effect; a ``static`` head stands in for the model's own.

        Raises:
            CompositionError: A part is not loaded, or they do not fit; what was in effect stays so.
        """
        for name in () if tree is None else needed(tree, self._shelf.fusions):
            if name not in self._shelf.adapters:
                raise self._shelf.unknown(name)
        self._require_layers(manner.skip_layers)
        if tree is not None:
            self._require_alone()
        copies = planning.plan(tree, self._shelf, self._backbone, manner.skip_layers)
        plan = Plan(self._backbone, self._shelf, manner, copies)
        with gathered() as kept:
            bound = [] if tree is None else list(bind_slots(tree, plan))
            others = [] if tree is None else [h for bind in BINDERS for h in bind(tree, plan)]
            shifts = {} if tree is None else dict(biases.parts(tree, plan))
            told = embedding.ForHeads() if tree is None else embedding.for_heads(tree, plan)
        for name in () if tree is None else needed(tree, self._shelf.fusions):
            kept.extend(kept_in(self._shelf.adapters[name]))
        self.clear()
        self._kept = kept
        self.expression, self.heads, self._bound = tree, heads, bound
        self.for_heads = told
        self.residents, self.manner = manner.residents, manner
        if copies is not None:
            self._handles.extend(planning.install(copies, self._backbone))
        slots = [slot_hooks(self._backbone, *part, shifts) for part in bound]
        for hooks in [*others, *slots]:
            self._handles.extend(hooks.install())
        if static is not None:
            self._own_head = static.exchange(self._model)
        self._shelf.active = frozenset(self._in_use(static))
        if tree is not None:
            _ACTIVE[self._backbone.module] = (weakref.ref(self), str(tree))
            self._kinds = _kinds(self._backbone, self._shelf, tree)

    def put_rows(self, names: Sequence[str], heads: Mapping[str, Head]) -> None:
        """Keep adapters ready for rows to name them.

        Raises:
            CompositionError: A name is not loaded or comes twice, or an adapter cannot be picked by row.
        """
        for name in names:
            if name not in self._shelf.adapters:
                raise self._shelf.unknown(name)
        twice = sorted(name for name, times in Counter(names).items() if times > 1)
        if twice or not names:
            fault = f"{twice[0]!r} is named twice" if twice else "no adapter is named"
            raise CompositionError(f"Adapters cannot be made resident so: {fault}.")
        require_plain({name: self._shelf.adapters[name] for name in names})
        tree = Rows(tuple(Leaf(name) for name in names))
        self.put(tree, (), None, Manner(residents=Residents(names, heads)))

    def require_idle(self) -> None:
        """Refuse what needs a model on which no adapter acts.

        Raises:
            CompositionError: Names what is active.
        """
        if self.expression is not None:
            raise CompositionError(f"`{self.expression}` is active.", hint="deactivate it first")

    def require_moved_together(self) -> None:
        """Refuse a call after the model was moved or cast, and what acts on it was not.

        Raises:
            CompositionError: Names both.
        """
        if not self._kinds:
            return
        (base, before), (own, own_before) = self._kinds
        now = (base.dtype, base.device)
        is_moved = now != before and base.device.type != "meta"  # where offloaded weights wait
        if is_moved and (own.dtype, own.device) == own_before != now:
            raise CompositionError(
                f"The model is {base.dtype} on {base.device} now, but its adapters are {own.dtype} on {own.device}.",
                hint="move or cast the adapted model, not the model in it",
            )

    def clear(self) -> None:
        """Take everything out of effect."""
        for handle in self._handles:
            handle.remove()
        for name, own in self._own_head.items():
            # The model may have been moved or cast while this was not a part of it.
            stand_in = self._model.get_parameter(name)
            own.data = own.data.to(stand_in.device, stand_in.dtype)
        exchange(self._model, self._own_head)
        self._shelf.active = frozenset()
        self.for_heads = embedding.ForHeads()
        self.expression, self.heads, self.residents = None, (), None
        self.manner = Manner()
        self._handles, self._bound, self._own_head, self._kept = [], [], {}, []
        self._kinds = []
        if self._is_owner():
            del _ACTIVE[self._backbone.module]

    def attention(self) -> Iterator[FusionWeights]:
        """What each fusion attended to in the last batch, layer by layer."""
        for place, bound in self._bound:
            for name, mixture in bound.mixtures:
                if mixture.seen is not None:
                    weights = mixture.attention()
                    yield FusionWeights(name, mixture.names, place.layer, place.spot.name, weights)

    def forget(self) -> None:
        """Drop what is kept of parameters: they may have changed."""
        for frozen in self._kept:
            frozen.drop()

    def warm(self) -> None:
        """Form what is kept of frozen parameters now: no call has to, and a compiled one finds it."""
        for frozen in self._kept:
            frozen.form()

    def _is_owner(self) -> bool:
        owner, _ = _ACTIVE.get(self._backbone.module, (None, ""))
        return owner is not None and owner() is self

    def _require_alone(self) -> None:
        """Refuse a model on which what another attachment activated still acts.

        Raises:
            CompositionError: Names it.
        """
        other = _ACTIVE.get(self._backbone.module)
        if other is not None and not self._is_owner():
            raise CompositionError(
                f"The model is attached to twice, and `{other[1]}` is active on it by the other attachment.",
                hint="deactivate it there first, or load the model once more",
            )

    def _require_layers(self, layers: Collection[int]) -> None:
        """Refuse layers to skip that the model has not.

        Raises:
            CompositionError: Names the first, and how many there are.
        """
        count = len(self._backbone.layers)
        unknown = sorted(layer for layer in layers if not 0 <= layer < count)
        if unknown:
            raise CompositionError(
                f"There is no layer {unknown[0]} to skip: {self._backbone.name!r} has {count} layers.",
                hint=f"layers are counted from 0 to {count - 1}",
            )

    def _in_use(self, static: StaticHead | None) -> Iterator[tuple[str, str]]:
        if self.expression is not None:
            for name in expression.leaves(self.expression):
                yield "adapter", name
            for fuse in expression.fusions(self.expression):
                yield "fusion", fuse.fusion
        for name, head in self._shelf.heads.items():
            if head is static or any(head is active for active in self.heads):
                yield "head", name


def _kinds(backbone: Backbone, shelf: Shelf, tree: Expression) -> list[Kind]:
    """What the base and what acts on it are now, by a parameter of each."""
    names = [name for name in expression.leaves(tree) if name in shelf.adapters]
    own = (parameter for name in names for parameter in shelf.adapters[name].parameters())
    both = [backbone.reference_parameter, next(own, None)]
    found = [(one, (one.dtype, one.device)) for one in both if one is not None]
    return found if len(found) == len(both) else []
