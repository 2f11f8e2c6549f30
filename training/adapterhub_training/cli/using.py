"""Commands that use what a run has made."""

# ruff: noqa: PLC0415  `--help` must be quick: commands import when they run
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from adapterhub_training.cli.options import FOLDER, JSON, RUN
from adapterhub_training.errors import BadExperiment

if TYPE_CHECKING:
    from adapterhub_training.kinds import Prediction, Row
    from adapterhub_training.saved import Model

PREDICT_AT_ONCE = 256


@click.command()
@RUN
@click.option("--data", type=FOLDER, help="another data folder than the run's own")
@click.option("--split", default=None, help="test where there is one, otherwise validation")
@JSON
def evaluate(folder: Path, data: Path | None, split: str | None, *, as_json: bool) -> None:
    """Score the best weights of a run."""
    from adapterhub_training import report, saved

    model = saved.load(folder)
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: click.echo(f"warning: {message}", err=True)
        warnings.simplefilter("always", UserWarning)
        reached, split = model.evaluate(data, split)
    if as_json:
        click.echo(msgspec.json.encode(reached))
        return
    click.echo(f"{model.results.task} on {split}: {reached.examples} examples")
    width = max(map(len, reached.values))
    for name, value in reached.values.items():
        click.echo(f"  {name:<{width}}  {value:.4f}")
    if reached.confusion:
        labels = model.results.labels or model.results.scale
        click.echo("\n" + report.confusion(reached, labels))


@click.command()
@RUN
@click.option("--text", help="a sentence, or the first of a pair")
@click.option("--text-b", help="the second of a pair")
def predict(folder: Path, text: str | None, text_b: str | None) -> None:
    """Predict with the best weights of a run: one JSON object a line, with a probability for each label.

    Without --text it reads lines from stdin: plain text, or JSON objects as in the data, labels ignored.
    """
    if text is None and text_b is not None:
        raise BadExperiment("`--text-b` needs `--text`.")
    from adapterhub_training import saved

    model = saved.load(folder)
    lines = _from_stdin(model) if text is None else iter([_given(text, text_b)])
    for predictions in _predicted(model, lines):
        for prediction in predictions:
            click.echo(msgspec.json.encode(prediction))


@click.command()
@RUN
@click.option(
    "--keep", type=int, help="how many members stay; without it, what each number reaches"
)
@click.option("--output", type=FOLDER, help="the new run's folder; `RUN-M` otherwise")
@JSON
def prune(folder: Path, keep: int | None, output: Path | None, *, as_json: bool) -> None:
    """Leave the least attended members of a run's fusion out.

    Without --keep it only shows what fewer members reach, and in which time.
    """
    from adapterhub_training import pruned, report, saved
    from adapterhub_training.progress import Quiet
    from adapterhub_training.run import Around
    from adapterhub_training.workshop import Workshop

    model, around = saved.load(folder), Around(Quiet(), Workshop())
    if keep is None:
        found = pruned.table(model, around)
        click.echo(msgspec.json.encode(found.extra.pruning) if as_json else report.pruning(found))
        return
    place = output or folder.with_name(f"{folder.name}-{keep}")
    found = pruned.prune(model, keep, place, around)
    click.echo(msgspec.json.encode(found) if as_json else report.summary(found))
    click.echo(f"run folder: {place}", err=True)


@click.command("export-onnx")
@RUN
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
@JSON
def export_onnx(folder: Path, file: Path | None, *, as_json: bool) -> None:
    """Write a run's model, composition and head as one ONNX FILE (`RUN.onnx` otherwise), for any batch and length.

    What onnxruntime computes from it is compared with torch first; a file that differs is not kept.
    """
    from adapterhub_training import onnxfile, saved

    found = onnxfile.export(saved.load(folder), file or folder.with_suffix(".onnx"))
    if as_json:
        click.echo(msgspec.json.encode(found))
        return
    click.echo(f"{found.path}: {found.bytes / 1e6:.1f} MB")
    click.echo(f"  inputs   {', '.join(found.inputs)}")
    click.echo(f"  outputs  {', '.join(found.outputs)}")
    shapes = ", ".join("x".join(map(str, shape)) for shape in found.tried)
    click.echo(
        f"  differs  by {found.largest_difference:.1g} at most from torch, tried with {shapes}"
    )


def _given(text: str, text_b: str | None) -> "Row":
    from adapterhub_training.kinds import Row

    return Row(text=text) if text_b is None else Row(text_a=text, text_b=text_b)


def _predicted(model: "Model", lines: Iterator["Row"]) -> Iterator[list["Prediction"]]:
    while chunk := [line for _, line in zip(range(PREDICT_AT_ONCE), lines, strict=False)]:
        yield model.predict(chunk)


def _from_stdin(model: "Model") -> Iterator["Row"]:
    from adapterhub_training import data

    for number, line in enumerate(sys.stdin, start=1):
        if line.strip():
            yield data.row(line.strip(), number, model.kind)
