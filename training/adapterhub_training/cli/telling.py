"""Commands that tell about runs, and about adapters for new data."""

# ruff: noqa: PLC0415  `--help` must be quick: commands import when they run
from pathlib import Path

import click
import msgspec

from adapterhub_training.cli.options import FOLDER, JSON, QUIET


@click.command()
@click.argument("folders", metavar="RUN...", nargs=-1, required=True, type=FOLDER)
@JSON
def compare(folders: tuple[Path, ...], *, as_json: bool) -> None:
    """Put runs side by side, and say which differences to the first are more than chance."""
    from adapterhub_training import study, tables

    several = study.of_runs([folder.absolute() for folder in folders])
    if as_json:
        click.echo(msgspec.json.encode([found for _, found in study.results(several)]))
        return
    click.echo(tables.text(several))
    for line in tables.told(several):
        click.echo(line)


@click.command()
@click.argument("folders", metavar="RUN...", nargs=-1, required=True, type=FOLDER)
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="the page")
def report(folders: tuple[Path, ...], output: Path | None) -> None:
    """Make one HTML page of runs, or of a study: tables, curves, confusion, calibration, attention, differences."""
    from adapterhub_training import page

    place = page.write([folder.absolute() for folder in folders], output)
    click.echo(str(place))


@click.command()
@click.argument("data", metavar="DATA")
@click.argument("places", metavar="[ADAPTER]...", nargs=-1)
@click.option("--base", required=True, help="a folder, `package:NAME`, or a name on a hub")
@click.option("--url", help="the hub; as for `adapterhub-client` otherwise")
@click.option("--most", default=50, show_default=True, type=click.IntRange(min=1))
@click.option("--max-length", default=128, show_default=True, type=click.IntRange(min=8))
@QUIET
@JSON
def recommend(  # noqa: PLR0913, PLR0917  one parameter for each option
    data: str,
    places: tuple[str, ...],
    base: str,
    url: str | None,
    most: int,
    max_length: int,
    *,
    quiet: bool,
    as_json: bool,
) -> None:
    """Rank adapters as sources for the data in DATA: those named, or those of the hub that fit the base.

    Adapters are pulled and compared here, by vectors and weights; no text leaves the machine.
    """
    from adapterhub_client import Hub
    from adapterhub_training import progress
    from adapterhub_training.recommending import recommend as ranking
    from adapterhub_training.workshop import Workshop

    display = progress.display(quiet=quiet)
    folder = Path(data)
    experiment = ranking.asked(
        str(folder.absolute()) if folder.exists() else data, base, max_length
    )
    with Hub(url) as hub:
        model = Workshop().base(experiment)
        found = ranking.candidates(model, places, hub, most, display)
        rows = ranking.recommend(experiment, found, display)
    if as_json:
        click.echo(msgspec.json.encode(rows))
        return
    click.echo(ranking.text(rows))
