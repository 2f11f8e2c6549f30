"""The loop, in reading order: steps in, the best state of each seed out.

- Only what the engine left trainable is trained.
- AdamW, a warm-up and a decay, clipped gradients.
- The state that was best on validation is kept, and is what comes out.
- bf16 under autocast on CUDA (weights and optimizer stay float32), float32 elsewhere.
- Several seeds are trained in one pass, or one; each stops when it has to.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import torch
from torch import Tensor

from adapterhub_training import checkpoint, learner, subject
from adapterhub_training.checkpoint import Checkpoint
from adapterhub_training.errors import Diverged, Interrupted
from adapterhub_training.evaluation import Evaluation
from adapterhub_training.experiment import Experiment
from adapterhub_training.learner import Learner
from adapterhub_training.material import Lesson, Timetable
from adapterhub_training.progress import Display
from adapterhub_training.results import Point
from adapterhub_training.schedule import Course, Patience
from adapterhub_training.subject import Member, Subject
from adapterhub_training.tracking import Tracker
from adapterhub_training.world import ALONE, World

LOOK_EVERY = 10
"""steps between two looks at the loss: each look waits for the device"""
LOSS = "loss"
Reached = dict[str, Evaluation]
"""an evaluation for each task"""


class Fit(NamedTuple):
    """What one seed's training came to, and its best state."""

    seed: int
    selected: Reached
    best_step: int
    steps: int
    stopped_early: bool
    seconds: float
    curve: tuple[Point, ...]
    state: dict[str, Tensor]


class Watch(NamedTuple):
    """Where the loop reports to, and who may stop it."""

    display: Display
    tracker: Tracker
    wants_to_stop: Callable[[], bool] = lambda: False


class Seed:
    """One seed on its way."""

    def __init__(self, member: Member, patience: int | None) -> None:
        self.member, self.seed = member, member.seed
        self.patience = Patience(patience)
        self.best_value = -float("inf")
        self.best: Reached = {}
        self.best_step = 0
        self.best_state: dict[str, Tensor] = {}
        self.curve: list[Point] = []
        self.stopped_at: int | None = None
        self.since_look = 0
        self.loss = float("nan")


def fit(  # noqa: PLR0913
    learned: Subject,
    lessons: Sequence[Lesson],
    experiment: Experiment,
    *,
    watch: Watch,
    folder: Path | None = None,
    world: World = ALONE,
) -> list[Fit]:
    """Train what is trainable; whoever calls ends the display. With a folder, killed it goes on from there.

    Raises:
        Diverged: A loss is not finite any more.
        Interrupted: It was asked to stop; where it stands is in the folder.
    """
    training = Run(learned, lessons, experiment, watch, world)
    if folder is not None:
        training.resume(folder)
    names = ", ".join(str(seed.seed) for seed in training.seeds)
    title = f"{' '.join(lesson.name for lesson in lessons)}, seed{'s' * (len(training.seeds) > 1)} {names}"
    watch.display.begin(title, training.course.steps, training.step)
    saved = time.monotonic()
    while training.active and training.step < training.course.steps:
        training.advance()
        if folder is None:
            continue
        stopping = training.step % LOOK_EVERY == 0 and world.agree(watch.wants_to_stop())
        is_due = time.monotonic() - saved > experiment.training.checkpoint_seconds
        if world.is_first and (stopping or is_due):
            training.save(folder)
            saved = time.monotonic()
        if stopping and training.active and training.step < training.course.steps:
            raise Interrupted(training.step, training.course.steps)
    return training.fits()


