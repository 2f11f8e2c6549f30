"""How much a fusion attends to each of its members, measured on batches."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from adapterhub_client.compose import expression
from adapterhub_client.compose.shelf import LoadedFusion
from adapterhub_client.errors import CompositionError

if TYPE_CHECKING:
    from adapterhub_client.compose.attachment import Adapted

Batch = Mapping[str, Any]


class Attended(NamedTuple):
    """How much a fusion attends to each member: the mean over the real tokens, at each place and over all places."""

    members: dict[str, float]
    places: dict[str, dict[str, float]]
    """by place, such as `0 output_adapter`"""

    def most(self, count: int) -> tuple[str, ...]:
        """The most attended members, in their own order."""
        ranked = sorted(self.members, key=lambda name: -self.members[name])
        return tuple(name for name in self.members if name in ranked[:count])


def measure(adapted: "Adapted", name: str, batches: Iterable[Batch]) -> Attended:
    """What a fusion attends to in these batches; tokens that the mask leaves out do not count.

    Raises:
        CompositionError: There is no such fusion or no batch, or something else is active.
    """
    fusion = fusion_of(adapted, name)
    sums: dict[str, Tensor] = {}
    counts: dict[str, float] = {}
    names: dict[str, tuple[str, ...]] = {}
    with running(adapted, name):
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


def fusion_of(adapted: "Adapted", name: str) -> LoadedFusion:
    """The fusion of this name.

    Raises:
        CompositionError: There is none.
    """
    if name not in adapted.fusions:
        raise adapted.shelf.unknown(name)
    return adapted.fusions[name]


@contextmanager
def running(adapted: "Adapted", name: str) -> Iterator[None]:
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
