"""Leaves out of a fusion the members it attends to least, and says what that costs.

A member left out takes its weight with it: the softmax shares it among the others. So members without any attention
can go for nothing, and a fusion costs in proportion to how many stay.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import msgspec
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from adapterhub_client.compose import expression
from adapterhub_client.compose.compiledfusion import CompiledFusion
from adapterhub_client.compose.expression import Expression, Fuse, Leaf
from adapterhub_client.compose.lookup import Heads
from adapterhub_client.compose.methods.bottleneck import BottleneckAdapter
from adapterhub_client.compose.shelf import LoadedFusion
from adapterhub_client.errors import CompositionError

if TYPE_CHECKING:
    from adapterhub_client.compose.attachment import Adapted

Batch = Mapping[str, Any]
IGNORED = -100


class Attended(NamedTuple):
    """How much a fusion attends to each member: the mean over the real tokens, at each place and over all places."""

    members: dict[str, float]
    places: dict[str, dict[str, float]]
    """by place, such as `0 output_adapter`"""

    def most(self, count: int) -> tuple[str, ...]:
        """The most attended members, in their own order."""
        ranked = sorted(self.members, key=lambda name: -self.members[name])
        return tuple(name for name in self.members if name in ranked[:count])


class Pruned(NamedTuple):
    """A fusion that was made of another one."""

    name: str
    kept: tuple[str, ...]
    attended: Attended


class Cost(NamedTuple):
    """What a fusion of fewer members costs: the change of the output against all of them, and what is computed."""

    kept: tuple[str, ...]
    change: float
    """mean absolute difference of logits, or of the last hidden state"""
    cosine: float
    """mean cosine of the same"""
    loss: float | None
    accuracy: float | None
    """of labels, where a head predicts them"""
    fusion_work: float
    """the products of the fusion, over those with all members"""
    work: float
    """the products of model and fusion for a token, over those of the model without"""


def measure(adapted: "Adapted", name: str, batches: Iterable[Batch]) -> Attended:
    """What a fusion attends to in these batches; tokens that the mask leaves out do not count.

    Raises:
        CompositionError: There is no such fusion or no batch, or something else is active.
    """
    fusion = _fusion(adapted, name)
    sums: dict[str, Tensor] = {}
    counts: dict[str, float] = {}
    names: dict[str, tuple[str, ...]] = {}
    with _running(adapted, name):
        for batch in batches:
            adapted(**batch)
            for seen in adapted.attention():
                if seen.fusion != name:
                    continue
                place = f"{seen.layer} {seen.place}"
                mask = _mask(adapted, batch, seen.layer, seen.weights)
                weights = seen.weights.double().cpu() * mask[..., None]
                sums[place] = sums.get(place, 0.0) + weights.sum((0, 1))
                counts[place] = counts.get(place, 0.0) + float(mask.sum())
                names[place] = seen.adapters
    if not sums:
        raise CompositionError(
            "There is no batch to measure attention in.", hint="give one at least"
        )
    places = {
        place: dict(zip(names[place], (sums[place] / counts[place]).tolist(), strict=True))
        for place in sums
    }
    means = {
        member: sum(here.get(member, 0.0) for here in places.values()) / len(places)
        for member in fusion.members
    }
    return Attended(means, places)


def prune(
    adapted: "Adapted", name: str, keep: int, batches: Iterable[Batch], new_name: str | None
) -> Pruned:
    """A new fusion over the most attended members of another, with projections of its own.

    Raises:
        CompositionError: It has not so many members, or the name is taken; nothing is new then.
    """
    fusion = _fusion(adapted, name)
    if not 1 <= keep <= len(fusion.members):
        raise CompositionError(
            f"{keep} members of the fusion {name!r} cannot be kept: it has {len(fusion.members)}."
        )
    attended = measure(adapted, name, batches)
    kept = attended.most(keep)
    own = new_name or ",".join(kept)
    if own in adapted.fusions:
        raise CompositionError(f"The fusion {own!r} exists already.", hint="take another name")
    _require_same_reading(adapted, fusion, kept)
    adapted.shelf.put("fusion", own, _of(adapted, name, fusion, kept, own))
    return Pruned(own, kept, attended)


def report(
    adapted: "Adapted", name: str, batches: Iterable[Batch], head: Heads = None
) -> list[Cost]:
    """What it costs to keep the N, N - 1, ..., 1 most attended members of a fusion.

    Each batch may have labels, where a head is there for them.

    Raises:
        CompositionError: There is no such fusion or no batch, or something is active.
    """
    fusion = _fusion(adapted, name)
    adapted.activation.require_idle()
    listed = list(batches)
    tree = fusion.tree(name)
    adapted.activate(tree, head)
    try:
        attended = measure(adapted, name, listed)
    finally:
        adapted.deactivate()
    full: list[Tensor] = []
    costs = []
    for count in range(len(fusion.members), 0, -1):
        kept = attended.most(count)
        _require_same_reading(adapted, fusion, kept)
        adapted.activate(only(tree, name, kept, name), head)
        try:
            answers = list(_answers(adapted, name, listed))
        finally:
            adapted.deactivate()
        full = full or [answer.output for answer in answers]
        costs.append(_cost(adapted, fusion, kept, answers, full))
    return costs


def only(tree: Expression, fusion: str, kept: Sequence[str], new_name: str) -> Expression:
    """The tree with only these members in one of its fusions, which gets another name."""
    if isinstance(tree, Leaf):
        return tree
    if isinstance(tree, Fuse) and tree.fusion == fusion:
        children = tuple(child for child in tree.children if expression.last(child) in kept)
        plain = Fuse(children)
        return plain if plain.fusion == new_name else Fuse(children, new_name)
    children = tuple(only(child, fusion, kept, new_name) for child in tree.children)
    return msgspec.structs.replace(tree, children=children)


class _Answer(NamedTuple):
    output: Tensor
    loss: float | None
    right: int
    labels: int


def _answers(adapted: "Adapted", name: str, batches: Sequence[Batch]) -> Iterator[_Answer]:
    """What the model says to each batch: logits, or the real tokens of the last hidden state."""
    with _running(adapted, name):
        for batch in batches:
            output = adapted(**batch)
            logits = output.get("logits")
            told = output.last_hidden_state if logits is None else logits
            mask = batch.get("attention_mask")
            if logits is None and mask is not None and mask.shape == told.shape[:2]:
                told = told[mask.bool()]
            loss = output.get("loss")
            right, count = _right(logits, batch.get("labels"))
            yield _Answer(
                told.detach().double().cpu(), None if loss is None else float(loss), right, count
            )


def _right(logits: Tensor | None, labels: Tensor | None) -> tuple[int, int]:
    """How many labels are predicted, and how many there are, where they are classes."""
    if logits is None or labels is None or labels.shape != logits.shape[:-1]:
        return 0, 0
    real = labels != IGNORED
    return int((logits.argmax(-1) == labels)[real].sum()), int(real.sum())


def _cost(
    adapted: "Adapted",
    fusion: LoadedFusion,
    kept: Sequence[str],
    answers: Sequence[_Answer],
    full: Sequence[Tensor],
) -> Cost:
    ours = torch.cat([answer.output.flatten(0, -2) for answer in answers])
    all_of_it = torch.cat([output.flatten(0, -2) for output in full])
    losses = [answer.loss for answer in answers if answer.loss is not None]
    labels = sum(answer.labels for answer in answers)
    own, whole = (_work(adapted, fusion, names) for names in (kept, fusion.members))
    base = sum(
        module.weight.numel()
        for layer in adapted.backbone.layers
        for module in layer.modules()
        if isinstance(module, (nn.Linear, Conv1D))
    )
    return Cost(
        tuple(kept),
        float((ours - all_of_it).abs().mean()),
        float(functional.cosine_similarity(ours, all_of_it, dim=-1).mean()),
        sum(losses) / len(losses) if losses else None,
        sum(answer.right for answer in answers) / labels if labels else None,
        own / whole,
        1 + own / base,
    )


def _work(adapted: "Adapted", fusion: LoadedFusion, names: Iterable[str]) -> int:
    """The multiplications of the compiled form for a token: 3 rows for each feature of a bottleneck, 2 a member."""
    widths = [
        module.width
        for name in names
        for place in fusion.places
        if (module := _member(adapted, fusion, place, name)) is not None
    ]
    return adapted.backbone.hidden_size * sum(3 * width + 2 for width in widths)


def _member(
    adapted: "Adapted", fusion: LoadedFusion, place: str, name: str
) -> BottleneckAdapter | None:
    """A member's module at a place, or what is known of it where the fusion is compiled."""
    if isinstance(fusion, CompiledFusion):
        return fusion.member(place, name)
    places = adapted.adapters[name].places
    return cast("BottleneckAdapter", places[place]) if place in places else None