class Run:
    """A training on its way: everything that changes from step to step."""

    def __init__(
        self,
        learned: Subject,
        lessons: Sequence[Lesson],
        experiment: Experiment,
        watch: Watch,
        world: World,
    ) -> None:
        self.lessons, self.subject, self.world = lessons, learned, world
        self._settings, self._watch = experiment.training, watch
        per_epoch = sum(lesson.steps_per_epoch for lesson in lessons)
        self.course = Course.of(per_epoch, self._settings)
        self.timetable = Timetable(
            lessons, self.course.steps, experiment.method, seed=learned.members[0].seed
        )
        self.learner = Learner(learned, experiment, lessons, world)
        self.seeds = [Seed(member, self._settings.patience) for member in learned.members]
        self.step = 0
        self._before = 0.0
        self._began = time.perf_counter()
        self.subject.train()

    @property
    def active(self) -> list[Seed]:
        """The seeds that are still trained."""
        return [seed for seed in self.seeds if seed.stopped_at is None]

    @property
    def seconds(self) -> float:
        """How long it has been trained, before it was killed as well."""
        return self._before + time.perf_counter() - self._began

    def advance(self) -> None:
        """One step, and what follows it."""
        self.step += 1
        active = self.active
        if self.world.size > 1:  # each draws for its own rows, and the same again after a crash
            torch.manual_seed(_drawing(active[0].seed, self.step, self.world))
        rate = self.course.rate(self.step)
        self.learner.learn(self.timetable, self.step, [s.member for s in active], rate=rate)
        for seed in active:
            seed.since_look += 1
        if self.step % LOOK_EVERY == 0 or self.step == 1:
            self._look(active)
        self._watch.display.step(self._said(active))
        if self.course.evaluates_after(self.step):
            self._look(active)
            self._evaluate(active)
            self.subject.train()

    def fits(self) -> list[Fit]:
        """What came of each seed."""
        shared = self.seconds / len(self.seeds)
        for seed in self.seeds:
            if not seed.best:
                raise Diverged(self.step, seed.seed)
        return [
            Fit(
                seed=seed.seed,
                selected=seed.best,
                best_step=seed.best_step,
                steps=seed.stopped_at or self.step,
                stopped_early=seed.stopped_at is not None and seed.stopped_at < self.course.steps,
                seconds=shared,
                curve=tuple(seed.curve),
                state=seed.best_state,
            )
            for seed in self.seeds
        ]

    def save(self, folder: Path) -> None:
        """Write down where it stands."""
        tensors = {
            f"now/{name}": value for name, value in self.subject.adapted.state_dict().items()
        }
        for number, parameter in enumerate(self._trained()):
            for key, value in self.learner.optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer/{number}/{key}"] = value
        for seed in self.seeds:
            tensors |= {f"best/{seed.seed}/{n}": value for n, value in seed.best_state.items()}
            tensors[f"loss/{seed.seed}"] = self.learner.losses[seed.seed]
        streams = self.subject.streams
        for number, state in (streams.states if streams is not None else {}).items():
            tensors[f"stream/{number}"] = state
        tensors["random"] = subject.random_state(self.subject.device)
        facts = {
            "step": self.step,
            "seconds": self.seconds,
            "seeds": {str(seed.seed): _facts(seed) for seed in self.seeds},
        }
        checkpoint.write(folder, Checkpoint(tensors, facts))

    def resume(self, folder: Path) -> None:
        """Go on from what is written down, where something is."""
        found = checkpoint.read(folder)
        if found is None or set(found.facts["seeds"]) != {str(each.seed) for each in self.seeds}:
            return
        parts: dict[str, dict[str, Tensor]] = {}
        for name, value in found.tensors.items():
            kind, _, rest = name.partition("/")
            parts.setdefault(kind, {})[rest] = value
        self.subject.adapted.load_state_dict(parts["now"])
        for number, parameter in enumerate(self._trained()):
            own = {
                key.partition("/")[2]: value
                for key, value in parts.get("optimizer", {}).items()
                if key.partition("/")[0] == str(number)
            }
            if own:
                self.learner.optimizer.state[parameter] = {
                    key: value if key == "step" else value.to(parameter.device)
                    for key, value in own.items()
                }
        for seed in self.seeds:
            mark = f"{seed.seed}/"
            seed.best_state = {
                name.removeprefix(mark): value
                for name, value in parts.get("best", {}).items()
                if name.startswith(mark)
            }
            self.learner.losses[seed.seed] = parts["loss"][str(seed.seed)].to(self.subject.device)
            _restore(seed, found.facts["seeds"][str(seed.seed)])
        if self.subject.streams is not None:
            self.subject.streams.states = {int(n): v for n, v in parts.get("stream", {}).items()}
        subject.set_random_state(self.subject.device, parts["random"][""])
        self.step, self._before = found.facts["step"], found.facts["seconds"]
        self._began = time.perf_counter()
        self._watch.tracker.record("resumed", step=self.step)

    def _trained(self) -> list[Tensor]:
        return [p for group in self.learner.optimizer.param_groups for p in group["params"]]

    def _look(self, active: Sequence[Seed]) -> None:
        """Take the mean losses since the last look.

        Raises:
            Diverged: One is not finite.
        """
        for seed in active:
            if seed.since_look:
                total = self.learner.losses[seed.seed]
                seed.loss = total.item() / seed.since_look
                total.zero_()
                seed.since_look = 0
                self._watch.tracker.record("steps", seed=seed.seed, step=self.step, loss=seed.loss)
            if not learner.is_finite(seed.loss):
                raise Diverged(self.step, seed.seed)

    def _evaluate(self, active: Sequence[Seed]) -> None:
        members = [seed.member for seed in active]
        reached: list[Reached] = [{} for _ in active]
        for lesson in self.lessons:
            found = learner.evaluate(
                self.subject,
                lesson,
                lesson.splits["validation"],
                self._settings,
                self.world,
                members=members,
            )
            for own, evaluation in zip(reached, found, strict=True):
                own[lesson.name] = evaluation
        for seed, own in zip(active, reached, strict=True):
            self._take(seed, own)

    def _take(self, seed: Seed, reached: Reached) -> None:
        """Take an evaluation into account."""
        loss = _mean([evaluation.loss for evaluation in reached.values()])
        if not learner.is_finite(loss):  # this step's update broke the weights
            raise Diverged(self.step, seed.seed)
        value = _mean([reached[each.name].value(each.metric) for each in self.lessons])
        good = _mean([_good(each, reached[each.name], each.metric) for each in self.lessons])
        seed.curve.append(
            Point(
                step=self.step,
                epoch=self.step / self.course.steps_per_epoch,
                train_loss=seed.loss,
                validation_loss=loss,
                metric=value,
                seconds=round(self.seconds, 3),
            )
        )
        facts: dict[str, Any] = msgspec.to_builtins(seed.curve[-1])
        values = {name: evaluation.values for name, evaluation in reached.items()}
        self._watch.tracker.record("evaluation", seed=seed.seed, values=values, **facts)
        if good > seed.best_value:
            seed.best_value, seed.best, seed.best_step = good, reached, self.step
            seed.best_state = self._state_of(seed)
        watched = self._settings.stop_metric
        progress = _mean(
            [_good(each, reached[each.name], watched or each.metric) for each in self.lessons]
        )
        seed.patience.improved(progress)
        is_early = (
            self.step < self._settings.min_steps
            or self.step < self._settings.min_epochs * self.course.steps_per_epoch
        )
        if seed.patience.exhausted and not is_early:
            seed.stopped_at = self.step

    def _state_of(self, seed: Seed) -> dict[str, Tensor]:
        state = self.subject.adapted.state_dict()
        if len(self.seeds) == 1:
            return state
        own = {id(parameter) for parameter in seed.member.parameters}
        names = {n for n, p in self.subject.adapted.named_parameters() if id(p) in own}
        return {name: value for name, value in state.items() if name in names}

    def _said(self, active: Sequence[Seed]) -> str:
        losses = " ".join(f"{seed.loss:.3f}" for seed in active)
        points = [seed.curve[-1].metric for seed in active if seed.curve]
        metric = self.lessons[0].metric if len(self.lessons) == 1 else "score"
        said = f"{metric} {' '.join(f'{value:.4f}' for value in points)}  " if points else ""
        return f"{said}loss {losses}"


