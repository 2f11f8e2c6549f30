"""Puts prefixes before the keys and values of attentions, through transformers' registry of attention functions.

An attention looks its function up by a name in its config. While a composition with prefixes is active, each attention
that has one gets a copy of its config with our name in it and with its prefixes; the model's own config, its masks and
all its other modules stay as they are. Our function adds the prefixes and calls the function that the model's config
names, with a mask in which they are seen.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, AttentionInterface

from adapterhub_client.compose import caches
from adapterhub_client.compose.engine.branches import acting, child_sizes, row_index
from adapterhub_client.compose.engine.frozen import Frozen
from adapterhub_client.compose.engine.hooks import Handle, Hooks
from adapterhub_client.compose.engine.plan import Plan
from adapterhub_client.compose.expression import (
    Average,
    BatchSplit,
    Block,
    Expression,
    Fuse,
    Leaf,
    Parallel,
    Split,
    leaves,
)
from adapterhub_client.compose.methods import prefix
from adapterhub_client.compose.methods.prefix import Prefix, PrefixAt
from adapterhub_client.compose.sites.backbone import Backbone, Place
from adapterhub_client.compose.sites.spots import Attention
from adapterhub_client.errors import CompositionError

NAME = "adapterhub_prefixes"
HIDDEN = "hidden_states"


# The numbers of the children on the way to a block.
Path = tuple[int, ...]


class Made(NamedTuple):
    """Prefixes, as they stand before the keys and values of a batch.

    Shapes:
        keys, values: (rows or 1, heads, length, features)
        added: (rows, length), what is added to scores where a row has a shorter prefix; None where nothing is
    """

    keys: Tensor
    values: Tensor
    added: Tensor | None = None

    @property
    def length(self) -> int:
        """How long the longest prefix is."""
        return self.keys.shape[2]


class Filling(NamedTuple):
    """What stands before a prefix that is shorter than those of other rows.

    In a `parallel` block the reference library fills up with keys and values of the padding token's number, and adds
    one to their scores instead of hiding them, so that the row is not what it is alone. Its files of such compositions
    give these numbers, so they are ours too. Prefixes of equal lengths need no filling; it is hidden
    in a `batchsplit`, and from rows without any prefix.
    """

    value: float
    added: float


HIDDEN_FILLING = Filling(0.0, float("-inf"))


class Pool:
    """The states of all prefixes in use; what is being trained is made once in a pass, before its first layer.

    Not in a layer, since that may be run again for its gradients.
    """

    def __init__(
        self, backbone: Backbone, modules: Mapping[str, Any], names: Sequence[str]
    ) -> None:
        self._backbone = backbone.module
        self._modules: dict[str, Prefix] = {name: modules[name] for name in names}
        self._of_this_pass: dict[tuple[str, str], Tensor] = {}
        self._is_run_apart = False
        for module in self._modules.values():
            for location in module.parts:
                module.frozen(location)  # there before the first call, which may be compiled

    def install(self) -> Iterator[RemovableHandle]:
        """Register the hook that begins a pass; the handle removes it."""
        yield self._backbone.register_forward_pre_hook(self._begin)

    def sources(self, name: str, location: str) -> list[nn.Parameter]:
        """What the states are made of."""
        return list(self._modules[name].parts[location].parameters())

    def states(self, name: str, location: str) -> Tensor:
        """Keys and values of one adapter for all layers of a location."""
        frozen = self._modules[name].frozen(location)
        if not frozen.needs_gradient():
            # A pass that leads gradients, but not here: each layer is run again for its own, in a backward of its own.
            self._is_run_apart = bool(self._of_this_pass)
            return frozen()
        made = None if self._is_run_apart else self._of_this_pass.get((name, location))
        return frozen() if made is None else made

    def _begin(self, *_call: object) -> None:
        self._is_run_apart = False
        self._of_this_pass = {
            (name, location): module.frozen(location)()
            for name, module in self._modules.items()
            for location in module.parts
            if module.frozen(location).needs_gradient()
        }


class Prefixes:
    """A composition's prefixes at one attention."""

    def __init__(
        self,
        tree: Expression,
        modules: Mapping[str, PrefixAt],
        pool: Pool,
        location: str,
        fillings: Mapping[type[Block], Filling],
    ) -> None:
        self._tree, self._modules, self._pool, self._location = tree, modules, pool, location
        self._fillings = fillings
        self._stacked = dict(self._stacks(tree))
        self.gated = any(m.gate is not None for m in modules.values())

    def __call__(self, rows: int, hidden: Tensor | None) -> Made | None:
        """The prefixes for so many rows; gates read ``hidden``, the attention's input."""
        return self._of(self._tree, (), rows, hidden)

    def _of(self, tree: Expression, path: Path, rows: int, hidden: Tensor | None) -> Made | None:
        if isinstance(tree, Leaf):
            return self._of_leaf(tree.name, rows, hidden)
        if not isinstance(tree, Parallel | BatchSplit):
            found = [
                self._of(child, (*path, n), rows, hidden) for n, child in enumerate(tree.children)
            ]
            return _one_after_the_other([made for made in found if made is not None])
        sizes = child_sizes(tree, rows)
        if path in self._stacked:
            keys, values = self._stacked[path]().unbind(1)
            index = row_index(sizes, keys.device)
            return Made(keys[index], values[index])
        inputs = [None] * len(sizes) if hidden is None else list(torch.split(hidden, sizes))
        parts = zip(tree.children, sizes, inputs, strict=True)
        made = [
            self._of(child, (*path, n), size, own) for n, (child, size, own) in enumerate(parts)
        ]
        return _side_by_side(made, sizes, self._fillings[type(tree)])

    def _of_leaf(self, name: str, rows: int, hidden: Tensor | None) -> Made | None:
        module = self._modules.get(name)
        if module is None:
            return None
        keys, values = (state.unsqueeze(0) for state in self._states(name))
        if module.dropout and module.training:
            keys, values = (
                functional.dropout(state.expand(rows, -1, -1, -1), module.dropout)
                for state in (keys, values)
            )
        if module.gate is not None and hidden is not None:
            of_keys, of_values = module.gates(hidden)
            keys, values = keys * of_keys, values * of_values
        return Made(keys, values)

    def _states(self, name: str) -> Tensor:
        """Keys and values, (2, heads, length, features)."""
        number = self._modules[name].number
        return self._pool.states(name, self._location)[2 * number : 2 * number + 2]

    def _stacked_of(self, names: Sequence[str]) -> Tensor:
        """Keys and values of several adapters, (adapters, 2, heads, length, features)."""
        return torch.stack([self._states(name) for name in names])

    def _stacks(self, tree: Expression, path: Path = ()) -> Iterator[tuple[Path, Frozen[Tensor]]]:
        """For each block that divides rows among equal prefixes, all of them in one tensor."""
        if not isinstance(tree, Block):
            return
        for number, child in enumerate(tree.children):
            yield from self._stacks(child, (*path, number))
        names = [child.name for child in tree.children if isinstance(child, Leaf)]
        found = [self._modules[name] for name in names if name in self._modules]
        if not isinstance(tree, Parallel | BatchSplit) or len(found) < len(tree.children):
            return
        lengths = {self._states(name).shape[2] for name in names}
        if len(lengths) == 1 and all(m.gate is None and not m.dropout for m in found):
            sources = [p for name in names for p in self._pool.sources(name, self._location)]
            yield path, Frozen(sources, partial(self._stacked_of, names))


