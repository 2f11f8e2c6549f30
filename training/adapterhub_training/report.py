"""Results as text: the table on the terminal and the run folder's `report.md`."""

from collections.abc import Sequence

from adapterhub_training.evaluation import Evaluation
from adapterhub_training.results import METRICS, Results


def summary(results: Results) -> str:
    """The few lines a person wants after a run."""
    rows = [(name, spread(results, name)) for name in METRICS]
    count = len(results.seeds)
    seeds = f"{count} seeds" if count > 1 else f"seed {results.seeds[0].seed}"
    return "\n".join(
        [
            f"{results.task}: {results.method} on {results.split}, {seeds}",
            *(f"  {name:<9} {value}" for name, value in rows),
            f"  trained   {results.parameters_trained:,} parameters, {results.share_of_base:.2%} of the base",
            f"  time      {results.seconds:.1f} s of training on {results.hardware}",
            "",
            f"confusion matrix (rows are gold), seed {results.best_seed}:",
            confusion(results.best.reported, results.labels),
        ]
    )


def markdown(results: Results) -> str:
    """The whole report as Markdown."""
    best = results.best
    return "\n".join(
        [
            f"# {results.task}: {results.method}",
            "",
            f"Mode `{results.mode}` on the frozen base `{results.base}`.",
            _caveat(results),
            "",
            "| metric | mean over seeds | "
            + " | ".join(f"seed {s.seed}" for s in results.seeds)
            + " |",
            "|---" * (2 + len(results.seeds)) + "|",
            *(
                f"| {name} | {spread(results, name)} | "
                + " | ".join(f"{seed.reported.value(name):.4f}" for seed in results.seeds)
                + " |"
                for name in METRICS
            ),
            "",
            f"## Per class (seed {best.seed}, best on validation)",
            "",
            "| label | precision | recall | F1 | examples |",
            "|---|---|---|---|---|",
            *(
                f"| {score.label} | {score.precision:.4f} | {score.recall:.4f} | {score.f1:.4f} | {score.support} |"
                for score in best.reported.classes
            ),
            "",
            "## Confusion matrix (rows are gold, columns predicted)",
            "",
            "```text",
            confusion(best.reported, results.labels),
            "```",
            "",
            "## Curve",
            "",
            "| seed | epoch | step | train loss | validation loss | validation "
            + results.metric
            + " |",
            "|---|---|---|---|---|---|",
            *(
                f"| {seed.seed} | {point.epoch:.2f} | {point.step} | {point.train_loss:.4f} | "
                f"{point.validation_loss:.4f} | {point.metric:.4f} |"
                for seed in results.seeds
                for point in seed.curve
            ),
            "",
            "## Cost",
            "",
            (
                f"- {results.parameters_trained:,} parameters trained, {results.share_of_base:.2%} of the base's "
                f"{results.parameters_base:,}"
            ),
            (
                f"- {results.seconds:.1f} s of training on {results.hardware}; "
                f"{results.padding_share:.1%} of the training tokens were padding"
            ),
            f"- data {results.data_digest}: "
            + ", ".join(f"{count:,} {split}" for split, count in results.examples.items()),
            "- " + ", ".join(f"{name} {version}" for name, version in results.versions.items()),
            "",
        ]
    )


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
