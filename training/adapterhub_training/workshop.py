"""What several runs share: bases, data, and the data's tokens, each read once."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TypeVar

from adapterhub_training import backbone, data, learner
from adapterhub_training.backbone import Backbone
from adapterhub_training.batches import Split
from adapterhub_training.data import Dataset
from adapterhub_training.errors import BadExperiment
from adapterhub_training.experiment import Experiment, Task, Training
from adapterhub_training.kinds import Limits, Wanted
from adapterhub_training.kinds.losses import balanced
from adapterhub_training.material import Lesson

Key = TypeVar("Key")
Value = TypeVar("Value")


class Workshop:
    """Keeps what it has read."""

    def __init__(self) -> None:
        self._bases: dict[tuple[str, str], Backbone] = {}
        self._datasets: dict[object, Dataset] = {}
        self._splits: dict[object, Split] = {}

    def base(self, experiment: Experiment) -> Backbone:
        """The base of an experiment, on its device."""
        device = learner.device_of(experiment.training)
        load = partial(backbone.load, experiment.base.path, device)
        base = _kept(self._bases, (experiment.base.path, str(device)), load)
        backbone.attend(base.model, longest=experiment.training.max_length)
        return base

    def dataset(self, task: Task, settings: Training, labels: tuple[str, ...] = ()) -> Dataset:
        """The data of a task; labels, of a model that exists already, win over its own."""
        caps = {
            "train": settings.train_examples,
            "validation": settings.validation_examples,
            "test": settings.test_examples,
        }
        key = task.data, task.kind, task.labels, task.scale, str(task.columns), labels, str(caps)
        return _kept(self._datasets, key, partial(data.load, task, labels, caps))

    def lessons(self, experiment: Experiment) -> list[Lesson]:
        """The tasks of an experiment, tokenised.

        Raises:
            BadData: The data cannot be used.
            BadExperiment: The kind has not this metric or loss, or the base cannot read texts of this length.
        """
        return [self._lesson(experiment, task) for task in experiment.tasks]

    def split(self, dataset: Dataset, split: str, experiment: Experiment) -> Split:
        """A split of a dataset, tokenised."""
        base, settings = self.base(experiment), experiment.training
        limits = Limits(settings.max_length)

        def make() -> Split:
            examples = dataset.splits[split]
            return Split(dataset.rules.encode(base.tokenizer, examples, limits), dataset.rules)

        return _kept(self._splits, (id(dataset), split, id(base), settings.max_length), make)

    def _lesson(self, experiment: Experiment, task: Task) -> Lesson:
        settings = experiment.training
        dataset = self.dataset(task, settings)
        _require_positions(self.base(experiment), settings.max_length)
        kind = dataset.rules
        metric = task.metric or next(iter(kind.metrics))
        _require("task.metric", metric, kind.metrics, kind.name)
        _require("training.loss", settings.loss, ("", *kind.losses), kind.name)
        _require(
            "training.stop_metric", settings.stop_metric, ("", "loss", *kind.metrics), kind.name
        )
        splits = {name: self.split(dataset, name, experiment) for name in dataset.splits}
        return Lesson(
            name=task.name,
            dataset=dataset,
            splits=splits,
            wanted=_wanted(settings, dataset),
            metric=metric,
            batch_size=settings.batch_size,
        )


def datasets(lessons: list[Lesson]) -> Mapping[str, Dataset]:
    """The data of each task."""
    return {lesson.name: lesson.dataset for lesson in lessons}


def _wanted(settings: Training, dataset: Dataset) -> Wanted:
    given, labels, kind = settings.class_weights, dataset.labels, dataset.rules
    weights: tuple[float, ...] = ()
    if given != "none" and not kind.has_labels:
        raise BadExperiment(f"`training.class_weights` are for labels, which {kind.name} has not.")
    if isinstance(given, tuple):
        if len(given) != len(labels):
            raise BadExperiment(
                f"`training.class_weights` has {len(given)} numbers, and there are {len(labels)} labels: "
                f"{', '.join(labels)}."
            )
        weights = given
    elif given == "balanced":
        weights = balanced(kind.counts(dataset.splits["train"], len(labels)))
    return Wanted(
        loss=settings.loss, weights=weights, focus=settings.focus, smoothing=settings.smoothing
    )


def _require(key: str, value: str, known: Iterable[str], kind: str) -> None:
    names = [name for name in known if name]
    if value and value not in names:
        raise BadExperiment(
            f"`{key}` is {value!r}, which a task of the kind {kind} has not.",
            hint=f"it has {', '.join(names)}",
        )


def _require_positions(base: Backbone, max_length: int) -> None:
    most = backbone.positions(base.model)
    if most is not None and max_length > most:
        raise BadExperiment(
            f"`training.max_length` is {max_length}, but the base model reads at most {most} tokens.",
            hint=f"`--set training.max_length={most}`",
        )


def _kept(kept: dict[Key, Value], key: Key, make: Callable[[], Value]) -> Value:
    if key not in kept:
        kept[key] = make()
    return kept[key]
