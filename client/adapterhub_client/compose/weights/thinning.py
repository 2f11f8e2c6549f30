"""Thins out what several adapters changed, so that their sum interferes less: TIES and DARE.

Each tensor by itself, and not all of an adapter at once as in the papers: so a place whose values are small throughout
keeps its share.
"""

import torch
from torch import Tensor


def trimmed(stacked: Tensor, density: float) -> Tensor:
    """Of each adapter, only its largest values; the others are zero.

    Shapes:
        stacked, result: (adapters, *shape)

    Source: Yadav et al. 2023, section 4, step 1.
    """
    flat = stacked.flatten(1)
    count = int(density * flat.shape[1])
    kept = flat.abs().topk(count, dim=1).indices
    return torch.zeros_like(flat).scatter(1, kept, flat.gather(1, kept)).view_as(stacked)


def dropped(stacked: Tensor, density: float, generator: torch.Generator) -> Tensor:
    """Each value with a probability of ``density``, divided by it, so that the mean stays; the others are zero.

    Source: Yu et al. 2024, section 3.2.
    """
    chances = torch.full(stacked.shape, density)
    return stacked * torch.bernoulli(chances, generator=generator) / density


def of_elected_sign(stacked: Tensor, weights: Tensor) -> Tensor:
    """The mean, at each value, over those adapters that have the sign with the larger mass.

    Shapes:
        stacked: (adapters, *shape); weights: (adapters)
        result: shape

    Source: Yadav et al. 2023, section 4, steps 2 and 3.
    """
    weighted = stacked * weights.view(-1, *[1] * (stacked.dim() - 1))
    elected = torch.where(weighted.sum(0) >= 0, 1.0, -1.0)
    agrees = weighted.sign() == elected
    return (weighted * agrees).sum(0) / agrees.sum(0).clamp(min=1)
