"""What an experiment cannot ask for, as clauses."""

import math
import re

from adapterhub_client import names
from adapterhub_training.experiment.sections import (
    AdapterMethod,
    Experiment,
    FusionMethod,
    MultitaskMethod,
    Task,
    TopLayersMethod,
    Training,
)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_COUNTS = (
    "epochs",
    "batch_size",
    "micro_batch_size",
    "evaluations_per_epoch",
    "max_length",
    "max_steps",
    "patience",
    "train_examples",
    "validation_examples",
    "test_examples",
)
_FEWEST = 2
"""adapters to fuse, and labels of a scale"""


def faults(experiment: Experiment) -> list[str]:
    """Everything that is wrong, the most basic first."""
    found = [fault for task in experiment.tasks for fault in _of_task(task)]
    found += _of_tasks(experiment) + _of_training(experiment.training)
    found += _of_rates(experiment) + _of_method(experiment)
    reference = experiment.output.reference
    if reference is not None and not names.is_reference(reference):
        found.append(f"`output.reference` {reference!r} is not TASK/NAME@ORG")
    return found


def _of_task(task: Task) -> list[str]:
    found = []
    if not _NAME.fullmatch(task.name):
        found.append(f"`task.name` {task.name!r} may hold only letters, digits, `_` and `-`")
    for key in ("labels", "scale"):
        values = getattr(task, key)
        if len(set(values)) != len(values):
            found.append(f"`task.{key}` names a label twice")
    if task.scale and task.kind != "regression":
        found.append('`task.scale` is of a regression: it needs `kind = "regression"`')
    if task.scale and len(task.scale) < _FEWEST:
        found.append("`task.scale` must name at least two labels")
    return found


def _of_tasks(experiment: Experiment) -> list[str]:
    tasks, is_multitask = experiment.tasks, isinstance(experiment.method, MultitaskMethod)
    if not tasks:
        return ["there is no task"]
    if len(tasks) > 1 and not is_multitask:
        return ['several `tasks` need `mode = "multitask"`']
    if is_multitask and len(tasks) < _FEWEST:
        return ['`mode = "multitask"` needs several `[[tasks]]`']
    known = [task.name for task in tasks]
    twice = sorted({name for name in known if known.count(name) > 1})
    return [f"two tasks are named {name!r}" for name in twice]


def _of_training(training: Training) -> list[str]:
    found = [
        f"`training.{key}` must be at least 1, not {value}"
        for key in _COUNTS
        if (value := getattr(training, key)) is not None and value < 1
    ]
    if not training.seeds or len(set(training.seeds)) != len(training.seeds):
        found.append("`training.seeds` must be different numbers, at least one")
    if any(seed < 0 for seed in training.seeds):
        found.append("`training.seeds` must be at least 0")
    shares = {"warmup_fraction": training.warmup_fraction, "smoothing": training.smoothing}
    found += [
        f"`training.{key}` must be from 0 to below 1"
        for key, value in shares.items()
        if not 0 <= value < 1
    ]
    amounts = ("weight_decay", "focus", "min_epochs", "min_steps", "checkpoint_seconds")
    found += [
        f"`training.{key}` must be a number, at least 0"
        for key in amounts
        if not 0 <= getattr(training, key) < math.inf
    ]
    if isinstance(training.class_weights, tuple) and not all(
        0 < weight < math.inf for weight in training.class_weights
    ):
        found.append("`training.class_weights` must be numbers above 0")
    return found


def _of_rates(experiment: Experiment) -> list[str]:
    above = {
        "learning_rate": experiment.learning_rate,
        "clip_norm": experiment.training.clip_norm,
    }
    return [
        f"`training.{key}` must be a number above 0, not {value}"
        for key, value in above.items()
        if not 0 < value < math.inf
    ]


def _of_method(experiment: Experiment) -> list[str]:
    method = experiment.method
    found = []
    if isinstance(method, AdapterMethod | FusionMethod) and method.drop_layers < 0:
        found.append("`method.drop_layers` must be at least 0")
    if isinstance(method, FusionMethod):
        if len(method.members) + bool(method.own) < _FEWEST:
            found.append("`method.members` must name at least two adapters to fuse")
        if not 0 <= method.regularization < math.inf:
            found.append("`method.regularization` must be a number, at least 0")
    if isinstance(method, TopLayersMethod) and method.layers < 1:
        found.append("`method.layers` must be at least 1")
    if isinstance(method, MultitaskMethod):
        if not 0 < method.temperature < math.inf:
            found.append("`method.temperature` must be a number above 0")
        if not 0 < method.base_learning_rate < math.inf:
            found.append("`method.base_learning_rate` must be a number above 0")
    return found
