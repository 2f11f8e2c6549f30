"""What training runs measured, made up so that every figure agrees with the others: for pages to draw."""

from collections.abc import Sequence

import msgspec
import numpy as np

from adapterhub_client import wire

LAYERS = 12
_BINS = 10


def curves(seeds: Sequence[int], best: float, *, steps: int = 12, every: int = 400) -> list:
    """One curve a seed: the metric climbs to about `best`, validation loss falls and turns."""
    found = []
    for seed in seeds:
        chance = np.random.default_rng(seed)
        at = np.arange(1, steps + 1)
        reach = best + chance.normal(0, 0.004)
        metric = reach - (reach * 0.42) * np.exp(-at / 2.1) + chance.normal(0, 0.003, steps)
        valid = 0.33 + 0.75 * np.exp(-at / 2.4) + 0.0035 * at + chance.normal(0, 0.006, steps)
        train = 0.16 + 0.95 * np.exp(-at / 3.0) + chance.normal(0, 0.012, steps)
        top = int(np.argmax(metric))
        found.append(
            wire.Curve(
                seed=seed,
                best_step=int(at[top]) * every,
                points=[
                    wire.CurvePoint(
                        step=int(step) * every,
                        epoch=round(float(step) * 5 / steps, 2),
                        train_loss=round(float(train[step - 1]), 4),
                        validation_loss=round(float(valid[step - 1]), 4),
                        metric=round(float(min(metric[step - 1], 0.999)), 4),
                    )
                    for step in at
                ],
            )
        )
    return found


def confusion(supports: Sequence[int], accuracy: float, seed: int) -> list[list[int]]:
    """Counts of every label taken for every other, right about as often as `accuracy` says."""
    chance = np.random.default_rng(seed)
    count = len(supports)
    rows = []
    for at, support in enumerate(supports):
        right = float(np.clip(accuracy + chance.normal(0, 0.05), 0.05, 0.99))
        shares = chance.dirichlet([0.7] * (count - 1)) * (1 - right)
        rows.append(chance.multinomial(support, [*shares[:at], right, *shares[at:]]).tolist())
    return rows


def scores(labels: Sequence[str], counts: list[list[int]]) -> list[wire.LabelScore]:
    """Precision, recall and F1 of each label, from the confusion matrix."""
    table = np.array(counts, dtype=float)
    found = []
    for at, label in enumerate(labels):
        right = table[at, at]
        precision = right / max(table[:, at].sum(), 1.0)
        recall = right / max(table[at].sum(), 1.0)
        f1 = 2 * precision * recall / max(precision + recall, 1e-9)
        found.append(_score(label, precision, recall, f1, int(table[at].sum())))
    return found


def thresholds(labels: Sequence[str], mean: float, seed: int) -> list[wire.LabelScore]:
    """The scores of labels that may be given together, each above a threshold of its own."""
    chance = np.random.default_rng(seed)
    found = []
    for at, label in enumerate(labels):
        f1 = float(np.clip(mean + chance.normal(0, 0.17), 0.05, 0.95))
        lean = float(chance.uniform(-0.08, 0.08))
        support = int(5000 * 0.82**at) + 6
        precision, recall = min(f1 + lean, 0.99), max(f1 - lean, 0.02)
        threshold = round(float(chance.uniform(0.1, 0.5)), 2)
        found.append(_score(label, precision, recall, f1, support, threshold))
    return found


def calibration(accuracy: float, count: int, seed: int) -> wire.Calibration:
    """A model that is a little too sure of itself."""
    chance = np.random.default_rng(seed)
    edges = np.linspace(0.35, 0.985, _BINS)
    shares = np.exp(edges * 5)
    shares /= shares.sum()
    right = np.clip(edges - 0.06 * (edges - 0.3) + chance.normal(0, 0.012, _BINS), 0, 1)
    right += accuracy - float((right * shares).sum()) if abs(accuracy - 0.85) < 0.05 else 0
    bins = [
        wire.CalibrationBin(
            confidence=round(float(edge), 4),
            accuracy=round(float(min(hit, 1)), 4),
            count=int(count * share),
        )
        for edge, hit, share in zip(edges, right, shares, strict=True)
    ]
    error = sum(each.count * abs(each.confidence - each.accuracy) for each in bins)
    return wire.Calibration(bins=bins, error=round(error / sum(e.count for e in bins), 4))


def attention(members: Sequence[str], leaning: Sequence[float], seed: int) -> wire.Attention:
    """Weights of each layer; `leaning` says whom the upper layers prefer."""
    chance = np.random.default_rng(seed)
    layers = []
    for layer in range(LAYERS):
        drawn = np.array(leaning) * (layer / (LAYERS - 1)) * 2.4 + chance.normal(
            0, 0.5, len(members)
        )
        weights = np.exp(drawn) / np.exp(drawn).sum()
        layers.append(
            wire.AttentionLayer(
                layer=layer,
                weights=[round(float(each), 4) for each in weights],
                std=[round(float(each * 0.21), 4) for each in weights],
            )
        )
    return wire.Attention(members=list(members), layers=layers, tokens=61_204)


def pruning(found: wire.Attention, value: float) -> list[wire.Pruning]:
    """The fusion with fewer and fewer of its members, the least attended left out first."""
    mean = np.mean([each.weights for each in found.layers], axis=0)
    order = [found.members[at] for at in np.argsort(-mean)]
    full = len(order)
    rows = []
    for kept in range(full, 0, -1):
        loss = 0.0 if kept == full else 0.018 * ((full - kept) / full) ** 2.2
        rows.append(
            wire.Pruning(
                kept=order[:kept],
                value=round(value - loss, 4),
                std=0.004,
                relative_time=round(0.62 + 0.38 * kept / full, 3),
            )
        )
    return rows


