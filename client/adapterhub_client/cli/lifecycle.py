"""Change what is out: yank, deprecate, aliases."""

from typing import TYPE_CHECKING

import click

from adapterhub_client.cli import output

if TYPE_CHECKING:
    from adapterhub_client.wire import Alias, ChangedVersion


@click.command()
@click.argument("reference")
@click.option("--reason", help="what those who pin it should know")
@click.option("--undo", is_flag=True, help="offer it again")
@output.connected
@output.json_option
def yank(  # noqa: PLR0913 - one option each
    reference: str,
    *,
    reason: str | None,
    undo: bool,
    url: str | None,
    token: str | None,
    as_json: bool,
) -> None:
    """Withdraw the version that REFERENCE pins: exact pins still find it, and are warned."""
    _require_one(reason, undo=undo)
    with output.hub(url, token) as hub:
        changed = hub.restore(reference) if reason is None else hub.yank(reference, reason)
    _told(changed, as_json=as_json)


@click.command()
@click.argument("reference")
@click.option("--reason", help="what those who use it should do instead")
@click.option("--undo", is_flag=True, help="recommend it again")
@output.connected
@output.json_option
def deprecate(  # noqa: PLR0913 - one option each
    reference: str,
    *,
    reason: str | None,
    undo: bool,
    url: str | None,
    token: str | None,
    as_json: bool,
) -> None:
    """Advise against the version that REFERENCE pins; it still answers, with a warning."""
    _require_one(reason, undo=undo)
    with output.hub(url, token) as hub:
        changed = hub.restore(reference) if reason is None else hub.deprecate(reference, reason)
    _told(changed, as_json=as_json)


@click.command()
@click.argument("reference")
@click.argument("name", required=False)
@click.option("--remove", is_flag=True, help="take the alias away")
@output.connected
@output.json_option
def alias(  # noqa: PLR0913 - one option each
    reference: str,
    name: str | None,
    *,
    remove: bool,
    url: str | None,
    token: str | None,
    as_json: bool,
) -> None:
    """Let NAME, such as stable, point at the version that REFERENCE pins; without NAME, list the aliases."""
    if remove and name is None:
        raise click.UsageError("`--remove` needs the alias's name.")
    with output.hub(url, token) as hub:
        if remove and name is not None:
            hub.remove_alias(reference, name)
        elif name is not None:
            hub.set_alias(reference, name)
        listed = hub.aliases(reference)
    output.data(listed, as_json=as_json, text=lambda: _aliases(listed))


def _require_one(reason: str | None, *, undo: bool) -> None:
    if undo == (reason is not None):
        raise click.UsageError("Give `--reason TEXT`, or `--undo`.")


def _told(changed: "ChangedVersion", *, as_json: bool) -> None:
    output.data(
        changed, as_json=as_json, text=f"{changed.reference}:{changed.number} {changed.status}"
    )
    if changed.dependants and changed.status != "active":
        named = ", ".join(f"{each.reference}:{each.number}" for each in changed.dependants)
        output.note(f"warning: {len(changed.dependants)} versions depend on it: {named}")


def _aliases(listed: "list[Alias]") -> None:
    rows = [
        [each.name, str(each.number), each.digest[:19], each.updated_at[:10]] for each in listed
    ]
    output.table(["alias", "version", "digest", "set"], rows)