def _of(
    adapted: "Adapted", name: str, fusion: LoadedFusion, kept: Sequence[str], own: str
) -> LoadedFusion:
    """The fusion over some of its members."""
    if isinstance(fusion, CompiledFusion):
        pruned: LoadedFusion = fusion.of(kept)
    else:
        used = {key for member in kept for key in adapted.adapters[member].places}
        modules = {key: deepcopy(fusion.places[key]) for key in fusion.places if key in used}
        pruned = LoadedFusion(fusion.config, tuple(kept), modules)
    pruned.stacks_as_reference = fusion.stacks_as_reference
    pruned.trained_with_base_head = fusion.trained_with_base_head
    pruned.head = fusion.head or (name if name in adapted.heads else None)
    if fusion.expression:
        pruned.expression = str(only(fusion.tree(name), name, kept, own))
    return pruned


def _require_same_reading(adapted: "Adapted", fusion: LoadedFusion, kept: Sequence[str]) -> None:
    """Refuse to leave out the last member where another one, last then, would have all read something else.

    Raises:
        CompositionError: Names both.
    """
    for place in fusion.places:
        here = [n for n in fusion.members if _member(adapted, fusion, place, n) is not None]
        left = [name for name in here if name in kept]
        if not left or left[-1] == here[-1]:
            continue
        before, after = (_member(adapted, fusion, place, name) for name in (here[-1], left[-1]))
        if before is not None and after is not None and _reading(before) != _reading(after):
            raise CompositionError(
                f"Without {here[-1]!r} the fusion would end in {left[-1]!r}, which reads its input or "
                "ends in another way, and the last member decides that for all.",
                hint="keep more members",
            )


