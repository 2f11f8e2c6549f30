"""Whether a difference between two ways is more than chance, by resampling what was drawn: seeds and examples."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from adapterhub_training.kinds.kind import Array

SAMPLES = 2000
_SEED = 20201
_TAIL = 2.5
"""per cent on each side of the interval"""


class Difference(NamedTuple):
    """How much better the first is: the mean difference of scores, 95 per cent of its distribution, and p."""

    mean: float
    low: float
    high: float
    p: float
    seeds: int
    """of the way that has fewer; how much seeds differ is not known from one or two"""


def difference(first: Array, second: Array) -> Difference:
    """Compare scores of the same examples by a paired bootstrap over examples, and over seeds of each.

    p is how often, of both sides, resampling turns the sign: the chance to see so much without a difference. With one
    seed or two it is about these seeds alone: another may differ by more.

    Shapes:
        first, second: (seeds, examples); the examples are the same, the seeds need not be

    Source: Efron and Tibshirani 1993, chapters 8 and 16; both levels are resampled, as results vary by seed as well
    (Dodge et al. 2020).
    """
    chance = np.random.default_rng(_SEED)
    means = np.empty(SAMPLES)
    for at in range(SAMPLES):
        examples = np.asarray(chance.integers(first.shape[1], size=first.shape[1]))
        means[at] = _drawn(first, examples, chance) - _drawn(second, examples, chance)
    low, high = np.percentile(means, [_TAIL, 100 - _TAIL])
    tail = min((means <= 0).mean(), (means >= 0).mean())
    p = min(1.0, 2 * max(float(tail), 1 / SAMPLES))
    seeds = min(len(first), len(second))
    return Difference(float(first.mean() - second.mean()), float(low), float(high), p, seeds)


def _drawn(scores: Array, examples: NDArray[np.int64], chance: np.random.Generator) -> float:
    seeds = chance.integers(len(scores), size=len(scores))
    return float(scores[seeds][:, examples].mean())
