"""A learning rate found by trying: it is raised from step to step until the loss breaks away.

Every batch is easier or harder than the last, which says more than a low rate does. So a first pass learns nothing, and
what counts is how far the loss of a batch is from what it was then.

Source: the learning-rate range test, Smith 2017; suggested is a tenth of the rate at which the smoothed loss is lowest,
or that of the steepest descent where this is lower.
"""

import math
from collections.abc import Iterator, Sequence

import msgspec
import torch

from adapterhub_training import building, workshop
from adapterhub_training.errors import TrainingError
from adapterhub_training.experiment import Experiment
from adapterhub_training.learner import Learner
from adapterhub_training.material import Timetable
from adapterhub_training.progress import Display
from adapterhub_training.run import prepare
from adapterhub_training.workshop import Workshop
from adapterhub_training.world import ALONE

LOWEST, HIGHEST = 1e-6, 1.0
STEPS = 100
SMOOTH = 0.9
BREAKS_AT = 2.0
"""how many times the loss before it may become until there is nothing more to see"""
BELOW_LOWEST = 10
FEWEST = 10


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """A learning rate, and the loss there."""

    learning_rate: float
    loss: float
    smooth: float
    """the mean of all batches before, and the smoothed change since"""


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """What was tried, and what it suggests."""

    suggested: float
    tried: tuple[Tried, ...]


def probe(experiment: Experiment, display: Display, *, steps: int = STEPS) -> Probe:
    """Try learning rates on the training data of the first seed.

    Raises:
        TrainingError: The loss is never a number.
    """
    once = msgspec.structs.replace(
        experiment.training, seeds=experiment.training.seeds[:1], max_steps=steps, learning_rate=1.0
    )
    ready = prepare(msgspec.structs.replace(experiment, training=once), Workshop())
    experiment, lessons, base = ready
    seed, growth = experiment.training.seeds[0], (HIGHEST / LOWEST) ** (1 / (steps - 1))
    tried: list[Tried] = []
    with building.prepared(base, experiment, workshop.datasets(lessons), [seed]) as subject:
        timetable = Timetable(lessons, steps, experiment.method)
        subject.train()

        def losses(rates: Sequence[float]) -> Iterator[float]:
            torch.manual_seed(seed)  # dropout leaves out the same in every pass
            taught = Learner(subject, experiment, lessons, ALONE)
            for step, rate in enumerate(rates, start=1):
                taught.learn(timetable, step, subject.members, rate=rate)
                loss = taught.losses[seed].item()
                taught.losses[seed].zero_()
                display.step(f"{rate:.1e}  loss {loss:.3f}")
                yield loss

        display.begin("trying learning rates", 2 * steps)
        try:
            before = list(losses([0.0] * steps))
            level, change = sum(before) / steps, 0.0
            rates = [LOWEST * growth**at for at in range(steps)]
            for rate, loss, first in zip(rates, losses(rates), before, strict=True):
                change = SMOOTH * change + (1 - SMOOTH) * (loss - first)
                smooth = level + change
                if not math.isfinite(smooth) or smooth > BREAKS_AT * level:
                    break
                tried.append(Tried(learning_rate=rate, loss=loss, smooth=smooth))
        finally:
            display.end()
    if len(tried) < FEWEST:
        raise TrainingError("The loss is no number, even at the lowest learning rate.")
    return Probe(suggested=suggestion(tried), tried=tuple(tried))


def suggestion(tried: list[Tried]) -> float:
    """A learning rate well before the lowest loss, where it falls."""
    lowest = min(range(len(tried)), key=lambda at: tried[at].smooth)
    safe = tried[lowest].learning_rate / BELOW_LOWEST
    falls = [
        (tried[at].smooth - tried[at - 1].smooth, tried[at].learning_rate)
        for at in range(FEWEST, max(FEWEST + 1, lowest + 1))
        if at < len(tried)
    ]
    steepest = min(falls)[1] if falls else safe
    exponent = math.floor(math.log10(chosen := min(safe, steepest)))
    return round(chosen, 1 - exponent)
