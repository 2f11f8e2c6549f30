"""What a run reached, as frozen structs: `results.json` of a run folder, and the tables made of it."""

from collections.abc import Sequence

import msgspec

from adapterhub_training.evaluation import Evaluation, mean_and_std

METRICS = ("accuracy", "macro_f1")


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One evaluation on the way."""

    step: int
    epoch: float
    train_loss: float
    """the mean of the last few steps"""
    validation_loss: float
    metric: float


class SeedResult(msgspec.Struct, frozen=True, kw_only=True):
    """What one seed reached with its best checkpoint."""

    seed: int
    selected: Evaluation
    """on validation, by which the checkpoint was chosen"""
    reported: Evaluation
    """on the split that is reported"""
    best_step: int
    steps: int
    stopped_early: bool
    seconds: float
    curve: tuple[Point, ...]


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a run found out. Mean and std are over seeds; std is None for one seed."""

    task: str
    dataset: str
    mode: str
    method: str
    base: str
    base_fingerprint: str | None
    labels: tuple[str, ...]
    pairs: bool
    """whether it reads pairs of sentences, or single ones"""
    metric: str
    split: str
    """on which the figures are; validation means that checkpoints were chosen on it too"""
    held_out: bool
    """whether validation was cut from train"""
    mean: dict[str, float]
    std: dict[str, float | None]
    seeds: tuple[SeedResult, ...]
    best_seed: int
    """best on validation; its weights are the ones that are kept"""
    examples: dict[str, int]
    data_digest: str
    members: dict[str, str] = {}
    """the digests of a fusion's members that were never published: nothing else pins those"""
    padding_share: float
    """part of the training tokens that is padding"""
    parameters_trained: int
    parameters_base: int
    seconds: float
    """training, all seeds together"""
    hardware: str
    versions: dict[str, str]

    @property
    def share_of_base(self) -> float:
        """Trained parameters for one parameter of the base."""
        return self.parameters_trained / self.parameters_base

    @property
    def best(self) -> SeedResult:
        """The seed whose weights are kept."""
        return next(result for result in self.seeds if result.seed == self.best_seed)


def over_seeds(
    seeds: Sequence[SeedResult],
) -> tuple[dict[str, float], dict[str, float | None]]:
    """Mean and standard deviation of each metric on the reported split."""
    pairs = {
        metric: mean_and_std([result.reported.value(metric) for result in seeds])
        for metric in METRICS
    }
    return {name: mean for name, (mean, _) in pairs.items()}, {
        name: std for name, (_, std) in pairs.items()
    }


def best_of(seeds: Sequence[SeedResult], metric: str) -> SeedResult:
    """The seed that was best on validation, the first of equals."""
    return max(seeds, key=lambda result: result.selected.value(metric))
