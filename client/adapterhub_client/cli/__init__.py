"""The command `adapterhub-client`: the group, and how errors leave it."""

from collections.abc import Sequence
from typing import Any

import click

from adapterhub_client.cli import cache, catalogue, lifecycle, session, transfers
from adapterhub_client.errors import HubError


class Group(click.Group):
    """A group that turns every `HubError` into one line, a hint and an exit code. Never a traceback."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **options: Any) -> Any:  # noqa: ANN401
        """Run the command."""
        try:
            return super().main(args, *rest, **options)
        except HubError as error:
            report(error)
            raise SystemExit(error.exit_code) from None
        except OSError as error:  # a full disk, a folder that may not be written
            click.echo(
                f"error: {error.strerror or error}: {error.filename or ''}".rstrip(": "), err=True
            )
            raise SystemExit(74) from None


def report(error: HubError) -> None:
    """Write an error and its hint to stderr."""
    click.echo(f"error: {error}", err=True)
    if error.hint:
        click.echo(f"\nhint: {error.hint}", err=True)
    if error.request_id:
        click.echo(f"\nrequest: {error.request_id}", err=True)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="adapterhub", prog_name="adapterhub-client")
def main() -> None:
    """Find, pull and push transformer adapters.

    A reference is TASK/NAME@ORG, with :NUMBER, :ALIAS or :sha256:DIGEST for one version of it, as in
    nli/multinli@ukp:3.
    """


for command in (
    session.login,
    session.whoami,
    session.config,
    catalogue.search,
    catalogue.show,
    catalogue.resolve,
    transfers.pull,
    transfers.push,
    transfers.verify,
    transfers.fingerprint,
    lifecycle.yank,
    lifecycle.deprecate,
    lifecycle.alias,
    cache.cache,
):
    main.add_command(command)
