"""A finished run, loaded again to evaluate and to predict."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import msgspec

from adapterhub_training import (
    backbone,
    batches,
    data,
    evaluation,
    experiment,
    run,
    subject,
    trainer,
)
from adapterhub_training.batches import Encoded
from adapterhub_training.data import Example
from adapterhub_training.errors import MemberChanged, NotARun, WrongShape
from adapterhub_training.evaluation import Evaluation
from adapterhub_training.experiment import Experiment
from adapterhub_training.results import Results


class Prediction(msgspec.Struct, frozen=True):
    """The most probable label, and how probable each is."""

    label: str
    probabilities: dict[str, float]


class Model:
    """The best weights of a run, on their base."""

    def __init__(self, wanted: Experiment, results: Results, folder: Path) -> None:
        self.experiment, self.results = wanted, results
        self._base = backbone.load(wanted.base.path, trainer.device_of(wanted.training))
        self._subject = subject.restored(self._base, wanted, folder)
        found = subject.unpublished(self._subject.adapted)
        changed = [name for name, digest in results.members.items() if found.get(name) != digest]
        if changed:
            raise MemberChanged(changed)

    def evaluate(
        self, folder: Path | None = None, split: str | None = None
    ) -> tuple[Evaluation, str]:
        """Score on a split of the run's own data, or of other data with the same labels.

        Warns where the run's own data has changed since.
        """
        labels, settings = self.results.labels, self.experiment.training
        if folder is None:
            dataset = run.read_data(self.experiment, labels)
            if dataset.digest != self.results.data_digest:
                warnings.warn(
                    f"'{self.experiment.task.data}' is not what it was when the run was trained",
                    stacklevel=2,
                )
            split = split or dataset.reported
            examples = dataset.splits.get(split) or data.load_split(
                Path(self.experiment.task.data), split, labels
            )
        else:
            split = split or data.reported_split(folder)
            examples = data.load_split(folder, split, labels)
        encoded = self._encoded(examples)
        return trainer.evaluate(self._subject, encoded, labels, settings), split

    def predict(self, texts: Sequence[tuple[str, str | None]]) -> list[Prediction]:
        """A prediction for each sentence or pair, in their order; all of one kind."""
        labels, settings = self.results.labels, self.experiment.training
        examples = [Example(text, pair, 0) for text, pair in texts]
        encoded = self._encoded(examples)
        shares = evaluation.probabilities(trainer.predict(self._subject, encoded, settings))
        return [
            Prediction(
                labels[int(row.argmax())],
                {label: round(float(share), 6) for label, share in zip(labels, row, strict=True)},
            )
            for row in shares
        ]

    def _encoded(self, examples: Sequence[Example]) -> Encoded:
        if any((example.pair is not None) != self.results.pairs for example in examples):
            raise WrongShape(pairs=self.results.pairs)
        max_length = self.experiment.training.max_length
        return batches.encode(self._base.tokenizer, examples, max_length)


def load(folder: Path) -> Model:
    """Load a finished run.

    Raises:
        NotARun: The folder has no results, or no experiment.
        MemberChanged: A member that was never published is another now.
    """
    for name in (run.RESULTS_FILE, run.EXPERIMENT_FILE):
        if not (folder / name).is_file():
            raise NotARun(folder, name)
    results = msgspec.json.decode((folder / run.RESULTS_FILE).read_bytes(), type=Results)
    return Model(experiment.read(folder / run.EXPERIMENT_FILE), results, folder)
