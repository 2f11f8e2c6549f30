"""What is learned from: tasks with their tokenised splits, and in which order their batches come."""

import bisect
import itertools
import random
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import msgspec

from adapterhub_training import batches
from adapterhub_training.batches import Split
from adapterhub_training.data import Dataset
from adapterhub_training.experiment import MultitaskMethod
from adapterhub_training.kinds import Kind, Wanted

FLATTEST = 0.8
"""how much of the difference in size is forgotten at the end of annealed sampling (Stickland and Murray 2019)"""


class Lesson(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A task, tokenised."""

    name: str
    dataset: Dataset
    splits: dict[str, Split]
    wanted: Wanted
    metric: str
    batch_size: int

    @property
    def kind(self) -> Kind:
        """What its kind has to say."""
        return self.dataset.rules

    @property
    def steps_per_epoch(self) -> int:
        """Batches of its training split."""
        return -(-len(self.splits["train"]) // self.batch_size)

    @property
    def higher_is_better(self) -> bool:
        """Whether more of its metric is better."""
        return self.kind.metrics[self.metric]


class Turn(NamedTuple):
    """One step: of which task, in which of its epochs, at which batch."""

    task: int
    epoch: int
    at: int


class Timetable:
    """Which task each step is of. The turns of a task follow its own epochs."""

    def __init__(
        self, lessons: Sequence[Lesson], steps: int, method: object, *, seed: int = 0
    ) -> None:
        self.steps = steps
        self._lessons = lessons
        self._sequence = (
            _drawn([lesson.steps_per_epoch for lesson in lessons], steps, method, seed)
            if isinstance(method, MultitaskMethod) and len(lessons) > 1
            else None
        )
        self._before: list[list[int]] = [[] for _ in lessons]
        for at, task in enumerate(self._sequence or ()):
            self._before[task].append(at)

    def turn(self, step: int) -> Turn:
        """What a step is of (1 is the first)."""
        task, done = 0, step - 1
        if self._sequence is not None:
            task = self._sequence[done]
            done = bisect.bisect_left(self._before[task], done)
        epoch, at = divmod(done, self._lessons[task].steps_per_epoch)
        return Turn(task, epoch, at)

    def rows(self, turn: Turn, seed: int) -> list[int]:
        """The rows of a turn's batch, for a seed."""
        return self._order(turn.task, seed, turn.epoch)[turn.at]

    @lru_cache(maxsize=64)  # noqa: B019  lives as long as a run
    def _order(self, task: int, seed: int, epoch: int) -> list[list[int]]:
        lesson = self._lessons[task]
        return batches.shuffled(lesson.splits["train"].lengths, lesson.batch_size, seed, epoch)


def _drawn(sizes: Sequence[int], steps: int, method: MultitaskMethod, seed: int) -> list[int]:
    """A task for each step, at random.

    With annealed sampling the chance of a task is its size to the power 1 - 0.8 · t, where t goes from 0 to 1.
    """
    chooser = random.Random(seed)  # noqa: S311  an order, no secret
    drawn = []
    for step in range(steps):
        power = {
            "proportional": 1.0,
            "uniform": 0.0,
            "temperature": 1 / method.temperature,
            "annealed": 1 - FLATTEST * step / max(1, steps - 1),
        }[method.sampling]
        bounds = list(itertools.accumulate(size**power for size in sizes))
        drawn.append(bisect.bisect(bounds, chooser.random() * bounds[-1]))
    return [min(task, len(sizes) - 1) for task in drawn]
