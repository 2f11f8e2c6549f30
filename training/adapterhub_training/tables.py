"""A study as tables: every task by every way, what it cost, and which differences are more than chance."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from adapterhub_training import runfolder
from adapterhub_training import study as studies
from adapterhub_training.kinds.kind import Array
from adapterhub_training.plan import spoken
from adapterhub_training.report import table
from adapterhub_training.results import Results
from adapterhub_training.significance import Difference, difference
from adapterhub_training.study import Item, Study

REPORT_FILE = "report.md"
SURE = 0.05
ENOUGH_SEEDS = 3
"""from which the spread over seeds can be guessed at"""
UNBOUNDED = frozenset({"perplexity", "mse", "mae"})
"""metrics that are no share of anything, so no points"""
_PERCENT = 100
_NONE = "-"


class Column(NamedTuple):
    """A way, or one of the settings that are tried in it."""

    name: str
    found: dict[str, tuple[Item, Results]]
    """by task"""


def columns(study: Study) -> list[Column]:
    """What every way reached on every task, as far as it is done."""
    grouped: dict[str, dict[str, tuple[Item, Results]]] = {}
    for item, results in studies.results(study):
        tried = " ".join(f"{key.partition('.')[2]}={value}" for key, value in item.point.items())
        name = " ".join(part for part in (item.way, tried) if part) or results.method
        grouped.setdefault(name, {})[results.task] = item, results
    return [Column(name, found) for name, found in grouped.items()]


def text(study: Study) -> str:
    """The table of scores for a terminal."""
    found = columns(study)
    rows = [["task", *(column.name for column in found)], *_scores(found)]
    widths = [max(len(str(row[at])) for row in rows) for at in range(len(rows[0]))]
    lines = [
        "  ".join(str(c).ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([study.name, *lines])


def markdown(study: Study) -> str:
    """All tables as Markdown."""
    found = columns(study)
    names = [column.name for column in found]
    sections = [
        f"# {study.name}",
        _said(study, found),
        table(["task", *names], _scores(found)),
        "## Cost\n\n"
        + table(["way", "parameters", "of the base", "on disk", "training"], _costs(found)),
    ]
    if differences := list(_differences(study)):
        header = ["task", "way", f"against {names[0]}", "95 % of resamples", "p"]
        note = (
            "Mean difference of the scores of single predictions (for labels: whether they are right), in points, "
            "by a paired bootstrap over examples and seeds. With fewer than three seeds p is about these seeds alone."
        )
        sections.append(f"## Differences\n\n{note}\n\n" + table(header, differences))
    return "\n\n".join(sections) + "\n"


def write(study: Study) -> None:
    """Write `report.md` into the study's folder."""
    (Path(study.folder) / REPORT_FILE).write_text(markdown(study), encoding="utf-8")


def compared(study: Study) -> list[tuple[str, str, Difference]]:
    """Task, way and its difference to the first way, where both have scored the same examples."""
    found = columns(study)
    pairs = []
    for column in found[1:]:
        for task, (item, results) in column.found.items():
            if task not in found[0].found or not _same_examples(results, found[0].found[task][1]):
                continue
            first = _read(*found[0].found[task])
            own = _read(item, results)
            if first is not None and own is not None and first.shape[1] == own.shape[1]:
                pairs.append((task, column.name, difference(own, first)))
    return pairs


def told(study: Study) -> Iterator[str]:
    """The differences to the first way, in words."""
    for task, name, found in compared(study):
        likely = "more than chance" if found.p < SURE else "may be chance"
        if found.p < SURE and found.seeds < ENOUGH_SEEDS:
            likely += (
                f" for these seeds, of which there are too few ({found.seeds}) to tell of others"
            )
        yield (
            f"{task}: {name} {_PERCENT * found.mean:+.1f} points "
            f"({_PERCENT * found.low:+.1f} to {_PERCENT * found.high:+.1f}), p {found.p:.3f}: {likely}"
        )


def score(results: Results) -> str:
    """The deciding metric in points, as `81.2 ± 0.4`; as it is where it is no share."""
    mean, std = results.mean[results.metric], results.std[results.metric]
    if results.metric in UNBOUNDED:
        return f"{mean:.4g}" if std is None else f"{mean:.4g} ± {std:.2g}"
    said = f"{_PERCENT * mean:.1f}"
    return said if std is None else f"{said} ± {_PERCENT * std:.1f}"


def _same_examples(first: Results, second: Results) -> bool:
    return (first.data_digest, first.split) == (second.data_digest, second.split)


def _said(study: Study, found: Sequence[Column]) -> str:
    every = [results for column in found for _, results in column.found.values()]
    if not every:
        return "No run is finished yet."
    seeds = sorted({len(results.seeds) for results in every})
    count = " to ".join(str(number) for number in dict.fromkeys((seeds[0], seeds[-1])))
    metrics = {results.task: f"{results.metric} on {results.split}" for results in every}
    open_runs = len(study.items) - len(
        {item.folder for column in found for item, _ in column.found.values()}
    )
    lines = [
        f"Points (100 = perfect), mean ± standard deviation over {count} seeds, on the base `{every[0].base}`.",
        "; ".join(f"{task}: {metric}" for task, metric in metrics.items()) + ".",
    ]
    if open_runs:
        lines.append(f"{open_runs} of {len(study.items)} runs are not finished.")
    return "\n".join(lines)


def _scores(found: Sequence[Column]) -> list[list[str]]:
    tasks = list(dict.fromkeys(task for column in found for task in column.found))
    rows = [
        [task, *(score(c.found[task][1]) if task in c.found else _NONE for c in found)]
        for task in tasks
    ]
    whole = [column for column in found if set(column.found) == set(tasks)]
    metrics = {own.metric for column in found for _, own in column.found.values()}
    if len(tasks) > 1 and whole and not metrics & UNBOUNDED:
        means = []
        for column in found:
            if column not in whole:
                means.append(_NONE)
                continue
            values = [own.mean[own.metric] for _, own in column.found.values()]
            means.append(f"{_PERCENT * sum(values) / len(values):.1f}")
        rows.append(["mean", *means])
    return rows


def _costs(found: Sequence[Column]) -> Iterator[list[str]]:
    for column in found:
        every = [results for _, results in column.found.values()]
        trained = [results.parameters_trained for results in every]
        share = max(results.share_of_base for results in every)
        size = max(results.extra.file_bytes for results in every)
        seconds = sum(results.seconds / len(results.seeds) for results in every)
        yield [
            column.name,
            f"{max(trained):,}",
            f"{share:.2%}",
            f"{size / 1e6:.1f} MB",
            f"{spoken(seconds)} a seed",
        ]


def _differences(study: Study) -> Iterator[list[str]]:
    for task, name, found in compared(study):
        is_sure = found.p < SURE and found.seeds >= ENOUGH_SEEDS
        sure = f"**{found.p:.3f}**" if is_sure else f"{found.p:.3f}"
        between = f"{_PERCENT * found.low:+.1f} to {_PERCENT * found.high:+.1f}"
        yield [task, name, f"{_PERCENT * found.mean:+.1f}", between, sure]


def _read(item: Item, results: Results) -> Array | None:
    folder = Path(item.folder)
    for place in (folder / runfolder.TASKS / results.task, folder):
        if (place / runfolder.SCORES_FILE).is_file():
            found: Array = np.load(place / runfolder.SCORES_FILE, allow_pickle=False)
            return found
    return None
