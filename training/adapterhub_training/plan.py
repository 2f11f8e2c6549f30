"""What a run will cost and what will be chosen, before it starts: from the data, the base and a few timed steps."""

import time
from collections.abc import Sequence

import msgspec
import torch

from adapterhub_training import activations, batches, building, economy, learner, workshop
from adapterhub_training.experiment import Experiment
from adapterhub_training.learner import Learner
from adapterhub_training.material import Lesson, Timetable
from adapterhub_training.results import Choices
from adapterhub_training.run import Ready, prepare
from adapterhub_training.schedule import Course
from adapterhub_training.subject import Part, Subject
from adapterhub_training.workshop import Workshop
from adapterhub_training.world import ALONE

WARM, TIMED = 2, 6
"""steps before the clock runs, and while it does"""
BYTES = 4
_STATES = 3
"""numbers for each that is trained: itself, and AdamW's two"""


class Split(msgspec.Struct, frozen=True, kw_only=True):
    """What a split of a task has."""

    task: str
    name: str
    examples: int
    tokens: int
    longest: int
    truncated: int
    """examples that do not fit and will be cut"""


class Padding(msgspec.Struct, frozen=True, kw_only=True):
    """Which part of the tokens that are computed is padding."""

    here: float
    """in batches of like length"""
    at_random: float
    """in batches as they come, each padded to its longest"""
    to_the_limit: float
    """with everything padded to `max_length`"""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a run will cost. Times are estimates of this machine, from a few steps."""

    tasks: tuple[str, ...]
    method: str
    splits: tuple[Split, ...]
    padding: Padding
    steps_per_epoch: int
    steps: int
    """of each seed, unless it stops early"""
    seeds: int
    parameters_trained: int
    parameters_base: int
    weights_bytes: int
    """what is written for the hub"""
    memory_bytes: int
    """weights, gradients, optimizer; and on a GPU what was used at most in the timed steps"""
    choices: Choices
    step_seconds: float
    evaluation_seconds: float
    seconds: float
    """all seeds, with validation"""


def plan(experiment: Experiment, shop: Workshop | None = None) -> Plan:
    """Read everything as a run would, time a few steps, and train nothing.

    Raises:
        HubError: As for a run.
    """
    ready = prepare(experiment, shop or Workshop())
    experiment, lessons, base = ready
    tasks, seeds = workshop.datasets(lessons), experiment.training.seeds
    together, reason = economy.gang(experiment, lessons, base, ALONE)
    torch.manual_seed(seeds[0])
    with building.prepared(base, experiment, tasks, seeds if together else seeds[:1]) as subject:
        lower, why = economy.worth_keeping(subject, experiment, lessons)
        size = 0
        if lower is not None:
            dtype = economy.dtype(subject, experiment)
            splits = [split for lesson in lessons for split in lesson.splits.values()]
            size = sum(activations.size(split, lower, dtype) for split in splits)
        step, evaluation, peak = _timed(ready, subject)
        counted = sum(parameter.numel() for parameter in subject.members[0].parameters)
    course = Course.of(sum(lesson.steps_per_epoch for lesson in lessons), experiment.training)
    looks = sum(course.evaluates_after(at) for at in range(1, course.steps + 1))
    passes = 1 if together else len(seeds)
    base_size = sum(parameter.numel() for parameter in base.model.parameters())
    return Plan(
        tasks=tuple(lesson.name for lesson in lessons),
        method=building.method_name(experiment),
        splits=tuple(_splits(lessons)),
        padding=_padding(experiment, lessons),
        steps_per_epoch=course.steps_per_epoch,
        steps=course.steps,
        seeds=len(seeds),
        parameters_trained=counted,
        parameters_base=base_size,
        weights_bytes=counted * BYTES,
        memory_bytes=peak or (base_size + counted * (_STATES + 1) * passes) * BYTES,
        choices=Choices(
            gang=together,
            cached_layers=lower.depth if lower is not None else 0,
            cache_bytes=size,
            reasons=(reason, why),
        ),
        step_seconds=step,
        evaluation_seconds=evaluation,
        seconds=passes * (course.steps * step + looks * evaluation),
    )


def text(found: Plan) -> str:
    """The plan as lines to read."""
    padding, gib = found.padding, 1024**3
    share = found.parameters_trained / found.parameters_base
    kept, several = found.choices.cache_bytes / gib, f"{found.seeds} seed{'s' * (found.seeds > 1)}"
    facts = {
        "padding": f"{padding.here:.1%} of the tokens (batches as they come: {padding.at_random:.1%}, "
        f"all to the limit: {padding.to_the_limit:.1%})",
        "trained": f"{found.parameters_trained:,} parameters, {share:.2%} of the base; "
        f"{found.weights_bytes / 1e6:.1f} MB of weights",
        "memory": f"{found.memory_bytes / gib:.2f} GiB"
        + (f", and {kept:.2f} GiB kept on disk" if kept else ""),
        "steps": f"{found.steps:,} ({found.steps_per_epoch:,} an epoch), "
        f"{found.step_seconds * 1e3:.0f} ms each, {several}",
        "time": f"{spoken(found.seconds)} at most; {found.evaluation_seconds:.1f} s for each evaluation",
    }
    lines = [f"{', '.join(found.tasks)}: {found.method}"]
    for split in found.splits:
        cut = f"; {split.truncated:,} cut" if split.truncated else ""
        size = f"{split.examples:,} examples, {split.tokens:,} tokens, {split.longest} at most{cut}"
        lines.append(f"  {split.task} {split.name}: {size}")
    lines += [f"  {name:<8} {fact}" for name, fact in facts.items()]
    lines += [f"  {reason}" for reason in found.choices.reasons]
    return "\n".join(lines)


def spoken(seconds: float) -> str:
    """A time as people say it."""
    minute, hour = 60, 3600
    if seconds < minute:
        return f"{seconds:.0f} s"
    return f"{seconds / minute:.0f} min" if seconds < hour else f"{seconds / hour:.1f} h"


def _timed(ready: Ready, subject: Subject) -> tuple[float, float, int]:
    """Seconds of a step and of an evaluation, and the most memory of a GPU in bytes."""
    experiment, lessons, _ = ready
    steps = WARM + TIMED
    taught = Learner(subject, experiment, lessons, ALONE, ahead=1)  # making batches counts
    timetable = Timetable(lessons, steps, experiment.method)
    subject.train()
    if subject.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(subject.device)
    began = 0.0
    for step in range(1, steps + 1):
        if step == WARM + 1:
            _wait(subject.device)
            began = time.perf_counter()
        taught.learn(timetable, step, subject.members, rate=1e-9)
    _wait(subject.device)
    seconds = (time.perf_counter() - began) / TIMED
    subject.eval()
    split = lessons[0].splits["validation"]
    order = batches.ordered(split.lengths, learner.EVALUATION_BATCH)
    middle = order[len(order) // 2]
    began = time.perf_counter()
    with torch.no_grad(), learner.precision(subject.device, experiment.training):
        subject.forward(split, lessons[0].name, [Part(m, middle) for m in subject.members])
    _wait(subject.device)
    each = time.perf_counter() - began
    total = sum(
        len(batches.ordered(lesson.splits["validation"].lengths, learner.EVALUATION_BATCH))
        for lesson in lessons
    )
    peak = torch.cuda.max_memory_allocated() if subject.device.type == "cuda" else 0
    return seconds, each * total, peak


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _splits(lessons: Sequence[Lesson]) -> list[Split]:
    return [
        Split(
            task=lesson.name,
            name=name,
            examples=len(lesson.dataset.splits[name]),
            tokens=int(split.sequence_lengths.sum()),
            longest=int(split.sequence_lengths.max()),
            truncated=split.encoded.truncated,
        )
        for lesson in lessons
        for name, split in lesson.splits.items()
    ]


def _padding(experiment: Experiment, lessons: Sequence[Lesson]) -> Padding:
    settings, train = experiment.training, lessons[0].splits["train"]
    lengths, size = train.lengths, settings.batch_size
    here = batches.shuffled(lengths, size, settings.seeds[0], 0)
    chosen = torch.randperm(len(lengths), generator=torch.Generator().manual_seed(0)).tolist()
    at_random = [chosen[at : at + size] for at in range(0, len(chosen), size)]
    return Padding(
        here=batches.padding_share(lengths, here),
        at_random=batches.padding_share(lengths, at_random),
        to_the_limit=1 - sum(lengths) / (len(lengths) * settings.max_length),
    )
