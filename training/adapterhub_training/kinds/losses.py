"""Losses, as sums and what they are divided by: parts of a batch then add up to the whole."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from adapterhub_training.kinds.kind import IGNORED, Sums, Wanted


def crossed(logits: Tensor, labels: Tensor, wanted: Wanted, *, all_count: bool = False) -> Sums:
    """Cross entropy with weights of labels, smoothed; or focal.

    Shapes:
        logits: (..., labels)
        labels: (...), int64; `IGNORED` does not count, and with `all_count` is not looked for

    Source: focal loss, Lin et al. 2017, equation 5.
    """
    flat, gold = logits.flatten(0, -2).float(), labels.flatten()
    counted = None if all_count else gold != IGNORED
    weights = _weights(wanted.weights, flat)
    weight = _weight(gold, weights, counted)
    if wanted.loss != "focal":
        total = functional.cross_entropy(
            flat,
            gold,
            weight=weights,
            ignore_index=IGNORED,
            label_smoothing=wanted.smoothing,
            reduction="sum",
        )
        return Sums(total, weight)
    each = functional.cross_entropy(flat, gold, ignore_index=IGNORED, reduction="none")
    easy = (1 - torch.exp(-each)) ** wanted.focus
    scale = 1.0 if weights is None else weights[gold.clamp(min=0)]
    found = scale * easy * each
    return Sums((found if counted is None else found[counted]).sum(), weight)


def binary(logits: Tensor, labels: Tensor, wanted: Wanted) -> Sums:
    """Binary cross entropy of each label, the present ones weighted; or focal.

    Shapes:
        logits, labels: (examples, labels); labels 0 or 1
    """
    wide, gold = logits.float(), labels.float()
    weights = _weights(wanted.weights, wide)
    each = functional.binary_cross_entropy_with_logits(
        wide, gold, pos_weight=weights, reduction="none"
    )
    if wanted.loss == "focal":
        right = torch.exp(
            -functional.binary_cross_entropy_with_logits(wide, gold, reduction="none")
        )
        each = (1 - right) ** wanted.focus * each
    return Sums(each.sum(), float(each.numel()))


def spread(logits: Tensor, labels: Tensor) -> Sums:
    """Cross entropy with the present labels as one distribution, each alike; an example without any does not count.

    Shapes:
        logits, labels: (examples, labels); labels 0 or 1
    """
    gold = labels.float()
    counts = gold.sum(dim=-1)
    each = -(functional.log_softmax(logits.float(), dim=-1) * gold).sum(dim=-1)
    present = counts > 0
    return Sums((each / counts.clamp(min=1))[present].sum(), present.sum().float())


def squared(values: Tensor, targets: Tensor) -> Sums:
    """Squared error.

    Shapes:
        values, targets: (examples)
    """
    each = (values.float() - targets.float()) ** 2
    return Sums(each.sum(), float(each.numel()))


def balanced(counts: Sequence[int]) -> tuple[float, ...]:
    """Weights that let all labels count alike, one on average; a label without examples has one."""
    present = [count for count in counts if count]
    total = sum(present)
    return tuple(total / (len(present) * count) if count else 1.0 for count in counts)


def _weight(gold: Tensor, weights: Tensor | None, counted: Tensor | None) -> Tensor | float:
    """What labels weigh together."""
    if weights is None:
        return float(len(gold)) if counted is None else counted.sum()
    return weights[gold if counted is None else gold[counted]].sum()


def _weights(weights: Sequence[float], like: Tensor) -> Tensor | None:
    return torch.tensor(weights, device=like.device, dtype=like.dtype) if weights else None
