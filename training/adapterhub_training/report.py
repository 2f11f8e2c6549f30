"""Results as text: the table on the terminal and the run folder's `report.md`."""

from collections.abc import Iterable, Sequence

from adapterhub_training.evaluation import Evaluation
from adapterhub_training.results import Attention, Results


def summary(results: Results) -> str:
    """The few lines a person wants after a run."""
    width = max(len(name) for name in (*results.mean, "trained"))
    rows = [(name, spread(results, name)) for name in results.mean]
    count = len(results.seeds)
    seeds = f"{count} seeds" if count > 1 else f"seed {results.seeds[0].seed}"
    trained = f"{results.parameters_trained:,} parameters, {results.share_of_base:.2%} of the base"
    time = f"{results.seconds:.1f} s of training on {results.hardware}"
    lines = [
        f"{results.task}: {results.method} on {results.split}, {seeds}",
        *(f"  {name:<{width}}  {value}" for name, value in rows),
        f"  {'trained':<{width}}  {trained}",
        f"  {'time':<{width}}  {time}",
    ]
    if results.best.reported.confusion:
        lines += [
            "",
            f"confusion matrix (rows are gold), seed {results.best_seed}:",
            confusion(results.best.reported, results.labels or results.scale),
        ]
    return "\n".join(lines)


def markdown(results: Results) -> str:
    """The whole report as Markdown."""
    sections = [
        _head(results),
        _metrics(results),
        _classes(results),
        _confusion(results),
        _calibration(results),
        "" if results.extra.attention is None else _attention(results.extra.attention),
        ""
        if not results.extra.pruning
        else f"## With fewer members (seed {results.best_seed})\n\n{pruning(results)}",
        _curve(results),
        _cost(results),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    lines += [f"| {' | '.join(map(str, row))} |" for row in rows]
    return "\n".join(lines)


def _head(results: Results) -> str:
    return "\n".join(
        [
            f"# {results.task}: {results.method}",
            "",
            f"Mode `{results.mode}`, a task of the kind `{results.kind}`, on the base `{results.base}`.",
            _caveat(results),
        ]
    )


def _metrics(results: Results) -> str:
    header = ["metric", "mean over seeds", *(f"seed {seed.seed}" for seed in results.seeds)]
    rows = (
        [name, spread(results, name), *(f"{s.reported.value(name):.4f}" for s in results.seeds)]
        for name in results.mean
    )
    return table(header, rows)


def _classes(results: Results) -> str:
    best = results.best
    if not best.reported.classes:
        return ""
    thresholds = best.reported.thresholds
    header = ["label", "precision", "recall", "F1", "examples"]
    header += ["threshold"] if thresholds else []
    rows = [
        [s.label, f"{s.precision:.4f}", f"{s.recall:.4f}", f"{s.f1:.4f}", s.support]
        + ([f"{thresholds[at]:.2f}"] if thresholds else [])
        for at, s in enumerate(best.reported.classes)
    ]
    return f"## Per class (seed {best.seed}, best on validation)\n\n{table(header, rows)}"


def _confusion(results: Results) -> str:
    if not results.best.reported.confusion:
        return ""
    drawn = confusion(results.best.reported, results.labels or results.scale)
    return f"## Confusion matrix (rows are gold, columns predicted)\n\n```text\n{drawn}\n```"


def _calibration(results: Results) -> str:
    found = results.best.reported.calibration
    if found is None:
        return ""
    rows = ([f"{b.confidence:.3f}", f"{b.accuracy:.3f}", b.count] for b in found.bins)
    drawn = table(["confidence", "right", "predictions"], rows)
    return f"## Calibration\n\nExpected calibration error {found.error:.4f}.\n\n{drawn}"


def _attention(attention: Attention) -> str:
    header = ["layer", *attention.members]
    rows = (
        [
            layer.layer,
            *(f"{w:.3f} ± {s:.3f}" for w, s in zip(layer.weights, layer.std, strict=True)),
        ]
        for layer in attention.layers
    )
    said = f"The mean over {attention.tokens:,} tokens of the reported split, ± over tokens."
    return f"## What the fusion attends to\n\n{said}\n\n{table(header, rows)}"


def pruning(results: Results) -> str:
    """What fewer members of a fusion reach, and in which time."""
    header = ["members", results.metric, "time", "kept"]
    rows = (
        [len(p.kept), f"{p.value:.4f}", f"{p.relative_time:.2f}", ", ".join(p.kept)]
        for p in results.extra.pruning
    )
    return table(header, rows)


def _curve(results: Results) -> str:
    header = ["seed", "epoch", "step", "train loss", "validation loss"]
    header += [f"validation {results.metric}", "seconds"]
    rows = (
        [
            seed.seed,
            f"{point.epoch:.2f}",
            point.step,
            f"{point.train_loss:.4f}",
            f"{point.validation_loss:.4f}",
            f"{point.metric:.4f}",
            f"{point.seconds:.1f}",
        ]
        for seed in results.seeds
        for point in seed.curve
    )
    return f"## Curve\n\n{table(header, rows)}"


def _cost(results: Results) -> str:
    extra, cut = results.extra, sum(results.truncated.values())
    lines = [
        (
            f"- {results.parameters_trained:,} parameters trained, {results.share_of_base:.2%} of the base's "
            f"{results.parameters_base:,}; {extra.file_bytes / 1e6:.2f} MB on disk"
        ),
        (
            f"- {results.seconds:.1f} s of training on {results.hardware}; "
            f"{results.padding_share:.1%} of the training tokens were padding"
        ),
    ]
    if extra.latency_overhead is not None:
        lines.append(
            f"- a forward pass takes {extra.latency_overhead:.3f} times that of the bare base "
            f"({extra.latency_note})"
        )
    if results.target is not None:
        reached = results.seconds_to_target
        when = "was not reached" if reached is None else f"was reached after {reached:.1f} s"
        lines.append(f"- {results.metric} {results.target:g} on validation {when}")
    lines += [f"- {reason}" for reason in results.choices.reasons]
    counts = ", ".join(f"{count:,} {split}" for split, count in results.examples.items())
    lines.append(f"- data {results.data_digest}: {counts}" + (f"; {cut:,} cut" if cut else ""))
    lines.append(
        "- " + ", ".join(f"{name} {version}" for name, version in results.versions.items())
    )
    return "## Cost\n\n" + "\n".join(lines)


def spread(results: Results, metric: str) -> str:
    """A metric as `0.8123 ± 0.0045`, without the spread where there was one seed."""
    std = results.std[metric]
    return f"{results.mean[metric]:.4f}" + ("" if std is None else f" ± {std:.4f}")


def confusion(evaluation: Evaluation, labels: Sequence[str]) -> str:
    """The confusion matrix as a text table."""
    cells = [["", *labels]]
    cells += [
        [label, *(str(count) for count in row)]
        for label, row in zip(labels, evaluation.confusion, strict=True)
    ]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    return "\n".join(
        "  ".join(
            [
                row[0].ljust(widths[0]),
                *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)),
            ]
        )
        for row in cells
    )


def _caveat(results: Results) -> str:
    if results.split == "test":
        chosen = "a tenth of train that was held out" if results.held_out else "validation"
        return f"Figures are on test; checkpoints were chosen on {chosen}."
    held = " (a tenth of train that was held out)" if results.held_out else ""
    return (
        f"Figures are on validation{held}, on which checkpoints were chosen as well: "
        "expect a little less on new data."
    )
