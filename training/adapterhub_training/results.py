"""What a run reached, as frozen structs: `results.json` of a run folder, and the tables made of it."""

from collections.abc import Mapping, Sequence

import msgspec

from adapterhub_training.evaluation import Evaluation, mean_and_std


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One evaluation on the way."""

    step: int
    epoch: float
    train_loss: float
    """the mean of the last few steps"""
    validation_loss: float
    metric: float
    seconds: float = 0.0
    """of training until then; of several seeds in one pass, of all together"""


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

    def seconds_to(self, target: float, *, higher_is_better: bool) -> float | None:
        """When validation first reached a value; None where it never did."""
        for point in self.curve:
            if point.metric >= target if higher_is_better else point.metric <= target:
                return point.seconds
        return None


class Choices(msgspec.Struct, frozen=True, kw_only=True):
    """What was chosen to be quick, and why."""

    gang: bool = False
    """all seeds in one pass"""
    cached_layers: int = 0
    """lower layers whose output was kept"""
    cache_bytes: int = 0
    reasons: tuple[str, ...] = ()


class AttentionLayer(msgspec.Struct, frozen=True, kw_only=True):
    """What a fusion attended to in one layer: the mean over tokens, and their standard deviation, for each member."""

    layer: int
    weights: tuple[float, ...]
    std: tuple[float, ...]


class Attention(msgspec.Struct, frozen=True, kw_only=True):
    """What a fusion attended to on the reported split."""

    members: tuple[str, ...]
    layers: tuple[AttentionLayer, ...]
    tokens: int


class Pruned(msgspec.Struct, frozen=True, kw_only=True):
    """A fusion with only its most attended members; time is that of a forward pass over that of all members."""

    kept: tuple[str, ...]
    value: float
    relative_time: float


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """An input, what is right, and what was predicted."""

    text: str
    pair: str | None = None
    label: str | None = None
    probabilities: dict[str, float] = {}
    value: float | None = None


class Extra(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of the best seed when all were trained."""

    latency_overhead: float | None = None
    """time of a forward pass over that of the bare base"""
    latency_note: str = ""
    attention: Attention | None = None
    pruning: tuple[Pruned, ...] = ()
    examples: tuple[Shown, ...] = ()
    embedding: tuple[float, ...] = ()
    """the mean of what the base makes of the training texts: (features,)"""
    file_bytes: int = 0
    """of the weights"""


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a run found out about a task. Mean and std are over seeds; std is None for one seed."""

    task: str
    dataset: str
    kind: str
    mode: str
    method: str
    base: str
    base_fingerprint: str | None
    labels: tuple[str, ...]
    scale: tuple[str, ...] = ()
    pairs: bool
    """whether it reads pairs of texts, or single ones"""
    metric: str
    higher_is_better: bool
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
    truncated: dict[str, int]
    """how many texts of each split did not fit and were cut"""
    data_digest: str
    members: dict[str, str] = {}
    """the digests of a fusion's members that were never published: nothing else pins those"""
    padding_share: float
    """part of the training tokens that is padding"""
    parameters_trained: int
    parameters_base: int
    seconds: float
    """training, all seeds together"""
    target: float | None = None
    choices: Choices = Choices()
    extra: Extra = Extra()
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

    @property
    def seconds_to_target(self) -> float | None:
        """When the target was reached, on average; None where a seed never did, or there is none."""
        if self.target is None:
            return None
        better = self.higher_is_better
        times = [seed.seconds_to(self.target, higher_is_better=better) for seed in self.seeds]
        known = [seconds for seconds in times if seconds is not None]
        return sum(known) / len(known) if len(known) == len(times) else None


def over_seeds(
    seeds: Sequence[SeedResult],
) -> tuple[dict[str, float], dict[str, float | None]]:
    """Mean and standard deviation of each metric on the reported split."""
    pairs: Mapping[str, tuple[float, float | None]] = {
        metric: mean_and_std([result.reported.value(metric) for result in seeds])
        for metric in seeds[0].reported.values
    }
    return {name: mean for name, (mean, _) in pairs.items()}, {
        name: std for name, (_, std) in pairs.items()
    }


def best_of(seeds: Sequence[SeedResult], metric: str, *, higher_is_better: bool) -> SeedResult:
    """The seed that was best on validation, the first of equals."""
    sign = 1 if higher_is_better else -1
    return max(seeds, key=lambda result: sign * result.selected.value(metric))
