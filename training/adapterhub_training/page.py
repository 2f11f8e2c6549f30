"""Runs and studies as one HTML page that needs nothing beside it: the figures of the catalogue, drawn from results."""

import math
from collections.abc import Sequence
from pathlib import Path

import msgspec
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from adapterhub_client.charts import LOOK, TEMPLATES, bars, curves, dots, reported, text
from adapterhub_training import measured, tables
from adapterhub_training import study as studies
from adapterhub_training.plan import spoken
from adapterhub_training.results import Results
from adapterhub_training.significance import Difference
from adapterhub_training.study import Study

PAGE_FILE = "report.html"
SEVERAL_FILE = "compared.html"
OWN_TEMPLATES = Path(__file__).with_name("templates")


class Row(msgspec.Struct, frozen=True):
    """What a way reached on a task, and what that took."""

    way: str
    at: str
    """where on the page its run is shown"""
    results: Results
    plot: Markup
    difference: Difference | None
    """to the first way"""


class Board(msgspec.Struct, frozen=True):
    """A task with every way that learned it."""

    task: str
    metric: str
    split: str
    first: str
    axis: Markup
    rows: list[Row]
    bought: Markup | None
    """parameters against score"""
    span: tuple[int, int]
    """the least and the most trained parameters"""


class Shown(msgspec.Struct, frozen=True):
    """A run in full."""

    at: str
    name: str
    results: Results
    drawn: reported.Charts


def write(folders: Sequence[Path], output: Path | None = None) -> Path:
    """Make a page of a run or of a study in its folder, or of several runs in the working directory; say where it is.

    The tables of several runs are beside it as Markdown; a run alone has its `report.md` already.

    Raises:
        NotARun: A folder has no finished run.
    """
    only = folders[0]
    is_study = len(folders) == 1 and (only / studies.STUDY_FILE).is_file()
    study = studies.load(only) if is_study else studies.of_runs(folders)
    place = output or (only / PAGE_FILE if len(folders) == 1 else Path(SEVERAL_FILE))
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(html(study), encoding="utf-8")
    if len(study.items) > 1:
        place.with_suffix(".md").write_text(tables.markdown(study), encoding="utf-8")
    return place


def html(study: Study) -> str:
    """The page of a study, as far as its runs are finished."""
    environment = Environment(
        loader=FileSystemLoader([OWN_TEMPLATES, TEMPLATES]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(text.FILTERS, spoken=spoken)
    environment.globals.update(share=bars.share)
    columns = tables.columns(study)
    runs = [
        Shown(_at(column.name, task), column.name, own, reported.charts(measured.report(own)))
        for column in columns
        for task, (_, own) in column.found.items()
    ]
    return environment.get_template("report.html").render(
        study=study,
        boards=_boards(columns, tables.compared(study)),
        runs=runs,
        title=_named(runs[0].results) if len(runs) == 1 else study.name,
        open_runs=len(study.items) - len({item.folder for item, _ in studies.results(study)}),
        style=Markup(LOOK.read_text(encoding="utf-8")),  # noqa: S704  our own stylesheet
    )


def _boards(
    columns: Sequence[tables.Column], differences: Sequence[tuple[str, str, Difference]]
) -> list[Board]:
    known = {(task, way): found for task, way, found in differences}
    boards = []
    for task in dict.fromkeys(task for column in columns for task in column.found):
        found = [(column.name, column.found[task][1]) for column in columns if task in column.found]
        drawn = [dots.Dot(own.mean[own.metric], own.std[own.metric]) for _, own in found]
        spanned = dots.scale(drawn)
        sign = 1 if found[0][1].higher_is_better else -1
        best = max(sign * dot.value for dot in drawn)
        rows = [
            Row(
                way=way,
                at=_at(way, task),
                results=own,
                plot=dots.dot_plot(dot, spanned, is_other=sign * dot.value < best),
                difference=known.get((task, way)),
            )
            for (way, own), dot in zip(found, drawn, strict=True)
        ]
        one = found[0][1]
        counts = [own.parameters_trained for _, own in found]
        boards.append(
            Board(
                task=task,
                metric=one.metric,
                split=one.split,
                first=found[0][0],
                axis=dots.axis(spanned),
                rows=rows,
                bought=_bought(found),
                span=(min(counts), max(counts)),
            )
        )
    return boards


def _bought(found: Sequence[tuple[str, Results]]) -> Markup | None:
    """What trained parameters buy, where several sizes were tried: the logarithm of their number against the score."""
    points = sorted(
        (math.log10(own.parameters_trained), own.mean[own.metric])
        for _, own in found
        if own.parameters_trained
    )
    if len({x for x, _ in points}) < 4:  # noqa: PLR2004  fewer are no curve
        return None
    ends = (f"{10 ** points[0][0]:,.0f} parameters", f"{10 ** points[-1][0]:,.0f}")
    said = f"{found[0][1].metric} by trained parameters"
    return curves.chart([curves.Line(points, "points")], said, ends)


def _named(results: Results) -> str:
    return f"{results.task}: {results.method}"


def _at(way: str, task: str) -> str:
    """An anchor: letters and digits, others as their number."""
    return "".join(c if c.isascii() and c.isalnum() else f"-{ord(c):x}-" for c in f"{way}-{task}")
