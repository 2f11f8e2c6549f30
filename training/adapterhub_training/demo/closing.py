"""What the demo shows in the end: predictions of the pulled fusion, and the table of the target task."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch

from adapterhub_client import compose
from adapterhub_training import backbone, data, experiment, runfolder
from adapterhub_training.experiment import Experiment
from adapterhub_training.kinds import Example
from adapterhub_training.results import Results

SHOWN = 4
TEXT_WIDTH = 46


def predictions(reference: str, base: Path, run: Path) -> str:
    """Pull a fusion by its reference onto a fresh model, and predict a few examples of the run's test split.

    The fusion's members are pulled with it, each by its pinned digest, and everything is checked against the base.
    """
    wanted = experiment.read(run / "run.toml")
    results = read_results(run)
    examples = picked(wanted, results)
    fresh = backbone.load(str(base), torch.device("cpu"))
    adapted = compose.attach(fresh.model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # an adapter without a proof of its base would warn
        name = adapted.load(reference)
    adapted.activate(name, head=name)
    adapted.eval()
    texts = [example.text for example in examples]
    pairs = None if examples[0].pair is None else [example.pair for example in examples]
    encoded = fresh.tokenizer(
        texts,
        pairs,
        padding=True,
        truncation=True,
        max_length=wanted.training.max_length,
        return_tensors="pt",
    )
    with torch.no_grad():
        probabilities = adapted(**encoded).logits.softmax(-1)
    rows = []
    for example, row in zip(examples, probabilities, strict=True):
        best = int(row.argmax())
        gold = results.labels[example.target]
        shown = " / ".join(
            shortened(part) for part in (example.text, example.pair) if isinstance(part, str)
        )
        rows.append([shown, f"{results.labels[best]} {row[best]:.2f}", gold])
    attention = mean_attention(adapted)
    lines = [
        *columns(["text", "prediction", "label"], rows),
        "",
        "what the fusion attended to, on average: " + attention,
    ]
    return "\n".join(lines)


def picked(wanted: Experiment, results: Results) -> list[Example]:
    """A few examples that nothing was chosen by, the labels in turn."""
    examples = data.load(wanted.task, results.labels).splits[results.split]
    by_label = [
        [example for example in examples if example.target == index]
        for index in range(len(results.labels))
    ]
    mixed = [example for group in zip(*by_label, strict=False) for example in group]
    return mixed[:SHOWN]


def mean_attention(adapted: compose.Adapted) -> str:
    """The share of each member over all layers and tokens of the last batch."""
    weights = adapted.attention()
    mean = torch.stack([found.weights.flatten(0, -2).mean(0) for found in weights]).mean(0)
    return ", ".join(
        f"{name} {share:.2f}"
        for name, share in zip(weights[0].adapters, mean.tolist(), strict=True)
    )


def table(runs: Sequence[Path]) -> str:
    """The target task: head only, single adapter, fusion; mean and deviation over seeds."""
    rows = []
    for run in runs:
        results = read_results(run)
        rows.append(
            [
                results.method,
                spread(results, "accuracy"),
                spread(results, "macro_f1"),
                f"{results.parameters_trained:,}",
                f"{100 * results.share_of_base:.1f} %",
                f"{results.seconds:.0f} s",
            ]
        )
    results = read_results(runs[0])
    title = (
        f"{results.dataset}, {results.split} split, {len(results.seeds)} seeds, base {results.base}"
    )
    head = ["", "accuracy", "macro F1", "trained parameters", "of the base", "training"]
    return "\n".join([title, *columns(head, rows)])


def spread(results: Results, metric: str) -> str:
    """Mean ± std over seeds."""
    std = results.std[metric]
    return f"{results.mean[metric]:.3f}" + (f" ± {std:.3f}" if std is not None else "")


def read_results(run: Path) -> Results:
    """The results of a finished run."""
    (found,) = runfolder.read_results(run)
    return found


def columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows under their heads, as a plain table."""
    everything = [head, *rows]
    widths = [max(len(row[index]) for row in everything) for index in range(len(head))]
    lines = [
        "  "
        + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in everything
    ]
    lines.insert(1, "  " + "  ".join("-" * width for width in widths))
    return lines


def shortened(text: str) -> str:
    """The text on one line, cut where it is long."""
    return text if len(text) <= TEXT_WIDTH else text[: TEXT_WIDTH - 3].rstrip() + "..."
