"""What a run measured, in the structs of the client: `report.json`, which a push carries and the catalogue draws."""

import msgspec

from adapterhub_client import wire
from adapterhub_training.results import Extra, Results

LONGEST_CURVE = 200
"""points of each seed"""


def report(results: Results, baselines: tuple[wire.Baseline, ...] = ()) -> wire.Report:
    """The content of `report.json`."""
    best, extra = results.best.reported, results.extra
    has_thresholds = len(best.thresholds) == len(best.classes)
    thresholds = best.thresholds if has_thresholds else (None,) * len(best.classes)
    return wire.Report(
        kind=results.kind,
        metric=results.metric,
        higher_is_better=results.higher_is_better,
        dataset=results.dataset,
        split=results.split,
        labels=list(results.labels or results.scale),
        curves=_curves(results),
        classes=[
            wire.LabelScore(**msgspec.structs.asdict(score), threshold=threshold)
            for score, threshold in zip(best.classes, thresholds, strict=True)
        ],
        confusion=[list(row) for row in best.confusion],
        calibration=None
        if best.calibration is None
        else msgspec.convert(msgspec.to_builtins(best.calibration), wire.Calibration),
        attention=None
        if extra.attention is None
        else msgspec.convert(msgspec.to_builtins(extra.attention), wire.Attention),
        pruning=[
            wire.Pruning(kept=list(each.kept), value=each.value, relative_time=each.relative_time)
            for each in extra.pruning
        ],
        baselines=list(baselines),
        cost=_cost(results, extra),
        examples=[
            msgspec.convert(msgspec.to_builtins(example), wire.Example)
            for example in extra.examples
        ],
        embedding=list(extra.embedding),
    )


def _curves(results: Results) -> list[wire.Curve]:
    curves = []
    for seed in results.seeds:
        step = -(-len(seed.curve) // LONGEST_CURVE)
        points = [
            wire.CurvePoint(
                step=point.step,
                epoch=point.epoch,
                train_loss=point.train_loss,
                validation_loss=point.validation_loss,
                metric=point.metric,
            )
            for point in seed.curve[::step]
        ]
        curves.append(wire.Curve(seed=seed.seed, points=points, best_step=seed.best_step))
    return curves


def _cost(results: Results, extra: Extra) -> wire.Cost:
    return wire.Cost(
        parameters=results.parameters_trained,
        parameters_base=results.parameters_base,
        latency_overhead=extra.latency_overhead,
        latency_note=extra.latency_note or None,
        training_seconds=results.seconds,
        seconds_to_target=results.seconds_to_target,
        target=results.target,
    )
