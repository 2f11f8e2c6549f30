"""The command `adapterhub-train`: run, evaluate, predict.

torch is imported inside the commands only, so that `--help` and a refused experiment answer at once.
"""

# ruff: noqa: PLC0415  `--help` must be quick: commands import when they run
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from adapterhub_client.cli import Group
from adapterhub_training import data, experiment
from adapterhub_training.errors import BadExperiment

if TYPE_CHECKING:
    from adapterhub_training.saved import Model, Prediction

FOLDER = click.Path(path_type=Path, file_okay=False)
PREDICT_AT_ONCE = 256


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="adapterhub", prog_name="adapterhub-train")
def main() -> None:
    """Train adapters, fusions and heads on a frozen base model.

    An experiment is one TOML file; a run is a folder with its results, its weights and a report.
    """


@main.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="TABLE.KEY=VALUE",
    help="win over the file; repeatable",
)
@click.option("--output", type=FOLDER, help="the run's folder")
@click.option("--overwrite", is_flag=True, help="replace the run that is in the folder")
@click.option("--quiet", is_flag=True, help="no progress")
@click.option("--json", "as_json", is_flag=True, help="results as JSON")
def run(  # noqa: PLR0913  one parameter for each option
    file: Path,
    overrides: tuple[str, ...],
    output: Path | None,
    *,
    overwrite: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Train what FILE describes, and write the run's folder.

    Results go to stdout, progress to stderr.
    """
    if output is not None:
        overrides = (
            *overrides,
            f"output.folder={msgspec.json.encode(str(output.absolute())).decode()}",
        )
    wanted = experiment.read(file, overrides)
    from adapterhub_training import progress, report
    from adapterhub_training import run as runs

    results = runs.run(wanted, progress.display(quiet=quiet), overwrite=overwrite)
    if as_json:
        click.echo(msgspec.json.encode(results))
        return
    click.echo(report.summary(results))
    click.echo(f"run folder: {wanted.output.folder}", err=True)


@main.command()
@click.argument("folder", metavar="RUN", type=FOLDER)
@click.option("--data", type=FOLDER, help="another data folder than the run's own")
@click.option("--split", default=None, help="test where there is one, otherwise validation")
@click.option("--json", "as_json", is_flag=True, help="results as JSON")
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
    click.echo(f"  accuracy  {reached.accuracy:.4f}\n  macro_f1  {reached.macro_f1:.4f}\n")
    click.echo(report.confusion(reached, model.results.labels))


@main.command()
@click.argument("folder", metavar="RUN", type=FOLDER)
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
    lines = _from_stdin() if text is None else iter([(text, text_b)])
    for predictions in _predicted(model, lines):
        for prediction in predictions:
            click.echo(msgspec.json.encode(prediction))


def _predicted(
    model: "Model", lines: Iterator[tuple[str, str | None]]
) -> Iterator[list["Prediction"]]:
    while chunk := [line for _, line in zip(range(PREDICT_AT_ONCE), lines, strict=False)]:
        yield model.predict(chunk)


def _from_stdin() -> Iterator[tuple[str, str | None]]:
    for number, line in enumerate(sys.stdin, start=1):
        if line.strip():
            yield data.texts(line.strip(), number)


if __name__ == "__main__":
    main()
