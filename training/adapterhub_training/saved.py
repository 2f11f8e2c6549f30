"""A finished run, loaded again to evaluate and to predict."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import msgspec

from adapterhub_training import backbone, building, data, experiment, learner, runfolder
from adapterhub_training.batches import Split
from adapterhub_training.data import Dataset
from adapterhub_training.errors import BadData, BadExperiment, MemberChanged, NotARun, WrongShape
from adapterhub_training.evaluation import Evaluation
from adapterhub_training.experiment import Base, Experiment
from adapterhub_training.kinds import Example, Kind, Limits, Prediction, Row
from adapterhub_training.kinds import named as kind_named
from adapterhub_training.results import Results
from adapterhub_training.workshop import Workshop
from adapterhub_training.world import ALONE


class Model:
    """The best weights of a run, on their base."""

    def __init__(self, wanted: Experiment, results: Results, folder: Path) -> None:
        own = Base(path=building.base_path(wanted, folder))
        # As the run's results were: in float32, on whatever device there is.
        exact = msgspec.structs.replace(wanted.training, precision="float32", device="auto")
        wanted = msgspec.structs.replace(wanted, training=exact)
        self.experiment = msgspec.structs.replace(wanted, base=own)
        self.results = results
        self.base = backbone.load(own.path, learner.device_of(wanted.training))
        self.subject = building.restored(self.base, wanted, folder)
        found = building.unpublished(self.subject.adapted)
        changed = [name for name, digest in results.members.items() if found.get(name) != digest]
        if changed:
            raise MemberChanged(changed)

    @property
    def kind(self) -> Kind:
        """What its kind of task has to say."""
        return kind_named(self.results.kind, self.results.scale)

    def dataset(self) -> Dataset:
        """The data of the run; its labels are the model's."""
        task, settings = self.experiment.task, self.experiment.training
        return Workshop().dataset(task, settings, self.results.labels)

    def evaluate(
        self, folder: Path | None = None, split: str | None = None
    ) -> tuple[Evaluation, str]:
        """Score on a split of the run's own data, or of other data with the same labels.

        Warns where the run's own data has changed since.
        """
        task = self.experiment.task
        if folder is None:
            dataset = self.dataset()
            if dataset.digest != self.results.data_digest:
                warnings.warn(
                    f"'{task.data}' is not what it was when the run was trained", stacklevel=2
                )
            split = split or dataset.reported
            if split not in dataset.splits:
                known = ", ".join(dataset.splits)
                raise BadExperiment(f"The data has no split {split!r}.", hint=f"it has {known}")
        else:
            split = split or data.reported_split(folder)
            dataset = data.load_split(
                folder, split, self.results.labels, self.kind, self.results.scale, task.columns
            )
            self._require_shape(dataset.splits[split])
        return self._scored(dataset, split), split

    def predict(self, rows: Sequence[Row]) -> list[Prediction]:
        """A prediction for each row, in their order; all of one kind."""
        for number, row in enumerate(rows, start=1):
            if fault := self.kind.unreadable(row) or self._choices_fault(row):
                raise BadData(Path("input"), number, fault)
        examples = [self.kind.question(row) for row in rows]
        self._require_shape(examples)
        settings, task = self.experiment.training, self.experiment.task.name
        split = self._split(examples)
        taken = learner.predict(self.subject, task, split, settings, ALONE)[0]
        chosen = self.results.best.selected
        return self.kind.told(split.encoded, taken, self.results.labels, chosen)

    def _require_shape(self, examples: Sequence[Example]) -> None:
        is_text = self.kind.name in {"classification", "multilabel", "regression"}
        pairs = self.results.pairs
        if is_text and any((example.pair is not None) != pairs for example in examples):
            raise WrongShape(pairs=pairs)

    def _choices_fault(self, row: Row) -> str | None:
        wanted = len(self.results.labels)
        if self.kind.name != "multiple_choice" or len(row.choices or ()) == wanted:
            return None
        return f"there are {len(row.choices or ())} `choices`, and the model takes {wanted}"

    def _scored(self, dataset: Dataset, split: str) -> Evaluation:
        settings, task = self.experiment.training, self.experiment.task.name
        tokens = self._split(dataset.splits[split])
        taken = learner.predict(self.subject, task, tokens, settings, ALONE)[0]
        chosen = self.results.best.selected
        return self.kind.evaluate(tokens.encoded, taken, self.results.labels, chosen)

    def _split(self, examples: Sequence[Example]) -> Split:
        limits = Limits(self.experiment.training.max_length)
        encoded = self.kind.encode(self.base.tokenizer, examples, limits)
        return Split(encoded, self.kind)


def load(folder: Path) -> Model:
    """Load a finished run.

    Raises:
        NotARun: The folder has no results, or no experiment.
        BadExperiment: It learned several tasks together; each has a folder of its own.
        MemberChanged: A member that was never published is another now.
    """
    for name in (runfolder.RESULTS_FILE, runfolder.EXPERIMENT_FILE):
        if not (folder / name).is_file():
            raise NotARun(folder, name)
    found = runfolder.read_results(folder)
    if len(found) > 1:
        raise BadExperiment(
            f"'{folder}' has several tasks.",
            hint="name one: "
            + ", ".join(str(folder / runfolder.TASKS / each.task) for each in found),
        )
    return Model(experiment.read(folder / runfolder.EXPERIMENT_FILE), found[0], folder)
