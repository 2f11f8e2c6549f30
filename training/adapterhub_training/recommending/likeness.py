"""How alike two adapters are by their weights alone.

A bottleneck's basis is arbitrary, so what is compared is the product of its two projections, place by place: the map
that it is without its non-linearity. Low-rank updates are compared as they are. Only adapters of one base can be.

Source: Zhou et al. 2022 compare tuned parameters themselves; products make that independent of the initial weights.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from adapterhub_client.compose.shelf import LoadedAdapter

Pair = tuple[Tensor, Tensor]
"""the way up and the way down: (features, width), (width, features)"""


def likeness(first: LoadedAdapter, second: LoadedAdapter) -> float | None:
    """The mean cosine of their maps over the places that both have; None where there is none."""
    ours, theirs = dict(_maps(first)), dict(_maps(second))
    shared = [
        place
        for place in ours
        if place in theirs and ours[place][0].shape[0] == theirs[place][0].shape[0]
    ]
    if not shared:
        return None
    cosines = [_cosine(ours[place], theirs[place]) for place in shared]
    return sum(cosines) / len(cosines)


def _cosine(first: Pair, second: Pair) -> float:
    own, other = _inner(first, first), _inner(second, second)
    size = (own * other) ** 0.5
    return _inner(first, second) / size if size else 0.0


def _inner(first: Pair, second: Pair) -> float:
    """The sum of products of the entries of two maps, which are never formed: <UD, U'D'> = sum(UᵀU' * DD'ᵀ)."""
    (up, down), (other_up, other_down) = first, second
    return float(((up.T @ other_up) * (down @ other_down.T)).sum())


def _maps(adapter: LoadedAdapter) -> Iterator[tuple[str, Pair]]:
    with torch.no_grad():
        for place, module in adapter.places.items():
            up, down = _ends(module)
            if up is not None and down is not None and up.shape[1] == down.shape[0]:
                yield place, (up.double().cpu(), down.double().cpu())


def _ends(module: nn.Module) -> tuple[Tensor | None, Tensor | None]:
    """The matrices of a bottleneck, or of a low-rank update."""
    up, down = getattr(module, "up", None), getattr(module, "down", None)
    if isinstance(up, nn.Module) and isinstance(down, nn.Module):
        first, second = getattr(up, "weight", None), getattr(down, "weight", None)
        if isinstance(first, Tensor) and isinstance(second, Tensor):
            return first, second
    b, a = getattr(module, "lora_B", None), getattr(module, "lora_A", None)
    return (b, a) if isinstance(a, Tensor) and isinstance(b, Tensor) else (None, None)
