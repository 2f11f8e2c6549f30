"""The learning rate by step, and when to stop early."""

import math


def rate(step: int, *, steps: int, warmup_steps: int) -> float:
    """The share of the peak learning rate for a step (0 is the first): a linear rise, then a linear fall to zero."""
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    return max(0.0, (steps - step) / max(1, steps - warmup_steps))


def marks(steps_per_epoch: int, evaluations: int) -> frozenset[int]:
    """After how many steps of an epoch to evaluate; the last one is always among them."""
    evaluations = min(evaluations, steps_per_epoch)
    return frozenset(
        math.ceil(steps_per_epoch * turn / evaluations) for turn in range(1, evaluations + 1)
    )


class Patience:
    """Watches a value that should rise: is the newest the best, and has it stalled for too long."""

    def __init__(self, evaluations: int | None) -> None:
        self._evaluations = evaluations
        self.best = -math.inf
        self.waited = 0

    def improved(self, value: float) -> bool:
        """Take a value into account; whether it is the best so far."""
        if value > self.best:
            self.best, self.waited = value, 0
            return True
        self.waited += 1
        return False

    @property
    def exhausted(self) -> bool:
        """Whether there were enough evaluations without progress."""
        return self._evaluations is not None and self.waited >= self._evaluations