def cost(target: float, *, overhead: float = 1.041, seconds: float = 1432.6) -> wire.Cost:
    """What a version costs; `sample.publish` counts the parameters of its weights."""
    return wire.Cost(
        parameters=0,
        parameters_base=109_482_240,
        latency_overhead=overhead,
        latency_note="CPU, 1 thread, batch 8, 128 tokens",
        training_seconds=seconds,
        seconds_to_target=round(seconds * 0.31, 1),
        target=target,
    )


def inference(seeds: Sequence[int], accuracy: float) -> wire.Report:
    """A classifier of three labels, with everything a run can have."""
    labels = ["entailment", "neutral", "contradiction"]
    counts = confusion([3479, 3123, 3213], accuracy, 5)
    return wire.Report(
        kind="classification",
        metric="accuracy",
        dataset="multinli",
        split="validation",
        labels=labels,
        curves=curves(seeds, accuracy),
        confusion=counts,
        classes=scores(labels, counts),
        calibration=calibration(accuracy, 9815, 3),
        baselines=[
            wire.Baseline(
                name="full fine-tuning",
                value=0.8421,
                std=0.0033,
                seeds=list(seeds),
                parameters=109_482_240,
            ),
            wire.Baseline(
                name="head only", value=0.6012, std=0.0021, seeds=list(seeds), parameters=2307
            ),
        ],
        cost=cost(0.82),
        examples=[
            wire.Example(
                text="The committee met for three hours on Tuesday.",
                pair="There was a meeting this week.",
                label="entailment",
                probabilities={"entailment": 0.912, "neutral": 0.071, "contradiction": 0.017},
            ),
            wire.Example(
                text="A woman is slicing an onion in the kitchen.",
                pair="Nobody is cooking.",
                label="contradiction",
                probabilities={"entailment": 0.024, "neutral": 0.138, "contradiction": 0.838},
            ),
            wire.Example(
                text="The train to the coast leaves at nine.",
                pair="The coast is worth a visit.",
                label="neutral",
                probabilities={"entailment": 0.183, "neutral": 0.776, "contradiction": 0.041},
            ),
        ],
    )


def emotions(labels: Sequence[str]) -> wire.Report:
    """Many labels at once, each with a threshold."""
    counts = confusion([40 + 17 * (at * 7 % 11) for at in range(len(labels))], 0.58, 9)
    return wire.Report(
        kind="multilabel",
        metric="macro F1",
        dataset="goemotions",
        split="test",
        labels=list(labels),
        curves=curves([11, 22, 33], 0.512, steps=16, every=680),
        classes=thresholds(labels, 0.51, 4),
        confusion=counts,
        baselines=[
            wire.Baseline(name="full fine-tuning", value=0.519, std=0.006, seeds=[11, 22, 33])
        ],
        cost=cost(0.5, overhead=1.038, seconds=2210.0),
        examples=[
            wire.Example(
                text="I cannot believe you remembered my birthday, thank you so much!",
                label="gratitude",
                probabilities={"gratitude": 0.94, "surprise": 0.41, "joy": 0.38, "love": 0.12},
            )
        ],
    )


def similarity() -> wire.Report:
    """A regression: no labels, a value."""
    return wire.Report(
        kind="regression",
        metric="Spearman",
        dataset="sts-b",
        split="validation",
        curves=curves([11, 22, 33, 44, 55], 0.882),
        baselines=[wire.Baseline(name="full fine-tuning", value=0.889, std=0.003, seeds=[11, 22])],
        cost=cost(0.87, overhead=1.04, seconds=212.0),
        examples=[
            wire.Example(text="A man plays a flute.", pair="Someone plays music.", value=3.61)
        ],
    )


def fusion(members: Sequence[str], leaning: Sequence[float], f1: float) -> wire.Report:
    """A fusion over many members, with what it attends to and what pruning costs."""
    found = attention(members, leaning, 21)
    labels = ["different", "same"]
    counts = confusion([129, 279], 0.88, 8)
    return wire.Report(
        kind="classification",
        metric="F1",
        dataset="mrpc",
        split="validation",
        labels=labels,
        curves=curves([11, 22, 33, 44, 55], f1, steps=10, every=40),
        confusion=counts,
        classes=scores(labels, counts),
        calibration=calibration(0.88, 408, 6),
        attention=found,
        pruning=pruning(found, f1),
        baselines=[
            wire.Baseline(name="full fine-tuning", value=0.903, std=0.009, seeds=[11, 22, 33]),
            wire.Baseline(name="one adapter", value=0.896, std=0.008, seeds=[11, 22, 33]),
            wire.Baseline(name="head only", value=0.814, std=0.003, seeds=[11, 22, 33]),
        ],
        cost=cost(0.9, overhead=1.118, seconds=96.4),
        examples=[
            wire.Example(
                text="The company posted a profit of 12 million dollars.",
                pair="Profits at the firm came to 12 million dollars.",
                label="same",
                probabilities={"different": 0.064, "same": 0.936},
                attention=found.layers,
            )
        ],
    )


def encoded(report: wire.Report) -> bytes:
    """The file of a version."""
    return msgspec.json.encode(report)


def _score(
    label: str,
    precision: float,
    recall: float,
    f1: float,
    support: int,
    threshold: float | None = None,
) -> wire.LabelScore:
    return wire.LabelScore(
        label=label,
        precision=round(float(precision), 4),
        recall=round(float(recall), 4),
        f1=round(float(f1), 4),
        support=support,
        threshold=threshold,
    )