def _reading(adapter: BottleneckAdapter) -> tuple[object, ...]:
    config = adapter.config
    return adapter.reads, adapter.residual, config.is_parallel, config.original_ln_after


def _fusion(adapted: "Adapted", name: str) -> LoadedFusion:
    if name not in adapted.fusions:
        raise adapted.shelf.unknown(name)
    return adapted.fusions[name]


@contextmanager
def _running(adapted: "Adapted", name: str) -> Iterator[None]:
    """Evaluate with the fusion active; where nothing is, it is activated meanwhile.

    Raises:
        CompositionError: Something else is active.
    """
    active = adapted.expression
    is_there = active is not None and any(f.fusion == name for f in expression.fusions(active))
    if not is_there and (active is not None or adapted.active_heads):
        raise CompositionError(
            f"The fusion {name!r} is not a part of what is active: {active or 'a head'}.",
            hint="deactivate that first",
        )
    was_training = adapted.training
    if not is_there:
        adapted.activate(name)
    if was_training:
        adapted.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        if not is_there:
            adapted.deactivate()
        if was_training:
            adapted.train()


def _mask(adapted: "Adapted", batch: Batch, layer: int, weights: Tensor) -> Tensor:
    """One for every real token; all are where there is no mask.

    Raises:
        CompositionError: The mask is of other tokens than the fusion saw.
    """
    first = adapted.backbone.first_decoder_layer
    is_decoder = first is not None and layer >= first
    mask = batch.get("decoder_attention_mask" if is_decoder else "attention_mask")
    if mask is None:
        return torch.ones(weights.shape[:2], dtype=torch.float64)
    if mask.shape != weights.shape[:2]:
        raise CompositionError(
            f"The attention mask has the shape {tuple(mask.shape)}, but the fusion saw "
            f"{tuple(weights.shape[:2])} rows and tokens."
        )
    real: Tensor = mask.double().cpu()
    return real
