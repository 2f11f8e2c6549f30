"""What commands print: data to stdout, everything else to stderr. The only module that knows rich."""

import json
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from adapterhub_client.hub import Hub

Command = TypeVar("Command", bound=Callable[..., Any])


def connected(command: Command) -> Command:
    """Add the options that say which hub, and as whom."""
    command = click.option("--url", metavar="URL", help="the hub's address  [env: ADAPTERHUB_URL]")(
        command
    )
    return click.option("--token", metavar="TOKEN", help="who asks  [env: ADAPTERHUB_TOKEN]")(
        command
    )


def json_option(command: Command) -> Command:
    """Add `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="print JSON")(command)


@contextmanager
def hub(url: str | None, token: str | None, *, quiet: bool = True) -> Iterator["Hub"]:
    """A hub for one command; transfers show a progress bar on a terminal unless ``quiet``."""
    import stamina.instrumentation

    from adapterhub_client.hub import Hub

    stamina.instrumentation.set_on_retry_hooks(
        []
    )  # a command says one thing in the end, not each attempt
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: click.echo(f"warning: {message}", err=True)
        warnings.simplefilter("always", UserWarning)
        if quiet or not sys.stderr.isatty():
            with Hub(url, token) as opened:
                yield opened
            return
        with _bar() as progress, Hub(url, token, progress=progress) as opened:
            yield opened


def data(value: Any, *, as_json: bool, text: str | Callable[[], None]) -> None:  # noqa: ANN401
    """Print the value as JSON, or its text (or what a function prints)."""
    if as_json:
        import msgspec

        click.echo(json.dumps(msgspec.to_builtins(value), indent=2, ensure_ascii=False))
    elif callable(text):
        text()
    else:
        click.echo(text)


def note(text: str) -> None:
    """Say something beside the data."""
    click.echo(text, err=True)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under their columns: aligned on a terminal, separated by tabs for other programs."""
    rows = [[plain(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for row in rows:
            click.echo("\t".join(row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        drawn.add_column(column, overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(cell) for cell in row))
    Console().print(drawn)


def plain(text: str) -> str:
    """Other people's words on one line, without what a terminal would obey."""
    return "".join(sign if sign.isprintable() else " " for sign in text)


def size(size_bytes: float) -> str:
    """A number of bytes for people: `3.4 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 1000 or unit == "GB":  # noqa: PLR2004
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    raise AssertionError  # pragma: no cover


@contextmanager
def _bar() -> Iterator[Callable[[str, int, int], None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        tasks: dict[str, Any] = {}

        def moved(name: str, count: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(plain(name), total=total)
            progress.advance(tasks[name], count)

        yield moved