def _drawing(seed: int, step: int, world: World) -> int:
    return (seed * 1_000_003 + step) * world.size + world.rank


def _good(lesson: Lesson, evaluation: Evaluation, metric: str) -> float:
    """A value of which more is better."""
    if metric == LOSS:
        return -evaluation.loss
    value = evaluation.value(metric)
    return value if lesson.kind.metrics[metric] else -value


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _facts(seed: Seed) -> dict[str, Any]:
    facts: dict[str, Any] = msgspec.to_builtins(
        {
            "best": seed.best,
            "best_step": seed.best_step,
            "curve": seed.curve,
            "stopped_at": seed.stopped_at,
            "since_look": seed.since_look,
            "waited": seed.patience.waited,
        }
    )
    # JSON has no infinity and no lack of a number.
    finite = {
        "best_value": seed.best_value,
        "patience": seed.patience.best,
        "loss": seed.loss,
    }
    return facts | {key: value for key, value in finite.items() if learner.is_finite(value)}


def _restore(seed: Seed, facts: dict[str, Any]) -> None:
    seed.best = msgspec.convert(facts["best"], Reached)
    seed.best_step, seed.stopped_at = facts["best_step"], facts["stopped_at"]
    seed.curve = msgspec.convert(facts["curve"], list[Point])
    seed.since_look, seed.patience.waited = facts["since_look"], facts["waited"]
    seed.best_value = facts.get("best_value", seed.best_value)
    seed.patience.best = facts.get("patience", seed.patience.best)
    seed.loss = facts.get("loss", seed.loss)
