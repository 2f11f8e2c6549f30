"""The loop, in reading order: batches in, the best state out.

- Only what the engine left trainable is trained; the base's weights never change.
- AdamW, a linear warm-up and decay, clipped gradients.
- The state that was best on validation is kept in memory and put back at the end.
- bf16 under autocast on CUDA (weights and optimizer stay float32), float32 elsewhere.
"""

import contextlib
import math
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from adapterhub_training import batches, evaluation, schedule
from adapterhub_training.batches import Batch, Encoded
from adapterhub_training.errors import Diverged
from adapterhub_training.evaluation import Evaluation
from adapterhub_training.experiment import Experiment, FusionMethod, Training
from adapterhub_training.progress import Display
from adapterhub_training.results import Point
from adapterhub_training.subject import Subject
from adapterhub_training.tracking import Tracker

LOOK_EVERY = 10
"""steps between two looks at the loss: each look waits for the device"""
EVALUATION_BATCH = 64
TENSOR_CORES = 8
"""lengths on CUDA are multiples of this"""


class Fit(NamedTuple):
    """What one seed's training came to; the model holds its best state."""

    selected: Evaluation
    best_step: int
    steps: int
    stopped_early: bool
    seconds: float
    curve: tuple[Point, ...]


class Watch(NamedTuple):
    """Where the loop reports to."""

    display: Display
    tracker: Tracker


class Plan(msgspec.Struct, frozen=True):
    """How long it will train, and when it evaluates."""

    steps_per_epoch: int
    steps: int
    warmup_steps: int
    marks: frozenset[int]

    @classmethod
    def of(cls, examples: int, settings: Training) -> "Plan":
        """The plan for so many examples."""
        per_epoch = math.ceil(examples / settings.batch_size)
        steps = min(per_epoch * settings.epochs, settings.max_steps or per_epoch * settings.epochs)
        warmup = round(settings.warmup_fraction * steps)
        return cls(
            per_epoch, steps, warmup, schedule.marks(per_epoch, settings.evaluations_per_epoch)
        )

    def evaluates_after(self, step: int) -> bool:
        """Whether validation follows this step (1 is the first)."""
        return step == self.steps or (step - 1) % self.steps_per_epoch + 1 in self.marks

    def rate(self, step: int) -> float:
        """The share of the peak learning rate for this step (1 is the first)."""
        return schedule.rate(step - 1, steps=self.steps, warmup_steps=self.warmup_steps)


def fit(  # noqa: PLR0913
    subject: Subject,
    train: Encoded,
    validation: Encoded,
    experiment: Experiment,
    *,
    labels: Sequence[str],
    seed: int,
    watch: Watch,
) -> Fit:
    """Train what is trainable and leave the model in its best state; whoever calls ends the display.

    Raises:
        Diverged: The loss is not finite any more.
    """
    settings, metric = experiment.training, experiment.task.metric
    plan = Plan.of(len(train), settings)
    learner = Learner(subject, experiment)
    patience, curve = schedule.Patience(settings.patience), list[Point]()
    best: tuple[Evaluation, int, dict[str, Tensor]] | None = None
    began, step = time.perf_counter(), 0
    watch.display.begin(f"{experiment.task.name}, seed {seed}", plan.steps)

    for step, batch in enumerate(stream(train, plan, settings.batch_size, seed), start=1):
        learner.learn(batch, rate=plan.rate(step))
        if step % LOOK_EVERY == 0 or step == 1:
            learner.look(step, seed, watch.tracker)
        watch.display.step(learner.text)
        if not plan.evaluates_after(step):
            continue

        train_loss = learner.look(step, seed, watch.tracker)
        reached = evaluate(subject, validation, labels, settings)
        if not math.isfinite(reached.loss):  # this step's update broke the weights
            raise Diverged(step, seed)
        value = reached.value(metric)
        curve.append(
            Point(
                step=step,
                epoch=step / plan.steps_per_epoch,
                train_loss=train_loss,
                validation_loss=reached.loss,
                metric=value,
            )
        )
        watch.tracker.record("evaluation", seed=seed, **msgspec.to_builtins(curve[-1]))
        learner.text = f"{metric} {value:.4f}  loss {train_loss:.3f}"
        if patience.improved(value):
            best = reached, step, subject.adapted.state_dict()
        if patience.exhausted:
            break

    if best is None:
        raise Diverged(step, seed)
    subject.adapted.load_state_dict(best[2])
    seconds = time.perf_counter() - began
    return Fit(best[0], best[1], step, step < plan.steps, seconds, tuple(curve))


