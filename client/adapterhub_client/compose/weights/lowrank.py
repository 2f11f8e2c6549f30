"""The product of low rank that is nearest to a weighted sum of such products, without forming one of them."""

import torch
from torch import Tensor


def nearest(
    downs: Tensor, ups: Tensor, weights: Tensor, rank: int, new_rank: int
) -> tuple[Tensor, Tensor]:
    """A and B of ``new_rank`` with B A nearest to sum_i w_i B_i A_i in the Frobenius norm.

    Where A has several times ``rank`` rows, it is of a projection that makes query, key and value at once: A and B are
    then one below the other for each of them, and each is approximated by itself.

    Shapes:
        downs: (adapters, parts * rank, features); ups: (adapters, parts * outputs, rank); weights: (adapters)
        result: (parts * new_rank, features), (parts * outputs, new_rank)

    Source: Eckart and Young 1936.
    """
    parts = downs.shape[1] // rank
    pairs = [
        _truncated(
            torch.cat(list(down), dim=0),
            torch.cat([weight * own for weight, own in zip(weights, up, strict=True)], dim=1),
            new_rank,
        )
        for down, up in zip(downs.chunk(parts, dim=1), ups.chunk(parts, dim=1), strict=True)
    ]
    return torch.cat([down for down, _ in pairs]), torch.cat([up for _, up in pairs])


def _truncated(down: Tensor, up: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The singular vectors of up @ down, found in the small space that both span; zeros beyond its dimension."""
    left, small_up = torch.linalg.qr(up)
    right, small_down = torch.linalg.qr(down.T)
    vectors, values, others = torch.linalg.svd(small_up @ small_down.T)
    count = min(rank, len(values))
    new_up = left @ vectors[:, :count] * values[:count]
    new_down = others[:count] @ right.T
    short = rank - count
    new_up = torch.nn.functional.pad(new_up, (0, short))
    return torch.nn.functional.pad(new_down, (0, 0, 0, short)), new_up
