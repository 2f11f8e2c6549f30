"""What was pulled: list, prune, verify."""

from typing import TYPE_CHECKING

import click

from adapterhub_client.cli import output
from adapterhub_client.errors import Corrupt

if TYPE_CHECKING:
    from adapterhub_client.cache import Cache


@click.group()
def cache() -> None:
    """Look after the local cache."""


@cache.command("list")
@output.json_option
def list_entries(*, as_json: bool) -> None:
    """List the cached versions, the most recently used first."""
    entries = _cache().entries()
    rows = [
        [entry.reference, entry.digest[:19], output.size(entry.size_bytes), entry.path]
        for entry in entries
    ]
    output.data(
        entries,
        as_json=as_json,
        text=lambda: output.table(["adapter", "digest", "size", "folder"], rows),
    )


@cache.command()
@click.option("--days", default=30.0, show_default=True, help="not used for so many days")
@click.option("--all", "everything", is_flag=True, help="every version")
@click.option("--yes", is_flag=True, help="do not ask")
@output.json_option
def prune(days: float, *, everything: bool, yes: bool, as_json: bool) -> None:
    """Remove versions that were not used lately."""
    import time

    age = 0.0 if everything else days * 86400
    question = (
        "Remove every cached version?"
        if everything
        else f"Remove what was not used for {days:g} days?"
    )
    if not yes:
        click.confirm(question, abort=True, err=True)
    gone, freed = _cache().prune(older_than_seconds=age, now=time.time())
    removed = {"versions": gone, "freed_bytes": freed}
    output.data(
        removed, as_json=as_json, text=f"Removed {len(gone)} versions, {output.size(freed)}"
    )


@cache.command()
def verify() -> None:
    """Hash every cached blob; damaged ones are removed, and the versions that need them."""
    lost = _cache().damaged()
    if lost:
        raise Corrupt(
            f"{len(lost)} cached versions were damaged and are removed: {', '.join(lost)}.",
            hint="pull again",
        )
    click.echo("Every cached file is what its name says")


def _cache() -> "Cache":
    from adapterhub_client import settings
    from adapterhub_client.cache import Cache

    return Cache(settings.load().cache)
