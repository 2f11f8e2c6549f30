"""How long it trains, the learning rate by step, when it evaluates and when it stops early."""

import math

import msgspec

from adapterhub_training.experiment import Training


class Course(msgspec.Struct, frozen=True):
    """How long it trains, and when it evaluates."""

    steps_per_epoch: int
    steps: int
    warmup_steps: int
    marks: frozenset[int]
    shape: str = "linear"

    @classmethod
    def of(cls, steps_per_epoch: int, settings: Training) -> "Course":
        """The course for so many batches."""
        steps = steps_per_epoch * settings.epochs
        steps = min(steps, settings.max_steps or steps)
        warmup = round(settings.warmup_fraction * steps)
        at = marks(steps_per_epoch, settings.evaluations_per_epoch)
        return cls(steps_per_epoch, steps, warmup, at, settings.schedule)

    def evaluates_after(self, step: int) -> bool:
        """Whether validation follows this step (1 is the first)."""
        return step == self.steps or (step - 1) % self.steps_per_epoch + 1 in self.marks

    def rate(self, step: int) -> float:
        """The share of the peak learning rate for this step (1 is the first)."""
        return rate(step - 1, steps=self.steps, warmup_steps=self.warmup_steps, shape=self.shape)


def rate(step: int, *, steps: int, warmup_steps: int, shape: str = "linear") -> float:
    """The share of the peak learning rate for a step (0 is the first): a linear rise, then a fall to zero, or none."""
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    left = max(0.0, (steps - step) / max(1, steps - warmup_steps))
    if shape == "cosine":
        return (1 - math.cos(math.pi * left)) / 2
    return left if shape == "linear" else 1.0


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
