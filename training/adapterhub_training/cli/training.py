"""Commands that train, or say what training would be."""

# ruff: noqa: PLC0415  `--help` must be quick: commands import when they run
import math
import signal
import time
from collections.abc import Callable
from pathlib import Path

import click
import msgspec

from adapterhub_training import experiment
from adapterhub_training.cli.options import FILE, FOLDER, JSON, QUIET, SET


@click.command()
@FILE
@SET
@click.option("--output", type=FOLDER, help="the run's folder")
@click.option("--overwrite", is_flag=True, help="replace the run that is in the folder")
@click.option("--minutes", type=float, help="stop then; the same command goes on from there")
@click.option("--ray", metavar="ADDRESS", help="do a study's runs on the machines of a Ray cluster")
@QUIET
@JSON
def run(  # noqa: PLR0913  one parameter for each option
    file: Path,
    overrides: tuple[str, ...],
    output: Path | None,
    minutes: float | None,
    ray: str | None,
    *,
    overwrite: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Train what FILE describes, and write the run's folder.

    A FILE with ways to compare, settings to try or several tasks is a study of several runs. An unfinished run goes
    on where it was stopped. Results go to stdout, progress to stderr.
    """
    tables = experiment.tables(file, _with_output(overrides, output))
    from adapterhub_training import progress, report, study, world
    from adapterhub_training import run as runs
    from adapterhub_training import tables as drawn
    from adapterhub_training.workshop import Workshop

    stop = _stopper(minutes)
    with world.joined() as processes:
        around = runs.Around(progress.display(quiet=quiet), Workshop(), processes, stop)
        if study.is_study(tables):
            several = study.read(tables, str(file))
            if ray is not None:
                from adapterhub_training import cluster

                cluster.run(several, ray, around.display, overwrite=overwrite)
            else:
                study.run(several, around, overwrite=overwrite)
            if processes.is_first:
                drawn.write(several)
                found = study.results(several)
                click.echo(
                    msgspec.json.encode([own for _, own in found])
                    if as_json
                    else drawn.text(several)
                )
                click.echo(f"study folder: {several.folder}", err=True)
            return
        wanted = experiment.decode(tables, str(file))
        results = runs.run(wanted, around.display, overwrite=overwrite, around=around)
    if not results:  # another process of the same run tells
        return
    if as_json:
        click.echo(msgspec.json.encode(results if len(results) > 1 else results[0]))
        return
    click.echo("\n\n".join(map(report.summary, results)))
    click.echo(f"run folder: {wanted.output.folder}", err=True)


@click.command()
@FILE
@SET
@JSON
def plan(file: Path, overrides: tuple[str, ...], *, as_json: bool) -> None:
    """Say what a run of FILE will cost, and what will be chosen to be quick; train nothing.

    Of a study, each of its runs.
    """
    tables = experiment.tables(file, overrides)
    from adapterhub_training import plan as plans
    from adapterhub_training import study
    from adapterhub_training.workshop import Workshop

    wanted, shop = (
        [experiment.decode(tables, str(file))] if not study.is_study(tables) else [],
        Workshop(),
    )
    if not wanted:
        several = study.read(tables, str(file))
        alone = [item for item in several.items if not item.after]
        wanted = [study.experiment_of(item, several) for item in alone]
    total = 0.0
    for each in wanted:
        found = plans.plan(each, shop)
        total += found.seconds
        click.echo(msgspec.json.encode(found) if as_json else plans.text(found))
    if len(wanted) > 1 and not as_json:
        click.echo(f"together {plans.spoken(total)} at most")


@click.command()
@FILE
@SET
@click.option("--steps", default=100, show_default=True, type=click.IntRange(min=20))
@QUIET
@JSON
def probe(
    file: Path, overrides: tuple[str, ...], steps: int, *, quiet: bool, as_json: bool
) -> None:
    """Find a learning rate for FILE by trying: raise it from step to step until the loss breaks away."""
    wanted = experiment.read(file, overrides)
    from adapterhub_training import probe as probes
    from adapterhub_training import progress

    found = probes.probe(wanted, progress.display(quiet=quiet), steps=steps)
    if as_json:
        click.echo(msgspec.json.encode(found))
        return
    for tried in found.tried[:: max(1, len(found.tried) // 20)]:
        click.echo(f"  {tried.learning_rate:.1e}  loss {tried.smooth:.4f}")
    click.echo(f"--set training.learning_rate={found.suggested:g}")


def _with_output(overrides: tuple[str, ...], output: Path | None) -> tuple[str, ...]:
    if output is None:
        return overrides
    place = msgspec.json.encode(str(output.absolute())).decode()
    return (*overrides, f"output.folder={place}")


def _stopper(minutes: float | None) -> Callable[[], bool]:
    """Whether to stop: the time is up, or the process was asked to end."""
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: asked.append(number))
    until = math.inf if minutes is None else time.monotonic() + 60 * minutes
    return lambda: bool(asked) or time.monotonic() > until