class Learner:
    """The model with its optimizer: one batch in, one step done."""

    def __init__(self, subject: Subject, experiment: Experiment) -> None:
        self.text = ""
        self._subject, self._settings = subject, experiment.training
        self._peak = experiment.learning_rate
        method = experiment.method
        self._pull = method.regularization if isinstance(method, FusionMethod) else 0.0
        self._parameters = subject.parameters
        maps = subject.value_maps
        mapped = {id(value) for value in maps}
        decayed = [p for p in self._parameters if id(p) not in mapped]
        groups: list[dict[str, Any]] = [
            {"params": decayed},
            {"params": maps, "weight_decay": 0.0},
        ]
        self._optimizer = torch.optim.AdamW(
            groups, lr=self._peak, weight_decay=self._settings.weight_decay
        )
        self._loss = torch.zeros((), device=subject.device)
        self._since_look = 0
        self._last = math.nan

    def learn(self, batch: Batch, *, rate: float) -> None:
        """One step."""
        self._subject.train(dropout=self._settings.dropout)
        for group in self._optimizer.param_groups:
            group["lr"] = self._peak * rate
        device = self._subject.device
        with precision(device, self._settings):
            loss = self._subject.forward(batch.to(device)).loss
        if self._pull:
            loss = loss + self._pull * self._subject.regularization()
        loss.backward()
        nn.utils.clip_grad_norm_(self._parameters, self._settings.clip_norm)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._loss += loss.detach()
        self._since_look += 1

    def look(self, step: int, seed: int, tracker: Tracker) -> float:
        """The mean loss since the last look.

        Raises:
            Diverged: It is not finite.
        """
        if self._since_look:
            self._last = self._loss.item() / self._since_look
            self._loss.zero_()
            self._since_look = 0
            tracker.record("steps", seed=seed, step=step, loss=self._last)
            self.text = f"loss {self._last:.3f}"
        if not math.isfinite(self._last):
            raise Diverged(step, seed)
        return self._last


def stream(train: Encoded, plan: Plan, batch_size: int, seed: int) -> Iterator[Batch]:
    """The batches of all epochs, each epoch in an order of its own."""
    done = 0
    for epoch in range(math.ceil(plan.steps / plan.steps_per_epoch)):
        order = batches.shuffled(train, batch_size, seed * 100_003 + epoch)[: plan.steps - done]
        yield from batches.collate(train, order, multiple=multiple())
        done += len(order)


def evaluate(
    subject: Subject, encoded: Encoded, labels: Sequence[str], settings: Training
) -> Evaluation:
    """Score the model on a split."""
    gold = np.asarray(encoded.labels, dtype=np.int64)
    return evaluation.evaluate(gold, predict(subject, encoded, settings), labels)


def predict(subject: Subject, encoded: Encoded, settings: Training) -> NDArray[np.float32]:
    """The logits of every example, in the order of the split: (examples, labels)."""
    subject.eval()
    device = subject.device
    parts, rows = list[Tensor](), list[int]()
    order = batches.ordered(encoded, EVALUATION_BATCH)
    with torch.inference_mode(), precision(device, settings):
        for batch in batches.collate(encoded, order, multiple=multiple()):
            parts.append(subject.forward(batch.to(device)).logits.float())
            rows += batch.rows
    logits = torch.cat(parts).cpu().numpy()
    in_order = np.empty_like(logits)
    in_order[rows] = logits
    return in_order


def device_of(settings: Training) -> torch.device:
    """The device to train on."""
    if settings.device != "auto":
        return torch.device(settings.device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def precision(
    device: torch.device, settings: Training
) -> contextlib.AbstractContextManager[object]:
    """Autocast to bf16 where that is asked for, or where CUDA can do it."""
    wanted = settings.precision == "bfloat16" or (
        settings.precision == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported()
    )
    return torch.autocast(device.type, torch.bfloat16) if wanted else contextlib.nullcontext()


def multiple() -> int:
    """What lengths are rounded up to."""
    return TENSOR_CORES if torch.cuda.is_available() else 1
