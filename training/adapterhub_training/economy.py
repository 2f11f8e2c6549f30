"""What makes a training quick, chosen before it begins: all seeds in one pass, and states of lower layers kept."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from adapterhub_client import settings
from adapterhub_client.formats.method import MethodConfig, PrefixTuning, Union, parse
from adapterhub_training import activations, inner, learner
from adapterhub_training.activations import Lower
from adapterhub_training.backbone import Backbone
from adapterhub_training.batches import Split
from adapterhub_training.errors import BadExperiment
from adapterhub_training.experiment import AdapterMethod, Experiment
from adapterhub_training.inner import Inner
from adapterhub_training.material import Lesson
from adapterhub_training.progress import Display
from adapterhub_training.schedule import Course
from adapterhub_training.subject import Part, Subject
from adapterhub_training.world import World

_FLOAT_BYTES = 4
CHECKED = 8
"""texts on which kept states are compared with computed ones"""
CLOSE_IN_HALF = 0.05
CACHED_BYTES = 16 * 1024 * 1024
"""of the widest states of a pass, up to which a CPU gains by taking several seeds at once"""


def gang(
    experiment: Experiment, lessons: Sequence[Lesson], base: Backbone, world: World
) -> tuple[bool, str]:
    """Whether all seeds are trained in one pass, and why.

    What one pass saves is the work between the products. A CPU is busy with the products alone as soon as a batch is
    large, and with several seeds at once their states leave its cache: measured, 5 seeds of MiniLM in one pass take
    4.4 times one seed with batches of 8 texts, and 7.6 times with batches of 32; 5 of a small base 2.6 times.

    Raises:
        BadExperiment: It is asked for, and cannot be.
    """
    training = experiment.training
    obstacles = {
        "there is one seed": len(training.seeds) == 1,
        "only adapters can be stacked": not isinstance(experiment.method, AdapterMethod),
        "the adapters have dropout, which each seed draws for itself": _draws(experiment),
        "prefixes of several seeds are not exactly what each is alone": _has_prefixes(experiment),
        "masked words are drawn for each seed": lessons[0].kind.name == "masked_lm",
        "`compile` is on": training.compile,
        "several processes train": world.size > 1,
    }
    found = [reason for reason, is_so in obstacles.items() if is_so]
    if training.gang == "yes" and found and len(training.seeds) > 1:
        raise BadExperiment(f'`training.gang = "yes"` cannot be: {found[0]}.')
    if training.gang == "no" or found:
        return (False, f"one seed after the other: {found[0] if found else 'as asked'}")
    if training.gang == "auto" and experiment.base_drops:
        return (
            False,
            "one seed after the other: with `dropout` each seed draws for the whole base",
        )
    if training.gang == "auto" and _widest(experiment, lessons, base) > CACHED_BYTES:
        return (False, "one seed after the other: a batch is large enough to keep this CPU busy")
    return (True, f"{len(training.seeds)} seeds in one pass")


def _draws(experiment: Experiment) -> bool:
    """Whether adapters draw random numbers of their own."""
    return any(getattr(part, "dropout", 0.0) > 0 for part in _methods(experiment))


def _has_prefixes(experiment: Experiment) -> bool:
    return any(isinstance(part, PrefixTuning) for part in _methods(experiment))


def _methods(experiment: Experiment) -> list[MethodConfig]:
    method = experiment.method
    if not isinstance(method, AdapterMethod):
        return []
    config = parse(method.config)
    return list(config.configs) if isinstance(config, Union) else [config]


def _widest(experiment: Experiment, lessons: Sequence[Lesson], base: Backbone) -> int:
    """Bytes of the widest states of a layer, of all seeds together; none where that is no matter."""
    if learner.device_of(experiment.training).type != "cpu":
        return 0
    training, config = experiment.training, base.model.config
    width = getattr(config, "intermediate_size", 4 * config.hidden_size)
    lengths = [length for lesson in lessons for length in lesson.splits["train"].lengths]
    tokens = training.batch_size * sum(lengths) // len(lengths)
    return int(len(training.seeds) * tokens * width * _FLOAT_BYTES)


def keep_states(
    subject: Subject,
    experiment: Experiment,
    lessons: Sequence[Lesson],
    display: Display,
    world: World,
) -> tuple[int, int, str]:
    """Let the subject begin above the frozen layers that nothing changes, where that pays.

    Returns how many layers that are, how many bytes their states take, and why.
    """
    found, why = worth_keeping(subject, experiment, lessons)
    if found is None:
        return 0, 0, why
    kept = dtype(subject, experiment)
    splits = [split for lesson in lessons for split in lesson.splits.values()]
    needed = sum(activations.size(split, found, kept) for split in splits)
    try:
        _attach(subject, found, splits, kept, display, world)
    except OSError as error:
        subject.states.clear()
        return 0, 0, f"nothing kept: {error.strerror or error}"
    if not _agrees(subject, lessons[0], kept):
        subject.states.clear()
        return 0, 0, "nothing kept: this base makes something else of kept states"
    return found.depth, needed, why


def folder() -> Path:
    """Where states are kept: beside what the client keeps."""
    return Path(settings.load(environment=os.environ).cache) / "activations"


def worth_keeping(
    subject: Subject, experiment: Experiment, lessons: Sequence[Lesson]
) -> tuple[Lower | None, str]:
    """The layers whose states are worth keeping, if any, and why."""
    training = experiment.training
    obstacles = {
        "as asked": training.cache == "no",
        "other words are hidden each time": any(each.kind.name == "masked_lm" for each in lessons),
        "with `dropout` a text is never the same twice": training.cache == "auto"
        and experiment.base_drops,
        "`compile` is on": training.cache == "auto" and training.compile,
        "each text comes less than twice": training.cache == "auto"
        and _passes(experiment, lessons) < 2,  # noqa: PLR2004  computing them takes a pass as well
    }
    found = [reason for reason, is_so in obstacles.items() if is_so]
    if found:
        return None, f"nothing kept: {found[0]}"
    choices = _choices(subject, experiment, lessons)
    if not choices:
        return None, "nothing kept: the very first layer is trained"
    kept = dtype(subject, experiment)
    splits = [split for lesson in lessons for split in lesson.splits.values()]
    sizes = [sum(activations.size(split, each, kept) for split in splits) for each in choices]
    for lower, size in zip(choices, sizes, strict=True):
        if size <= activations.LARGEST_BYTES:
            return lower, f"what {_what(lower)} make is kept ({size / 1024**2:,.0f} MiB)"
    return None, f"nothing kept: the states would take {sizes[-1] / 1024**3:.1f} GiB"


def _passes(experiment: Experiment, lessons: Sequence[Lesson]) -> float:
    """How often a text comes in all trainings together."""
    epoch = sum(lesson.steps_per_epoch for lesson in lessons)
    training = experiment.training
    return Course.of(epoch, training).steps / epoch * len(training.seeds)


def _choices(subject: Subject, experiment: Experiment, lessons: Sequence[Lesson]) -> list[Lower]:
    """What could be kept, that which saves most first."""
    subject.compose(lessons[0].name, [(subject.members[0], 0)])
    reads_first = all(head.reads_first_token for head in subject.adapted.active_heads)
    pads_left = any(split.encoded.pad_left for each in lessons for split in each.splits.values())
    lower = activations.below(subject.adapted, first_only=reads_first and not pads_left)
    if lower is None:
        return []
    fixed = _inner(subject, lower, lessons[0], experiment)
    more = [lower._replace(inner=fixed)] if fixed is not None else []
    return [*more, lower] if lower.depth else more


def _what(lower: Lower) -> str:
    if lower.whole:
        return "all layers"
    parts = [f"the lowest {lower.depth} layers"] if lower.depth else []
    if lower.inner is not None:
        parts.append("the fixed parts of the " + ("next" if lower.depth else "first layer"))
    return " and ".join(parts)


def _inner(subject: Subject, lower: Lower, lesson: Lesson, experiment: Experiment) -> Inner | None:
    """What is fixed inside the first layer that is trained, whatever is active."""
    if lower.whole or experiment.training.compile or experiment.training.gradient_checkpointing:
        return None
    split = lesson.splits["validation"]
    batch = split.batch(list(range(min(CHECKED, len(split))))).to(subject.device)
    inputs = {k: v.flatten(0, -2) if v.dim() > 2 else v for k, v in batch.inputs.items()}  # noqa: PLR2004
    layer = lower.backbone.layers[lower.depth]

    def runs() -> object:
        return subject.adapted(**inputs)

    subject.eval()
    return inner.find(layer, runs)


def dtype(subject: Subject, experiment: Experiment) -> torch.dtype:
    """The number format of kept states."""
    return torch.float16 if learner.is_half(subject.device, experiment.training) else torch.float32


def _attach(  # noqa: PLR0913, PLR0917
    subject: Subject,
    lower: Lower,
    splits: Sequence[Split],
    kept: torch.dtype,
    display: Display,
    world: World,
) -> None:
    batches = sum(-(-len(split) // activations.AT_ONCE) for split in splits)
    display.begin("computing frozen layers", batches)
    try:
        for turn in (True, False):  # the first process computes, the others find what it wrote
            if world.is_first is turn:
                for split in splits:
                    subject.states[id(split)] = activations.states(
                        split, lower, folder(), dtype=kept, step=lambda: display.step("")
                    )
            world.agree(None)
    finally:
        display.end()
    subject.lower = lower


def _agrees(subject: Subject, lesson: Lesson, number_format: torch.dtype) -> bool:
    """Whether a few texts come out alike with states and without."""
    split = lesson.splits["validation"]
    part = Part(subject.members[0], list(range(min(CHECKED, len(split)))))
    subject.eval()
    kept, found = subject.states, []
    with torch.no_grad():
        for states in (kept, {}):
            subject.states = states
            answer = subject.forward(split, lesson.name, [part])[0]
            found.append(np.concatenate([a.ravel() for a in lesson.kind.take(*answer)]))
    subject.states = kept
    close = activations.CLOSE if number_format is torch.float32 else CLOSE_IN_HALF
    kept_one, computed = found
    atol = close * (1 + float(np.abs(computed).max()))
    return np.allclose(kept_one, computed, rtol=close, atol=atol)