class AttentionHooks:
    """The prefixes at one attention, for as long as a composition with them is active."""

    def __init__(self, module: nn.Module, own: Prefixes, bias: nn.Module | None) -> None:
        self._module: Any = module
        self._own, self._bias = own, bias
        self._hidden: Tensor | None = None
        self._past: int | Tensor = 0
        self._eager: Callable[..., Any] = sys.modules[
            type(module).__module__
        ].eager_attention_forward
        self._config: Any = None

    def install(self) -> Iterator[Handle]:
        """Lend the attention a config with our name; the handle gives its own back."""
        if self._own.gated or self._bias is not None:
            yield self._module.register_forward_pre_hook(self._record, with_kwargs=True)
        self._config = self._module.config
        lent = deepcopy(self._config)
        lent._attn_implementation = NAME  # noqa: SLF001 - transformers has no other name for it
        lent.adapterhub_prefixes = self
        self._module.config = lent
        yield self

    def remove(self) -> None:
        """Give the attention its own config back."""
        self._module.config = self._config

    def attend(
        self,
        tensors: tuple[Tensor, Tensor, Tensor],
        mask: Any,  # noqa: ANN401 - a tensor, if any
        options: dict[str, Any],
    ) -> Any:  # noqa: ANN401 - what attention functions return
        """Call the model's own attention function, with prefixes before its keys and values."""
        query, key, value = tensors
        name = self._config._attn_implementation  # noqa: SLF001 - as above
        attention = ALL_ATTENTION_FUNCTIONS.get_interface(name, self._eager)
        made = self._own(query.shape[0], self._hidden)
        self._hidden = None
        if made is not None:
            if mask is not None and not isinstance(mask, Tensor):
                raise CompositionError(
                    f"Prefixes cannot be seen in the masks of the attention {name!r}.",
                    hint="load the model with `attn_implementation='sdpa'` or 'eager'",
                )
            mask = self._mask(mask, made, tensors, name, options)
            options = self._biased(options, made, query, key)
            key, value = (
                torch.cat([own.expand(query.shape[0], -1, -1, -1).to(given.dtype), given], dim=2)
                for own, given in ((made.keys, key), (made.values, value))
            )
        return attention(self._module, query, key, value, mask, **options)

    def _mask(
        self,
        mask: Tensor | None,
        made: Made,
        tensors: tuple[Tensor, Tensor, Tensor],
        name: str,
        options: dict[str, Any],
    ) -> Tensor | None:
        """The mask over prefix and input; none where everything is seen, or where the function masks by itself."""
        query, key, _ = tensors
        length, keys = query.shape[2], key.shape[2]
        if name.startswith("flash"):
            if made.added is not None:
                raise CompositionError(
                    f"Prefixes of different lengths cannot be side by side in the attention {name!r}.",
                    hint="load the model with `attn_implementation='sdpa'`",
                )
            return None if mask is None else _with_prefix(mask, made, query.dtype)
        if mask is None:
            asked = options.get("is_causal")
            is_causal = getattr(self._module, "is_causal", True) if asked is None else asked
            # Without a mask other functions are causal by themselves; the eager one never is.
            hides = is_causal and length > 1 and name != "eager"
            if not hides and made.added is None:
                return None
            mask = query.new_ones(1, 1, length, keys, dtype=torch.bool)
            mask = mask.tril() if hides else mask
            if name == "eager":
                mask = _as_scores(mask, query.dtype)
        return _with_prefix(mask, made, query.dtype)

    def _biased(
        self, options: dict[str, Any], made: Made, query: Tensor, key: Tensor
    ) -> dict[str, Any]:
        """The options with a position bias (T5) over the prefix too, which counts as the first positions.

        The reference library has it so: a prefix moves the keys, but not the queries. What is hidden before the
        shorter prefix of a row moves nothing there.
        """
        bias: Tensor | None = options.get("position_bias")
        if bias is None:
            return options
        length = made.length
        if self._bias is None:
            return options | {"position_bias": functional.pad(bias, (length, 0))}
        queries, keys = query.shape[2], key.shape[2]
        make = cast("Any", self._bias).compute_bias
        wider = make(queries, keys + length, device=key.device, past_seen_tokens=self._past)
        if made.added is not None:
            wider = _of_positions(wider, _positions(made.added, keys))
        return options | {"position_bias": wider.to(bias.dtype)}

    def _record(self, _module: nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        if self._own.gated:
            self._hidden = args[0] if args else options[HIDDEN]
        cache = caches.given(options)
        if self._bias is not None:
            past = 0 if cache is None else cache.get_seq_length(self._module.layer_idx)
            # Static caches hand out the counter that they go on counting with.
            self._past = past.clone() if isinstance(past, Tensor) else past


def attend(
    module: Any,  # noqa: ANN401 - an attention
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Any,  # noqa: ANN401 - a tensor, if any
    **options: Any,  # noqa: ANN401 - what attention functions take
) -> Any:  # noqa: ANN401 - what they return
    """The attention function of attentions that have prefixes."""
    hooks: AttentionHooks = module.config.adapterhub_prefixes
    return hooks.attend((query, key, value), attention_mask, options)


AttentionInterface.register(NAME, attend)


def bind(tree: Expression, plan: Plan) -> Iterator[Hooks]:
    """Bind a composition at every attention where it has a prefix.

    Raises:
        CompositionError: A prefix stands in a block that has no meaning for it.
    """
    pooled = plan.shelf.at(prefix.KEY).adapters
    for block, leaf in acting(tree, lambda name: name in pooled):
        if isinstance(block, Fuse | Split | Average):
            raise CompositionError(
                f"The adapter {leaf.name!r} has prefixes, which `{block.operator}` cannot mix.",
                hint="prefixes can be in a `stack`, `parallel` or `batchsplit`",
            )
    names = list(dict.fromkeys(leaves(tree)))
    pool = Pool(plan.backbone, pooled, [name for name in names if name in pooled])
    fillings = _fillings(plan)
    bound: list[Hooks] = []
    for place, modules in plan.places(Attention):
        adapters: Mapping[str, Any] = modules.adapters
        here = {name: adapters[name] for name in names if isinstance(adapters.get(name), PrefixAt)}
        if here:
            own = Prefixes(tree, here, pool, place.spot.name, fillings)
            module = plan.backbone.at(place, cast("Attention", place.spot).path)
            bound.append(AttentionHooks(module, own, _bias(place, plan.backbone)))
    return iter([pool, *bound] if bound else [])


def _fillings(plan: Plan) -> dict[type[Block], Filling]:
    theirs = Filling(float(getattr(plan.backbone.config, "pad_token_id", None) or 0), 1.0)
    return {Parallel: theirs, BatchSplit: theirs if plan.as_reference else HIDDEN_FILLING}


def _bias(place: Place, backbone: Backbone) -> nn.Module | None:
    """The attention that makes the position bias for all of its kind; None where there is none."""
    for other in backbone.places(type(place.spot)):
        if other.spot.name == place.spot.name:
            module = backbone.at(other, cast("Attention", other.spot).path)
            if getattr(module, "has_relative_attention_bias", False):
                return module
    return None


def _one_after_the_other(parts: Sequence[Made]) -> Made | None:
    """The prefixes of a stack: the last of it stands first."""
    if len(parts) < 2:  # noqa: PLR2004 - nothing to join
        return parts[0] if parts else None
    rows = max(made.keys.shape[0] for made in parts)
    ordered = [_of_rows(made, rows) for made in reversed(parts)]
    added = None
    if any(made.added is not None for made in ordered):
        added = torch.cat([_scores(made) for made in ordered], dim=1)
    return Made(
        torch.cat([made.keys for made in ordered], dim=2),
        torch.cat([made.values for made in ordered], dim=2),
        added,
    )


def _side_by_side(
    parts: Sequence[Made | None], sizes: Sequence[int], filling: Filling
) -> Made | None:
    """The prefixes of the parts of a batch, the shorter ones filled up."""
    like = next((made for made in parts if made is not None), None)
    if like is None:
        return None
    length = max(made.length for made in parts if made is not None)
    whole = [
        _filled(_none_like(like), size, length, HIDDEN_FILLING)
        if made is None
        else _filled(made, size, length, filling)
        for made, size in zip(parts, sizes, strict=True)
    ]
    added = None
    if any(made.added is not None for made in whole):
        added = torch.cat([_scores(made) for made in whole])
    return Made(
        torch.cat([made.keys for made in whole]), torch.cat([made.values for made in whole]), added
    )


def _none_like(made: Made) -> Made:
    """A prefix of no length."""
    return Made(made.keys[:1, :, :0], made.values[:1, :, :0])


def _filled(made: Made, rows: int, length: int, filling: Filling) -> Made:
    """A prefix of a greater length, for so many rows."""
    made = _of_rows(made, rows)
    missing = length - made.length
    if not missing:
        return made
    keys, values = (
        functional.pad(each, (0, 0, missing, 0), value=filling.value)
        for each in (made.keys, made.values)
    )
    return Made(keys, values, functional.pad(_scores(made), (missing, 0), value=filling.added))


def _of_rows(made: Made, rows: int) -> Made:
    keys, values = (each.expand(rows, -1, -1, -1) for each in (made.keys, made.values))
    return made._replace(keys=keys, values=values)


def _scores(made: Made) -> Tensor:
    """What is added to the scores of each position."""
    if made.added is not None:
        return made.added
    return made.keys.new_zeros(made.keys.shape[0], made.length)


def _with_prefix(mask: Tensor, made: Made, dtype: torch.dtype) -> Tensor:
    """A mask over prefix and input.

    Shapes:
        mask: (rows or 1, heads or 1, tokens or 1, keys), true or zero where a key is seen; or (rows, keys)
    """
    if mask.dim() == 2:  # noqa: PLR2004 - one row of keys for all tokens
        return torch.cat([mask.new_ones(mask.shape[0], made.length), mask], dim=1)
    if made.added is None:
        seen = mask.new_zeros if mask.is_floating_point() else mask.new_ones
        return torch.cat([seen(*mask.shape[:-1], made.length), mask], dim=-1)
    scores = mask if mask.is_floating_point() else _as_scores(mask, dtype)
    before = made.added.to(scores.dtype).clamp(min=torch.finfo(scores.dtype).min)
    rows = max(before.shape[0], scores.shape[0])
    before = before[:, None, None].expand(rows, *scores.shape[1:3], -1)
    return torch.cat([before, scores.expand(rows, -1, -1, -1)], dim=-1)


def _positions(added: Tensor, keys: int) -> Tensor:
    """The position of each key of prefix and input, in rows where some of the prefix is hidden.

    Shapes:
        added: (rows, length); result: (rows, length + keys)
    """
    is_seen = (added != float("-inf")).long()
    prefix_at = (is_seen.cumsum(dim=1) - 1).clamp_min(0)
    own = torch.arange(keys, device=added.device)
    return torch.cat([prefix_at, is_seen.sum(dim=1, keepdim=True) + own], dim=1)


def _of_positions(bias: Tensor, positions: Tensor) -> Tensor:
    """What a bias has at each row's positions of keys.

    Shapes:
        bias: (1, heads, queries, keys); positions: (rows, keys); result: (rows, heads, queries, keys)
    """
    index = positions[:, None, None].expand(-1, *bias.shape[1:3], -1)
    return bias.expand(positions.shape[0], -1, -1, -1).gather(3, index)


def _as_scores(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to scores so that only what is seen counts."""
    hidden = torch.finfo(dtype).min
    return torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, hidden)
